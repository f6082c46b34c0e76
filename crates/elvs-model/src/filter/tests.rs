//! What passes, and what is no filter.

use super::*;

fn connection(client: &str, real_server: &str, state: ConnectionState) -> ConnectionView {
    ConnectionView {
        protocol: 6,
        expires_s: 1,
        state,
        client: client.parse().unwrap(),
        service: "192.0.2.1:80".parse().unwrap(),
        destination: real_server.parse().unwrap(),
        engine: None,
    }
}

fn filter(pairs: &[(&str, &str)]) -> ConnectionFilter {
    let mut filter = ConnectionFilter::default();
    for (name, value) in pairs {
        filter.add(name, value).unwrap();
    }
    filter
}

#[test]
fn one_value_of_each_kind_must_fit() {
    let v4 = connection("203.0.113.5:4000", "10.0.0.11:80", ConnectionState::Established);
    let v6 = connection("[2001:db8::5]:4000", "[2001:db8:1::1]:80", ConnectionState::SynRecv);
    type Case<'a> = (&'a [(&'a str, &'a str)], bool, bool);
    let cases: &[Case<'_>] = &[
        (&[], true, true),
        (&[("client", "203.0.113.0/24")], true, false),
        (&[("client", "203.0.113.5")], true, false),
        (&[("client", "203.0.113.6")], false, false),
        (&[("client", "203.0.113.77/24:4000")], true, false),
        (&[("client", "203.0.113.5:4001")], false, false),
        (&[("client", "0.0.0.0/0")], true, false),
        (&[("client", "2001:db8::/32")], false, true),
        (&[("client", "[2001:db8::/32]:4000")], false, true),
        (&[("client", "[2001:db8::5]")], false, true),
        (&[("client", "[2001:db8::5]:1")], false, false),
        (&[("client", "203.0.113.6"), ("client", "2001:db8::5")], false, true),
        (&[("real_server", "10.0.0.11:80"), ("real_server", "2001:db8:1::1")], true, true),
        (&[("real_server", "10.0.0.11:81")], false, false),
        (&[("state", "established"), ("state", "SYN_SENT")], true, false),
        (&[("state", "SYN_RECV"), ("client", "::/0")], false, true),
        (&[("state", "SYN_RECV"), ("client", "203.0.113.5")], false, false),
    ];
    for (pairs, passes_v4, passes_v6) in cases {
        let filter = filter(pairs);
        assert_eq!((filter.passes(&v4), filter.passes(&v6)), (*passes_v4, *passes_v6), "{pairs:?}");
    }
}

#[test]
fn pairs_lead_back_to_the_filter() {
    let filter = filter(&[
        ("client", "203.0.113.0/24:443"),
        ("client", "[2001:db8::/32]:443"),
        ("client", "2001:db8::1"),
        ("real_server", "10.0.0.11"),
        ("state", "time_wait"),
    ]);
    let mut again = ConnectionFilter::default();
    for (name, value) in filter.pairs() {
        again.add(name, &value).unwrap();
    }
    assert_eq!(again, filter);
}

#[test]
fn every_state_is_known_by_the_word_that_is_printed() {
    for state in ConnectionState::ALL {
        assert_eq!(state.name().parse(), Ok(state));
    }
}

#[test]
fn refuses_what_is_no_filter_and_says_what_is() {
    for text in [
        "",
        "10.0.0",
        "10.0.0.1/33",
        "10.0.0.1:",
        "10.0.0.1:65536",
        "[::1",
        "[::1]80",
        "www",
        ":80",
    ] {
        let error = ConnectionFilter::default().add("client", text).unwrap_err();
        assert_eq!(error, FilterError::Endpoint(text.to_owned()));
        assert!(error.to_string().contains("203.0.113.0/24"), "{error}");
    }
    let error = ConnectionFilter::default().add("state", "OPEN").unwrap_err();
    assert!(error.to_string().contains("NONE, ESTABLISHED, SYN_SENT"), "{error}");
    let error = ConnectionFilter::default().add("vip", "10.0.0.1").unwrap_err();
    assert_eq!(error, FilterError::Name("vip".to_owned()));
}

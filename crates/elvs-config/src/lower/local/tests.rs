use elvs_model::{DesiredService, ForwardingMethod};

use crate::{MapSource, Options, Outcome, read};

fn read_text(text: &str) -> Outcome {
    read(&MapSource::single("f", text), "f", &Options::default())
}

fn shown(outcome: &Outcome) -> Vec<String> {
    outcome.diagnostics.iter().map(ToString::to_string).collect()
}

/// A virtual server by a method, with further statements, after what stands before it.
fn with(before: &str, method: &str, statements: &str, server: &str) -> String {
    format!(
        "{before}virtual_server 192.0.2.1 80 {{\nlvs_sched rr\nlvs_method {method}\nprotocol TCP\n{statements}real_server {server} 8080 {{ }}\n}}\n"
    )
}

const GROUP: &str = "local_address_group g {\n10.0.0.200\n10.0.0.208-209\n}\n";
const NAMED: &str = "laddr_group_name g\n";

fn service(outcome: Outcome) -> DesiredService {
    outcome.desired.unwrap().services.remove(0)
}

#[test]
fn a_service_by_full_nat_has_the_addresses_of_its_group() {
    for method in ["FNAT", "FULLNAT"] {
        // The group may stand after the service.
        for text in
            [with(GROUP, method, NAMED, "10.0.0.21"), with("", method, NAMED, "10.0.0.21") + GROUP]
        {
            let outcome = read_text(&text);
            assert_eq!(shown(&outcome), Vec::<String>::new(), "{text}");
            let service = service(outcome);
            assert_eq!(service.destinations[0].method, ForwardingMethod::FullNat);
            assert_eq!(service.destinations[0].key.port, 8080, "ports are mapped");
            let locals: Vec<_> =
                service.local_addresses.iter().map(|address| address.to_string()).collect();
            assert_eq!(locals, ["10.0.0.200", "10.0.0.208", "10.0.0.209"]);
        }
    }
}

#[test]
fn mistakes_are_refused_where_they_stand() {
    let group = |lines: &str| format!("local_address_group g {{\n{lines}}}\n");
    let both = format!("{GROUP}{GROUP}");
    let few = format!("{GROUP}data_plane {{\nlocal_addresses 2\n}}\n");
    let vip = group("192.0.2.1\n");
    let twice = "laddr_group_name g\nreal_server 10.0.0.22 80 {\nlvs_method NAT\n}\n";
    let cases = [
        (with("", "FNAT", "", "10.0.0.21"), "f:1:1: error: FNAT needs local addresses"),
        (
            with(GROUP, "FNAT", "laddr_group_name h\n", "10.0.0.21"),
            "f:9:18: error: there is no local address group `h`",
        ),
        (
            with(&group(""), "FNAT", NAMED, "10.0.0.21"),
            "f:1:1: error: local address group `g` has no address",
        ),
        (
            with(&group("10.0.0.x\n"), "FNAT", NAMED, "10.0.0.21"),
            "f:2:1: error: `10.0.0.x` is not an address (A), a range (A-B) or a prefix (A/length)",
        ),
        (
            with(&group("10.0.0.9-8\n"), "FNAT", NAMED, "10.0.0.21"),
            "f:2:1: error: the range `10.0.0.9-8` ends before it begins",
        ),
        (
            with(&group("10.0.0.0/16\n"), "FNAT", NAMED, "10.0.0.21"),
            "f:2:1: error: `10.0.0.0/16` is 65534 addresses",
        ),
        (
            with(&group("224.0.0.9\n"), "FNAT", NAMED, "10.0.0.21"),
            "f:2:1: error: local address 224.0.0.9 is a multicast address",
        ),
        (
            with(&group("10.0.0.9 dpdk1\n"), "FNAT", NAMED, "10.0.0.21"),
            "f:2:10: error: `dpdk1` after a local address has no meaning",
        ),
        (
            with(&group("fd00::1\n"), "FNAT", NAMED, "10.0.0.21"),
            "f:8:18: error: local address fd00::1 is not of the virtual server's family",
        ),
        (
            with(&both, "FNAT", NAMED, "10.0.0.21"),
            "f:5:1: error: local address group `g` is defined twice",
        ),
        (
            with(&vip, "FNAT", NAMED, "10.0.0.21"),
            "f:8:18: error: local address 192.0.2.1 is the virtual address of TCP 192.0.2.1:80",
        ),
        (
            with(&few, "FNAT", NAMED, "10.0.0.21"),
            "f:6:1: error: room for 2 local addresses, and the configuration has 3",
        ),
        (
            with(GROUP, "FNAT", twice, "10.0.0.21"),
            "f:5:1: error: FNAT cannot be mixed with another method in one virtual server: 10.0.0.22 is by NAT",
        ),
        (
            with(GROUP, "FNAT type ipip", NAMED, "10.0.0.21"),
            "f:7:17: error: `type` belongs to TUN, not to FNAT",
        ),
        (
            "data_plane {\nlocal_addresses 4001\n}\n".to_owned(),
            "f:2:17: error: local_addresses 4001 exceeds 4000",
        ),
    ];
    for (text, expected) in cases {
        let outcome = read_text(&text);
        assert!(outcome.desired.is_none(), "{text}");
        let found = shown(&outcome);
        assert!(found.iter().any(|line| line.starts_with(expected)), "{expected}: {found:?}");
    }
}

#[test]
fn services_that_cannot_be_by_full_nat_are_refused() {
    let marked = format!(
        "{GROUP}mark 7 {{\n}}\nvirtual_server fwmark 7 {{\nlvs_sched rr\nlvs_method FNAT\n{NAMED}real_server 10.0.0.21 {{ }}\n}}\n"
    );
    let once = with(GROUP, "FNAT", &format!("{NAMED}ops\n"), "10.0.0.21")
        .replace("protocol TCP", "protocol UDP");
    for (text, what) in
        [(marked, "services by firewall mark"), (once, "one-packet scheduling (`ops`)")]
    {
        let outcome = read_text(&text);
        let expected = format!("error: FNAT is not for {what}");
        let found = shown(&outcome);
        assert!(found.iter().any(|line| line.ends_with(&expected)), "{found:?}");
    }
}

#[test]
fn a_group_without_full_nat_is_warned_of_and_not_used() {
    let outcome = read_text(&with(GROUP, "NAT", NAMED, "10.0.0.21"));
    let wanted = "f:9:1: warning: local addresses are for FNAT, and no real server here is by it";
    assert_eq!(shown(&outcome), [wanted]);
    assert!(service(outcome).local_addresses.is_empty());
    let text = "local_address_group g {\n10.0.0.9-10\n10.0.0.10\n}\n";
    let twice = "f:3:1: warning: local address 10.0.0.10 is in this group twice";
    assert_eq!(shown(&read_text(text)), [twice]);
}

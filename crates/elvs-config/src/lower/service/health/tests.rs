use std::time::Duration;

use elvs_model::health::ServiceHealth;
use elvs_model::{ForwardingMethod, TunnelKind};

use crate::lower::tests::{read_text, service, shown};

/// A service whose real server has weight 1.
fn read(lines: &str) -> (Vec<String>, Option<ServiceHealth>) {
    let outcome = read_text(&service("192.0.2.1 80", lines));
    let health = outcome.desired.as_ref().map(|desired| desired.services[0].health.clone());
    (shown(&outcome), health)
}

fn health(lines: &str) -> ServiceHealth {
    let (found, health) = read(lines);
    assert_eq!(found, Vec::<String>::new(), "{lines}");
    health.unwrap()
}

#[test]
fn a_service_without_a_word_is_watched_by_default_with_each_real_server() {
    let health = health("");
    assert_eq!(health.servers.len(), 1);
    assert_eq!(ServiceHealth { servers: Vec::new(), ..health }, ServiceHealth::default());
}

#[test]
fn quorums_and_scripts_are_as_written() {
    let lines = "alpha\nomega\nha_suspend\nquorum 1\nquorum_up \"/bin/q up\" u\nquorum_down /bin/q\ndrain 90\ninhibit_on_failure";
    let health = health(lines);
    assert!(health.alpha && health.omega && health.ha_suspend);
    assert_eq!((health.quorum, health.hysteresis), (1, 0));
    let up = health.quorum_up.unwrap();
    assert_eq!(
        (up.words, up.user.unwrap().user),
        (vec!["/bin/q".to_owned(), "up".to_owned()], "u".to_owned())
    );
    assert_eq!(health.quorum_down.unwrap().words, ["/bin/q"]);
    assert_eq!(health.drain, Some(Duration::from_secs(90)));
    assert!(health.servers[0].inhibit_on_failure);
}

#[test]
fn real_servers_say_for_themselves() {
    let text = service("192.0.2.1 80", "inhibit_on_failure").replace(
        "{\n}\n}",
        "{\ninhibit_on_failure no\nnotify_up \"/bin/n up\"\nnotify_down /bin/n u g\n}\n}",
    );
    let desired = read_text(&text).desired.unwrap();
    let server = &desired.services[0].health.servers[0];
    assert!(!server.inhibit_on_failure);
    assert_eq!(server.notify_up.as_ref().unwrap().words, ["/bin/n", "up"]);
    let user = server.notify_down.as_ref().unwrap().user.as_ref().unwrap();
    assert_eq!((user.user.as_str(), user.group.as_deref()), ("u", Some("g")));
}

#[test]
fn a_quorum_beyond_the_weights_is_lowered_as_in_keepalived() {
    let cases = [
        ("weight 3\nquorum 3", (3, 0), ""),
        (
            "weight 3\nquorum 4",
            (3, 0),
            "quorum 4 exceeds the total weight of the real servers, 3: 3 is used",
        ),
        ("weight 3\nquorum 3\nhysteresis 2", (3, 2), ""),
        (
            "weight 3\nquorum 3\nhysteresis 3",
            (3, 2),
            "hysteresis 3 is not below the quorum of 3: 2 is used",
        ),
        ("weight 3\nquorum 3\nhysteresis 1", (3, 1), ""),
        ("hysteresis 1", (1, 0), "hysteresis 1 is not below the quorum of 1: 0 is used"),
        (
            "quorum 4294967295",
            (1, 0),
            "quorum 4294967295 exceeds the total weight of the real servers, 1: 1 is used",
        ),
    ];
    for (lines, want, said) in cases {
        let (found, health) = read(lines);
        let health = health.unwrap();
        assert_eq!((health.quorum, health.hysteresis), want, "{lines}");
        let wanted = if said.is_empty() { Vec::new() } else { vec![said] };
        assert_eq!(found.len(), wanted.len(), "{lines}: {found:?}");
        assert!(found.iter().zip(wanted).all(|(f, w)| f.ends_with(w)), "{lines}: {found:?}");
    }
}

#[test]
fn weights_of_nothing_are_said() {
    let text = service("192.0.2.1 80", "quorum 2").replace("{\n}\n}", "{\nweight 0\n}\n}");
    let outcome = read_text(&text);
    assert_eq!(
        shown(&outcome),
        ["f:6:1: warning: no real server has a weight above 0: the quorum is never reached"]
    );
    assert_eq!(outcome.desired.unwrap().services[0].health.quorum, 2);
}

#[test]
fn sorry_servers_take_method_and_port_of_the_service() {
    let sorry = |lines: &str| health(lines).sorry_server.unwrap();
    let plain = sorry("sorry_server 192.0.2.50");
    assert_eq!((plain.destination.key.port, plain.destination.weight), (80, 1));
    assert_eq!((plain.destination.method, plain.inhibit), (ForwardingMethod::Nat, false));
    let full =
        sorry("sorry_server_inhibit\nsorry_server_lvs_method TUN\nsorry_server 192.0.2.50 80");
    assert_eq!(full.destination.method, ForwardingMethod::Tun(TunnelKind::Ipip));
    assert!(full.inhibit);
    assert_eq!(sorry("sorry_server 192.0.2.50 8080").destination.key.port, 8080);
    // With DR the port is the service's.
    let (found, health) = read("sorry_server 192.0.2.50 8080\nsorry_server_lvs_method DR");
    assert!(found[0].ends_with("warning: DR cannot change the port: 80 is used, not 8080"));
    assert_eq!(health.unwrap().sorry_server.unwrap().destination.key.port, 80);
}

#[test]
fn what_cannot_be_meant_is_refused_or_said() {
    let cases = [
        ("quorum 0", "error: quorum 0 is below 1"),
        ("hysteresis -1", "error: hysteresis -1 is below 0"),
        ("omega perhaps", "error: unknown value of `omega` `perhaps`"),
        ("virtualhost \"\"", "error: `` is no host name"),
        ("quorum_up /bin/a u g x", "error: `x` is one word too many after a command"),
        (
            "quorum_up /bin/a\nquorum_up /bin/b",
            "warning: `quorum_up` is given again; the first one counts",
        ),
        ("sorry_server web", "error: sorry server `web` is not an IP address"),
        ("sorry_server 192.0.2.1", "error: sorry server 192.0.2.1 is the VIP itself"),
        ("sorry_server ::1", "error: sorry server ::1 is IPv6 in a virtual server of IPv4"),
        ("sorry_server_inhibit", "warning: there is no `sorry_server` that this belongs to"),
        ("sorry_server_lvs_method DR", "warning: there is no `sorry_server` that this belongs to"),
        (
            "sorry_server 192.0.2.50\nsorry_server_lvs_method FNAT",
            "error: the sorry server and the real servers must all be by FNAT, or none",
        ),
        (
            "sorry_server 192.0.2.9 80\nsorry_server_inhibit",
            "warning: sorry server 192.0.2.9 is also a real server: it is removed too when it is not needed",
        ),
    ];
    for (lines, want) in cases {
        let (found, _) = read(lines);
        assert!(found.len() == 1 && found[0].ends_with(want), "{lines}: {found:?}");
    }
}

#[test]
fn services_by_mark_wait_for_no_address() {
    let text = "mark 1 {\n}\nvirtual_server fwmark 1 {\nlvs_sched rr\nlvs_method DR\nha_suspend\nreal_server 192.0.2.9 { }\n}\n";
    let outcome = read_text(text);
    assert_eq!(
        shown(&outcome).last().unwrap(),
        "f:6:1: warning: `ha_suspend` has no meaning with a firewall mark: checks go on"
    );
    assert!(!outcome.desired.is_some_and(|desired| desired.services[0].health.ha_suspend));
}

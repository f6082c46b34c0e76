//! Properties that hold for every input.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers may fail the test"
)]

use std::net::Ipv4Addr;

use elvs_config::{Capabilities, KEYWORDS, MapSource, Options, Outcome, Severity, read, render};
use elvs_model::{ForwardingMethod, Protocol, Scheduler, ServiceKey, TunnelKind};
use proptest::prelude::*;

fn read_bytes(bytes: impl Into<Vec<u8>>) -> Outcome {
    let source = MapSource::single("d/f", bytes).with_file("d/g", "weight 1\n}\ninclude f\n");
    read(&source, "d/f", &Options { config_id: "a".to_owned(), ..Options::default() })
}

/// What every outcome promises, whatever was read.
fn assert_sound(outcome: &Outcome) {
    let errors = outcome.diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    assert_eq!(outcome.desired.is_none(), errors > 0, "applied exactly when there is no error");
    for diagnostic in &outcome.diagnostics {
        let span = &diagnostic.span;
        let line = outcome.sources.line(&span.file, span.line);
        let line = line.unwrap_or_else(|| panic!("{diagnostic} is in no line"));
        let columns = u32::try_from(line.chars().count()).unwrap();
        assert!((1..=columns + 1).contains(&span.column), "{diagnostic} is past its line");
        assert!(span.length >= 1, "{diagnostic} marks nothing");
        assert!(!diagnostic.message.chars().any(char::is_control), "{diagnostic:?}");
    }
    let shown = render(&outcome.diagnostics, &outcome.sources, false);
    for diagnostic in &outcome.diagnostics {
        assert!(shown.contains(&diagnostic.to_string()));
    }
}

/// Text made of what the language is made of, so that the deeper stages are reached.
fn soup() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        8 => (0..KEYWORDS.len()).prop_map(|i| KEYWORDS[i].name.to_owned()),
        3 => Just("virtual_server 192.0.2.1 80 {".to_owned()),
        2 => Just("real_server 192.0.2.2 80 {".to_owned()),
        4 => prop_oneof![Just("rr"), Just("DR"), Just("TCP"), Just("tcp"), Just("type"), Just("gue")].prop_map(str::to_owned),
        3 => any::<u32>().prop_map(|n| n.to_string()),
        2 => any::<Ipv4Addr>().prop_map(|a| a.to_string()),
        3 => prop_oneof![Just("{"), Just("}"), Just("\""), Just("\\"), Just("#"), Just("!")].prop_map(str::to_owned),
        2 => prop_oneof![Just("$A="), Just("$A"), Just("${A}"), Just("${B}"), Just("${"), Just("$A= \\")].prop_map(str::to_owned),
        1 => prop_oneof![Just("@a"), Just("@^a"), Just("@b"), Just("~SEQ(x,1,2)"), Just("include g"), Just("includea *")].prop_map(str::to_owned),
        1 => "\\PC{0,4}",
    ];
    let separator = prop_oneof![4 => Just(" "), 3 => Just("\n"), 1 => Just("\\\n"), 1 => Just("")];
    proptest::collection::vec((word, separator), 0..120)
        .prop_map(|parts| parts.into_iter().flat_map(|(w, s)| [w, s.to_owned()]).collect())
}

/// Services with distinct keys: port, protocol, scheduler and destinations with method and weight.
type Plan = Vec<(u16, bool, usize, Vec<(u8, usize, u32)>)>;

fn plan() -> impl Strategy<Value = Plan> {
    let destination = (2u8..=254, 0usize..3, 0u32..=2_147_483_647);
    let destinations = proptest::collection::vec(destination, 1..6);
    proptest::collection::vec((1u16.., any::<bool>(), 0..Scheduler::ALL.len(), destinations), 0..6)
        .prop_map(|mut plan| {
            plan.sort_by_key(|(port, udp, ..)| (*port, *udp));
            plan.dedup_by_key(|(port, udp, ..)| (*port, *udp));
            for (.., destinations) in &mut plan {
                destinations.sort_unstable();
                destinations.dedup_by_key(|(last, ..)| *last);
            }
            plan
        })
}

const METHODS: [(&str, ForwardingMethod); 3] = [
    ("NAT", ForwardingMethod::Nat),
    ("DR", ForwardingMethod::Dr),
    ("TUN", ForwardingMethod::Tun(TunnelKind::Ipip)),
];

/// The plan as a file; `noise` stands where nothing may change the meaning.
fn write(plan: &Plan, noise: &str) -> String {
    let mut text = String::new();
    for (port, udp, scheduler, destinations) in plan {
        let protocol = if *udp { "UDP" } else { "TCP" };
        let scheduler = Capabilities::THIS_RELEASE.schedulers[*scheduler];
        text += &format!("virtual_server 192.0.2.1 {port} {{{noise}\nlb_algo {scheduler}{noise}\n");
        text += &format!("lb_kind NAT\nprotocol {protocol}{noise}\n");
        for (last, method, weight) in destinations {
            let method = METHODS[*method].0;
            text += &format!(
                "real_server 198.51.100.{last} {port} {{\nweight {weight}{noise}\nlvs_method {method}\n}}{noise}\n"
            );
        }
        text += "}\n";
    }
    text
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        assert_sound(&read_bytes(bytes));
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC*") {
        assert_sound(&read_bytes(text));
    }

    #[test]
    fn any_words_of_the_language_are_read_without_a_panic(text in soup()) {
        assert_sound(&read_bytes(text));
    }

    #[test]
    fn truncated_files_are_read_without_a_panic(cut in 0usize..9000) {
        let text = include_bytes!("golden/everything.conf");
        assert_sound(&read_bytes(&text[..cut.min(text.len())]));
    }

    #[test]
    fn what_is_written_is_what_is_desired(plan in plan()) {
        let outcome = read_bytes(write(&plan, ""));
        prop_assert_eq!(&outcome.diagnostics, &[]);
        let desired = outcome.desired.unwrap();
        prop_assert_eq!(desired.services.len(), plan.len());
        for (service, (port, udp, scheduler, destinations)) in desired.services.iter().zip(&plan) {
            let protocol = if *udp { Protocol::Udp } else { Protocol::Tcp };
            let address = Ipv4Addr::new(192, 0, 2, 1).into();
            prop_assert_eq!(service.service.key, ServiceKey::Address { protocol, address, port: *port });
            prop_assert_eq!(service.service.scheduler, Scheduler::ALL[*scheduler]);
            let found: Vec<_> =
                service.destinations.iter().map(|d| (d.key.address, d.method, d.weight)).collect();
            let planned: Vec<_> = destinations
                .iter()
                .map(|(last, method, weight)| {
                    (Ipv4Addr::new(198, 51, 100, *last).into(), METHODS[*method].1, *weight)
                })
                .collect();
            prop_assert_eq!(found, planned);
        }
    }

    #[test]
    fn comments_and_blanks_change_nothing(plan in plan(), noise in "[ \t]{0,3}(#[ -~]{0,9})?(\n[ \t]{0,2}![ -~]{0,9})?") {
        let plain = read_bytes(write(&plan, "")).desired;
        let noisy = read_bytes(write(&plan, &format!(" {noise}"))).desired;
        prop_assert_eq!(plain, noisy);
    }
}

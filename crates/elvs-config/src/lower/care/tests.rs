use std::time::Duration;

use elvs_model::health::{Damping, Passive, ServerHealth};

use crate::lower::tests::{read_text, service, shown};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Health of the real server of a service with `outer` in its block and `own` in the real server's.
fn server(outer: &str, own: &str) -> ServerHealth {
    let text = service("192.0.2.1 80", outer)
        .replace("lvs_sched rr", "lvs_sched wrr")
        .replace("{\n}\n}", &format!("{{\n{own}\n}}\n}}"));
    let outcome = read_text(&text);
    let found = shown(&outcome);
    let desired = outcome.desired.unwrap_or_else(|| panic!("{outer} {own}: {found:?}"));
    desired.services[0].health.servers[0].clone()
}

#[test]
fn slow_starts_are_inherited_and_undone() {
    assert_eq!(server("", "").slow_start, None);
    assert_eq!(server("slow_start 30", "").slow_start, Some(secs(30)));
    assert_eq!(server("slow_start 30", "slow_start 1.5").slow_start, Some(secs(3) / 2));
    assert_eq!(server("slow_start 30", "slow_start off").slow_start, None);
}

#[test]
fn damping_is_inherited_and_undone() {
    let want = Damping { window: secs(60), first: secs(10), most: secs(600) };
    assert_eq!(server("", "").damping, None);
    assert_eq!(server("flap_damping 60 10 600", "").damping, Some(want));
    assert_eq!(server("", "flap_damping 60 10 600").damping, Some(want));
    assert_eq!(server("flap_damping 60 10 600", "flap_damping off").damping, None);
}

#[test]
fn passive_checks_have_a_default_for_each_part() {
    let usual = Passive { least: 20, percent: 50, window: secs(10), hold: secs(30) };
    assert_eq!(server("", "").passive, None);
    assert_eq!(server("passive", "").passive, Some(usual));
    assert_eq!(server("passive", "passive off").passive, None);
    assert_eq!(server("passive off", "passive on").passive, Some(usual));
    assert_eq!(server("", "passive percent 100").passive, Some(Passive { percent: 100, ..usual }));
    let all = "passive least 5 percent 1 window 2 hold 0.5";
    let want = Passive { least: 5, percent: 1, window: secs(2), hold: Duration::from_millis(500) };
    assert_eq!(server(all, "").passive, Some(want));
}

#[test]
fn care_that_a_service_has_no_use_for_is_said() {
    let found = |lines: &str, from: &str, to: &str| {
        shown(&read_text(&service("192.0.2.1 80", lines).replace(from, to)))
    };
    assert_eq!(
        found("passive", "protocol TCP", "protocol UDP"),
        ["f:6:1: warning: `passive` has no meaning with UDP, which opens no connections"]
    );
    assert_eq!(
        found("slow_start 5", "wrr", "rr"),
        ["f:6:1: warning: `slow_start` has no effect: scheduler rr takes no account of weights"]
    );
    assert_eq!(found("slow_start 5", "lvs_sched rr", "lvs_sched wlc"), Vec::<String>::new());
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let cases = [
        ("slow_start 0", "slow_start `0` is not within 0.000001 to 31536000 seconds"),
        ("slow_start soon", "slow_start `soon` is not a number of seconds"),
        ("drain 0", "drain `0` is not within 0.000001 to 31536000 seconds"),
        ("flap_damping 60", "`flap_damping` needs three times"),
        ("flap_damping 60 10", "`flap_damping` needs three times"),
        ("flap_damping 60 0 5", "first hold-down `0` is not within 0.000001 to 31536000 seconds"),
        ("flap_damping 60 10 5", "the first hold-down of 10 s is longer than the longest of 5 s"),
        ("flap_damping 60 10 20 30", "`30` is one argument too many for `flap_damping`"),
        ("passive least", "`least` has no value"),
        ("passive least 0", "least 0 is below 1"),
        ("passive percent 101", "percent 101 exceeds 100"),
        ("passive window 0", "window `0` is not within 0.000001 to 31536000 seconds"),
        ("passive lest 1", "unknown part of `passive` `lest`"),
    ];
    for (line, want) in cases {
        let outcome = read_text(&service("192.0.2.1 80", line));
        assert!(outcome.desired.is_none(), "{line}");
        let found = shown(&outcome);
        assert!(
            found.len() == 1 && found[0].ends_with(&format!("error: {want}")),
            "{line}: {found:?}"
        );
    }
}

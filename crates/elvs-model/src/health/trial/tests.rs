use crate::health::{BfdCheck, Schedule, Script};

use super::*;

fn check(kind: CheckKind) -> Check {
    let schedule = Schedule {
        delay_loop: Duration::from_secs(6),
        retry: 0,
        delay_before_retry: Duration::from_secs(1),
        warmup: None,
        alpha: false,
        log_all_failures: false,
    };
    Check { kind, schedule }
}

#[test]
fn a_session_of_bfd_is_not_run() {
    let bfd = CheckKind::Bfd(BfdCheck { instance: "peer".to_owned() });
    assert_eq!(Trial::of(&check(bfd)), None);
}

#[test]
fn keepalived_conf_misc_timeout_is_delay_loop_by_default() {
    let script = Script { words: vec!["/bin/true".to_owned()], user: None };
    for (timeout, wanted) in [(None, 6), (Some(Duration::from_secs(2)), 2)] {
        let misc = MiscCheck { script: script.clone(), timeout, dynamic: false };
        let trial = Trial::of(&check(CheckKind::Misc(misc.clone())));
        let limit = Duration::from_secs(wanted);
        assert_eq!(trial, Some(Trial::Misc { check: misc, limit }));
    }
}

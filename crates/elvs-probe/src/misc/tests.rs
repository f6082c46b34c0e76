use super::*;

#[test]
fn keepalived_misc_check_judges_exit_codes() {
    let set = |weight| CheckResult::Passed(WeightChange::Set(weight));
    let up = CheckResult::Passed(WeightChange::None);
    // Wait status (wait(2)): the exit code stands in the second byte, a signal in the first.
    for (raw, dynamic, result, words) in [
        (0, false, up.clone(), "exit code 0"),
        (0, true, up, "exit code 0"),
        (1 << 8, false, CheckResult::Failed, "exit code 1, wanted 0"),
        (1 << 8, true, CheckResult::Failed, "exit code 1, wanted 0"),
        (2 << 8, false, CheckResult::Failed, "exit code 2, wanted 0"),
        (2 << 8, true, set(0), "exit code 2, weight 0"),
        (12 << 8, true, set(10), "exit code 12, weight 10"),
        (255 << 8, true, set(253), "exit code 255, weight 253"),
        (11, true, CheckResult::Failed, "killed by SIGSEGV"),
        (9, false, CheckResult::Failed, "killed by SIGKILL"),
    ] {
        let finding = judge(ExitStatus::from_raw(raw), dynamic);
        assert_eq!((finding.result, &*finding.words), (result, words), "{raw}");
    }
}

use std::path::PathBuf;

use elvs_model::health::TrackFile;
use proptest::prelude::*;

use super::*;

fn check(weight: i32, reverse: bool) -> FileCheck {
    let file = TrackFile { name: "f".to_owned(), path: PathBuf::from("/f"), initial: None };
    FileCheck { file, weight, reverse }
}

#[test]
fn strtol_reads_numbers() {
    for (content, value) in [
        ("0\n", Some(0)),
        (" 17 apples", Some(17)),
        ("-3", Some(-3)),
        ("+4", Some(4)),
        ("0x10", Some(16)),
        ("-0x10", Some(-16)),
        ("010", Some(8)),
        ("09", Some(0)),
        ("0x", Some(0)),
        ("", Some(0)),
        ("up", Some(0)),
        ("-2147483648", Some(-2_147_483_648)),
        ("2147483648", Some(2_147_483_648)),
        ("2147483649", None),
        ("99999999999999999999", None),
    ] {
        assert_eq!(number(content.as_bytes()), value, "{content:?}");
    }
}

#[test]
fn keepalived_file_check_judges_the_number() {
    let passed = |change| CheckResult::Passed(change);
    for (weight, reverse, content, result, words) in [
        (0, false, "0", passed(WeightChange::None), "file says 0"),
        (0, false, "1", CheckResult::Failed, "file says 1, wanted 0"),
        (0, true, "1", passed(WeightChange::None), "file says 1"),
        (0, true, "0", CheckResult::Failed, "file says 0, wanted another number than 0"),
        (2, false, "5", passed(WeightChange::Add(10)), "file says 5, weight +10"),
        (2, true, "5", passed(WeightChange::Add(-10)), "file says 5, weight -10"),
        (-1, false, "5", passed(WeightChange::Add(-5)), "file says 5, weight -5"),
        (1, false, "0", passed(WeightChange::Add(0)), "file says 0, weight +0"),
        (1, false, "-2147483648", CheckResult::Failed, "file says -2147483648, times 1 is a fault"),
        (
            i32::MAX,
            false,
            "2147483647",
            passed(WeightChange::Add(2_147_483_647)),
            "file says 2147483647, weight +2147483647",
        ),
        (
            1,
            false,
            "3000000000",
            CheckResult::Failed,
            "file says \"3000000000\", which is beyond 32 bits",
        ),
    ] {
        let finding = judge(&check(weight, reverse), &Ok(content.as_bytes().to_vec()));
        assert_eq!((finding.result, &*finding.words), (result, words));
    }
}

#[test]
fn a_file_that_cannot_be_read_counts_as_0() {
    let missing = || Err(io::Error::from_raw_os_error(nix::errno::Errno::ENOENT as i32));
    let finding = judge(&check(0, false), &missing());
    assert_eq!(finding, Finding::passed("file counts as 0: no such file or directory"));
    assert_eq!(judge(&check(0, true), &missing()).result, CheckResult::Failed);
}

proptest! {
    #[test]
    fn any_content_is_judged(content: Vec<u8>, weight: i32, reverse: bool) {
        let finding = judge(&check(weight, reverse), &Ok(content));
        prop_assert!(!finding.words.contains('\n'));
    }
}

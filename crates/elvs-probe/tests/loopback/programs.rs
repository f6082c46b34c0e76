//! `MISC_CHECK` and `FILE_CHECK`.

use std::path::Path;
use std::time::Duration;

use elvs_model::health::{
    CheckKind, CheckResult, FileCheck, MiscCheck, Script, ScriptUser, TrackFile, WeightChange,
};
use elvs_probe::{ProbeSettings, Prober};

use super::{run, trial, words};

/// A check that has a shell run this.
fn shell(text: &str) -> MiscCheck {
    let words = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
    MiscCheck { script: Script { words, user: None }, timeout: None, dynamic: false }
}

/// Whether the process whose number stands in the file is no more, or only waits to be asked how it ended.
fn is_gone(file: &Path) -> bool {
    let Ok(pid) = std::fs::read_to_string(file) else { return false };
    match std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())) {
        Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')),
        Err(_) => !pid.trim().is_empty(),
    }
}

/// Waits until that is so.
async fn until(mut done: impl FnMut() -> bool, what: &str) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(done(), "{what} within 20 s");
}

#[tokio::test]
async fn keepalived_misc_check_judges_programs() {
    for (text, dynamic, said) in [
        ("exit 0", false, "+ exit code 0"),
        ("exit 1", true, "- exit code 1, wanted 0"),
        ("exit 7", false, "- exit code 7, wanted 0"),
        ("exit 7", true, "+ exit code 7, weight 5"),
        ("kill -SEGV $$", false, "- killed by SIGSEGV"),
        // Nothing of it is shared with the daemon.
        (
            "test \"$(cat)\" = '' && test $$ = $(cut -d' ' -f5 /proc/$$/stat)",
            false,
            "+ exit code 0",
        ),
    ] {
        let misc = MiscCheck { dynamic, ..shell(text) };
        assert_eq!(words(CheckKind::Misc(misc)).await, said, "{text}");
    }
    let dynamic = MiscCheck { dynamic: true, ..shell("exit 2") };
    let weight = CheckResult::Passed(WeightChange::Set(0));
    assert_eq!(run(CheckKind::Misc(dynamic)).await.result, weight);
}

#[tokio::test]
async fn says_why_a_program_was_not_started() {
    let named = |program: &str, user: Option<ScriptUser>| {
        let script = Script { words: vec![program.to_owned()], user };
        CheckKind::Misc(MiscCheck { script, ..shell("") })
    };
    assert_eq!(
        words(named("/nonexistent/check", None)).await,
        "- program /nonexistent/check cannot be run: no such file or directory"
    );
    assert_eq!(
        words(named("/etc/passwd", None)).await,
        "- program /etc/passwd cannot be run: permission denied"
    );
    let user = ScriptUser { user: "nosuchuser".to_owned(), group: None };
    assert_eq!(words(named("/bin/true", Some(user))).await, "- there is no user nosuchuser");
}

#[tokio::test]
async fn ends_a_program_and_what_it_started() {
    let directory = tempfile::tempdir().unwrap();
    let pid = directory.path().join("pid");
    // The shell goes at SIGTERM, its child does not.
    let text = format!(
        "(trap '' TERM; echo $$ > /dev/null; exec sleep 1000) & echo $! > {}; wait",
        pid.display()
    );
    let limit = Some(Duration::from_millis(500));
    let misc = MiscCheck { timeout: limit, ..shell(&text) };
    assert_eq!(words(CheckKind::Misc(misc)).await, "- timed out after 500 ms, ended by SIGTERM");
    until(|| is_gone(&pid), "the program's child ends").await;
}

#[tokio::test]
async fn ends_a_program_that_does_not_want_to() {
    let text = "trap '' TERM; while :; do sleep 1; done";
    let misc = MiscCheck { timeout: Some(Duration::from_millis(500)), ..shell(text) };
    assert_eq!(words(CheckKind::Misc(misc)).await, "- timed out after 500 ms, ended by SIGKILL");
}

#[tokio::test]
async fn a_dropped_run_leaves_no_program() {
    let directory = tempfile::tempdir().unwrap();
    let pid = directory.path().join("pid");
    let text = format!("sleep 1000 & echo $! > {}; wait", pid.display());
    let misc = trial(CheckKind::Misc(shell(&text)));
    let prober = Prober::new(ProbeSettings::default());
    let written = || std::fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n'));
    tokio::select! {
        finding = prober.run(&misc) => panic!("{finding:?}"),
        () = until(written, "the program starts") => {}
    }
    until(|| is_gone(&pid), "the program's child ends").await;
}

#[tokio::test]
async fn keepalived_file_check_reads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weight");
    let kind = |weight| {
        let file = TrackFile { name: "w".to_owned(), path: path.clone(), initial: None };
        CheckKind::File(FileCheck { file, weight, reverse: false })
    };
    assert_eq!(words(kind(0)).await, "+ file counts as 0: no such file or directory");
    std::fs::write(&path, "3\n").unwrap();
    assert_eq!(words(kind(0)).await, "- file says 3, wanted 0");
    assert_eq!(run(kind(-2)).await.result, CheckResult::Passed(WeightChange::Add(-6)));
    std::fs::write(&path, "0").unwrap();
    assert_eq!(words(kind(0)).await, "+ file says 0");
    // Of a large file only the beginning is read.
    std::fs::write(&path, "5 ".repeat(1 << 20)).unwrap();
    assert_eq!(words(kind(1)).await, "+ file says 5, weight +5");
}

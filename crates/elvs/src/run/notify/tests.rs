use std::fs;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use elvs_model::health::{Fifo, Notifications, Script};

use super::{MOST_WAITING, Notice, Notifier};

fn program(directory: &Path, text: &str) -> String {
    let file = directory.join("script");
    fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file.to_string_lossy().into_owned()
}

#[tokio::test]
async fn scripts_of_one_object_run_in_order_and_those_of_others_do_not_wait() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    // The first waits for the other object's, so it would never end if that waited for it.
    let text = format!(
        "if [ $1 = 0 ]; then while [ ! -e {0}.go ]; do sleep 0.01; done; fi\necho $1 >> {0}",
        log.display()
    );
    let program = program(directory.path(), &text);
    let notifier = Arc::new(Notifier::default());
    for number in 0..8 {
        let words = vec![program.clone(), number.to_string()];
        let script = Script { words, user: None };
        notifier.tell(Notice::Script { about: "rs1".to_owned(), script });
    }
    let words = vec!["touch".to_owned(), format!("{}.go", log.display())];
    let script = Script { words, user: None };
    notifier.tell(Notice::Script { about: "rs2".to_owned(), script });
    notifier.finish(Duration::from_secs(30)).await;
    assert_eq!(fs::read_to_string(&log).unwrap(), "0\n1\n2\n3\n4\n5\n6\n7\n");
}

#[tokio::test]
async fn no_more_scripts_wait_than_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let program = program(directory.path(), &format!("echo $1 >> {}", log.display()));
    let notifier = Arc::new(Notifier::default());
    // None of them begins before this task waits.
    for number in 0..MOST_WAITING + 10 {
        let script = Script { words: vec![program.clone(), number.to_string()], user: None };
        notifier.tell(Notice::Script { about: "rs1".to_owned(), script });
    }
    notifier.finish(Duration::from_secs(60)).await;
    assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), MOST_WAITING);
}

#[tokio::test]
async fn a_fifo_is_made_keeps_its_order_never_blocks_and_goes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    let fifo = Fifo { path: path.clone(), user: None, script: None };
    let settings = Notifications { lvs_fifo: Some(fifo), ..Notifications::default() };
    let notifier = Arc::new(Notifier::default());
    notifier.configure(&settings);
    // Three times what a pipe holds, and nobody reads.
    let line = "x".repeat(96);
    for number in 0..2_000 {
        notifier.tell(Notice::Line(format!("{number} {line}")));
    }
    let mut reader =
        fs::File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(&path).unwrap();
    let mut text = String::new();
    // The daemon writes on, so the end is "nothing there", an error.
    assert!(reader.read_to_string(&mut text).is_err());
    let mut bytes = Vec::new();
    let _ = reader.read_to_end(&mut bytes);
    notifier.tell(Notice::Line("again".to_owned()));
    let mut buffer = [0; 64];
    let read = reader.read(&mut buffer).unwrap();
    assert_eq!(&buffer[..read], b"again\n");
    notifier.finish(Duration::from_secs(1)).await;
    assert!(!path.exists(), "a FIFO that was made goes");
}

#[test]
fn what_is_no_fifo_is_not_written_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "kept").unwrap();
    let error = super::fifo::Pipe::open(&path, None).unwrap_err();
    assert!(error.to_string().contains("is no FIFO"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
}

#[tokio::test]
async fn a_fifos_reader_gets_its_path_and_ends_with_the_notifier() {
    let directory = tempfile::tempdir().unwrap();
    let (path, copy) = (directory.path().join("fifo"), directory.path().join("copy"));
    let program = program(directory.path(), &format!("exec cat \"$1\" > {}", copy.display()));
    let script = Some(Script { words: vec![program], user: None });
    let fifo = Fifo { path, user: None, script };
    let settings = Notifications { fifo: Some(fifo), ..Notifications::default() };
    let notifier = Arc::new(Notifier::default());
    notifier.configure(&settings);
    notifier.configure(&settings);
    notifier.tell(Notice::Line("VS [192.0.2.1]:tcp:80 UP".to_owned()));
    let read = async {
        while fs::read_to_string(&copy).unwrap_or_default() != "VS [192.0.2.1]:tcp:80 UP\n" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), read).await.unwrap();
    notifier.finish(Duration::from_secs(1)).await;
}

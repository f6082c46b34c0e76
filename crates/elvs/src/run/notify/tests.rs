use std::fs;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use elvs_model::health::{Fifo, Mail, MailServer, MailView, Notifications, Script};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

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

/// A mail server that greets each connection with the next of these lines, and takes mails where that is 220; the
/// subjects that it took.
async fn mail_server(greetings: &'static [&'static str]) -> (Notifications, Subjects) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let subjects = Subjects::default();
    let mail = Mail {
        server: MailServer::Address(listener.local_addr().unwrap()),
        helo_name: None,
        timeout: Duration::from_secs(20),
        from: "lvs@example.org".to_owned(),
        to: vec!["ops@example.org".to_owned()],
    };
    let taken = subjects.clone();
    tokio::spawn(async move {
        for greeting in greetings {
            let (stream, _) = listener.accept().await.unwrap();
            let (input, mut output) = stream.into_split();
            output.write_all(format!("{greeting}\r\n").as_bytes()).await.unwrap();
            let (mut lines, mut data) = (BufReader::new(input).lines(), false);
            while let Ok(Some(line)) = lines.next_line().await {
                let answer = match line.as_str() {
                    "." => "250 taken",
                    line if data => {
                        taken
                            .lock()
                            .unwrap()
                            .extend(line.strip_prefix("Subject: ").map(String::from));
                        continue;
                    }
                    "DATA" => "354 go on",
                    "QUIT" => "221 bye",
                    _ => "250 ok",
                };
                data = line == "DATA";
                if output.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    });
    let router_id = Some("lb1".to_owned());
    (Notifications { mail: Some(mail), router_id, ..Notifications::default() }, subjects)
}

type Subjects = Arc<Mutex<Vec<String>>>;

fn mail(subject: &str) -> Notice {
    Notice::Mail { subject: subject.to_owned(), body: "=> LOST <=".to_owned() }
}

async fn until(notifier: &Notifier, what: impl Fn(&MailView) -> bool) {
    let there = async {
        while !what(&notifier.mails()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), there).await.unwrap();
}

#[tokio::test]
async fn a_mail_that_a_server_does_not_take_now_is_tried_again_and_holds_up_nothing_else() {
    let (settings, subjects) = mail_server(&["421 not now", "220 welcome", "220 again"]).await;
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let notifier = Arc::new(Notifier::default());
    notifier.configure(&settings);
    notifier.tell(mail("A - DOWN"));
    notifier.tell(mail("A - UP"));
    until(&notifier, |mails| mails.tried_again == 1).await;
    let waiting = notifier.mails();
    assert_eq!((waiting.waiting, waiting.sent), (2, 0));
    assert!(waiting.trouble.is_some_and(|why| why.contains("not now")));
    // Mails wait, scripts do not.
    let words = vec![program(directory.path(), &format!("echo ran > {}", log.display()))];
    notifier.tell(Notice::Script { about: "A".to_owned(), script: Script { words, user: None } });
    let ran = async {
        while !fs::read_to_string(&log).is_ok_and(|text| text == "ran\n") {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ran).await.unwrap();
    assert_eq!(notifier.mails().waiting, 2);
    // The daemon's end does not wait for the pause.
    notifier.finish(Duration::from_secs(30)).await;
    let sent = MailView { sent: 2, tried_again: 1, ..MailView::default() };
    assert_eq!(notifier.mails(), sent);
    assert_eq!(*subjects.lock().unwrap(), ["[lb1] A - DOWN", "[lb1] A - UP"]);
}

#[tokio::test]
async fn a_mail_that_is_refused_for_good_is_not_tried_again() {
    let (settings, subjects) = mail_server(&["554 no mail from you", "220 welcome"]).await;
    let notifier = Arc::new(Notifier::default());
    notifier.configure(&settings);
    notifier.tell(mail("A - DOWN"));
    notifier.tell(mail("A - UP"));
    until(&notifier, |mails| mails.waiting == 0).await;
    let dropped = vec![("refused for good".to_owned(), 1)];
    assert_eq!(notifier.mails(), MailView { sent: 1, dropped, ..MailView::default() });
    assert_eq!(*subjects.lock().unwrap(), ["[lb1] A - UP"]);
}

#[tokio::test]
async fn mails_that_cannot_be_sent_do_not_keep_the_daemon_from_ending() {
    let (settings, _) = mail_server(&[]).await;
    let notifier = Arc::new(Notifier::default());
    notifier.configure(&settings);
    // Nobody listens any more.
    for subject in ["A - DOWN", "A - UP"] {
        notifier.tell(mail(subject));
    }
    until(&notifier, |mails| mails.tried_again == 1).await;
    notifier.finish(Duration::from_secs(30)).await;
    let view = notifier.mails();
    assert_eq!((view.waiting, view.sent), (0, 0));
    assert_eq!(view.dropped, [("the daemon ended".to_owned(), 2)]);
}

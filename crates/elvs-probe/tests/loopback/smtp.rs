//! `SMTP_CHECK`.

use std::net::SocketAddr;
use std::time::Duration;

use elvs_model::health::{CheckKind, SmtpCheck, Target};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::{hasty, nowhere, serve, silent, target, words};

async fn smtp(targets: Vec<Target>) -> String {
    let check = SmtpCheck { targets, helo_name: "director.example".to_owned() };
    words(CheckKind::Smtp(check)).await
}

/// A server that says the first text, then one of the others to each command, and closes when it has none left.
async fn saying(texts: &'static [&'static str]) -> SocketAddr {
    serve(move |stream| async move {
        let mut stream = BufReader::new(stream);
        let expected = ["", "HELO director.example\r\n", "QUIT\r\n"];
        for (text, expected) in texts.iter().zip(expected) {
            let mut command = String::new();
            if !expected.is_empty() {
                stream.read_line(&mut command).await.unwrap();
            }
            // A wrong command is seen as a connection that closes.
            if command != expected || stream.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn keepalived_smtp_check_talks() {
    const PASSED: &str = "+ greeted with 220, HELO answered with 250";
    for (texts, said) in [
        (&["220 a ESMTP\r\n", "250 a\r\n", "221 bye\r\n"][..], PASSED),
        (&["220-a\r\n220 b\r\n", "250-a\r\n250-SIZE\r\n250 OK\r\n", "221 bye\r\n"], PASSED),
        (&["220 a\n", "250 a\n", "500 what?\n"], PASSED),
        (&["554 go away\r\n"], "- greeting: SMTP 554 \"go away\", wanted 220"),
        (&["220 a\r\n", "502 no\r\n"], "- reply to HELO: SMTP 502 \"no\", wanted 250"),
        (&["SSH-2.0-OpenSSH_9.6\r\n"], "- greeting: \"SSH-2.0-OpenSSH_9.6\" is no SMTP reply"),
        (&["220-a\r\n221 b\r\n"], "- greeting: code 221 after code 220 in one SMTP reply"),
        (&[""], "- connection closed before greeting"),
        (&["220 a"], "- connection closed before greeting"),
        (&["220 a\r\n"], "- connection closed before reply to HELO"),
        (&["220 a\r\n", "250 a\r\n"], "- connection closed before reply to QUIT"),
    ] {
        assert_eq!(smtp(vec![target(saying(texts).await)]).await, said, "{texts:?}");
    }
}

#[tokio::test]
async fn says_which_step_came_to_nothing() {
    assert_eq!(smtp(vec![target(nowhere().await)]).await, "- connection refused");
    assert_eq!(smtp(vec![hasty(silent().await)]).await, "- no greeting within 200 ms");
    let drip = serve(|mut stream| async move {
        while stream.write_all(b"2").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(smtp(vec![hasty(drip)]).await, "- no greeting within 200 ms");
    let flood =
        serve(|mut stream| async move { while stream.write_all(&[b'2'; 4096]).await.is_ok() {} })
            .await;
    assert_eq!(smtp(vec![target(flood)]).await, "- greeting: a line of more than 2048 bytes");
    let endless =
        serve(
            |mut stream| async move { while stream.write_all(b"220-again\r\n").await.is_ok() {} },
        )
        .await;
    assert_eq!(
        smtp(vec![target(endless)]).await,
        "- greeting: an SMTP reply of more than 100 lines"
    );
}

#[tokio::test]
async fn every_host_must_pass() {
    let good = target(saying(&["220 a\r\n", "250 a\r\n", "221 bye\r\n"]).await);
    let bad = target(saying(&["421 busy\r\n"]).await);
    assert_eq!(
        smtp(vec![good.clone(), good.clone()]).await,
        "+ greeted with 220, HELO answered with 250"
    );
    let said = format!("- {}: greeting: SMTP 421 \"busy\", wanted 220", bad.address);
    assert_eq!(smtp(vec![good, bad]).await, said);
}

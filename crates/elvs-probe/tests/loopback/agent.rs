//! `AGENT_CHECK`.

use elvs_model::health::{AgentCheck, AgentMode, AgentReply, CheckKind, CheckResult, Target};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::{hasty, nowhere, run, serve, silent, target, words};

async fn agent(target: Target) -> String {
    words(CheckKind::Agent(AgentCheck { target, send: None })).await
}

#[tokio::test]
async fn haproxy_agent_check_asks() {
    for (line, said) in [
        (&b"75%\n"[..], "+ agent said 75%"),
        (b"up ready 50%\n", "+ agent said up ready 50%"),
        (b"drain", "+ agent said drain"),
        (b"down # disk\x1b full\n", "+ agent said down (\"disk\\u{1b} full\")"),
        (b"up maxconn:30\n", "+ agent said up, ignored: \"maxconn:30\""),
        (b"maxconn:30\n", "+ agent said, ignored: \"maxconn:30\""),
        (b"", "- agent said nothing"),
        (b"220 mail\r\n", "- agent said \"220 mail\", of which nothing is known"),
    ] {
        let address =
            serve(move |mut stream| async move { stream.write_all(line).await.unwrap() }).await;
        assert_eq!(agent(target(address)).await, said);
    }
}

#[tokio::test]
async fn sends_before_it_reads() {
    let address = serve(|stream| async move {
        let mut stream = BufReader::new(stream);
        let mut question = String::new();
        stream.read_line(&mut question).await.unwrap();
        let answer = if question == "state?\n" { "maint\n" } else { "up\n" };
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let send = Some("state?\n".to_owned());
    let finding = run(CheckKind::Agent(AgentCheck { target: target(address), send })).await;
    let administrative = Some(AgentMode::Maint);
    let reply = AgentReply { administrative, ..AgentReply::default() };
    assert_eq!(finding.result, CheckResult::Agent(reply));
}

#[tokio::test]
async fn says_which_step_came_to_nothing() {
    assert_eq!(agent(target(nowhere().await)).await, "- connection refused");
    assert_eq!(agent(hasty(silent().await)).await, "- agent sent no line within 200 ms");
    let flood =
        serve(|mut stream| async move { while stream.write_all(&[b'z'; 4096]).await.is_ok() {} })
            .await;
    let said = format!("- agent said \"{}...\", of which nothing is known", "z".repeat(60));
    assert_eq!(agent(target(flood)).await, said);
}

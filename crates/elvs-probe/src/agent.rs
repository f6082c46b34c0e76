//! `AGENT_CHECK`: a line from the real server says what it can take, by HAProxy's agent protocol.
//!
//! **Invariant:** connecting, and sending and reading together, each end within `connect_timeout`.
//!
//! Called by [`crate::Prober`].

mod line;

use std::io;

use elvs_model::health::{AgentCheck, AgentMode, AgentReply, CheckResult, Finding};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub use self::line::{AgentFault, AgentLine};
use crate::{connect, words};

/// Runs the check once.
pub(crate) async fn run(check: &AgentCheck) -> Finding {
    let stream = match connect::tcp(&check.target).await {
        Ok(stream) => stream,
        Err(error) => return Finding::failed(error.to_string()),
    };
    match timeout(check.target.timeout, ask(stream, check.send.as_deref())).await {
        Err(_elapsed) => {
            let after = words::time(check.target.timeout);
            Finding::failed(format!("agent sent no line within {after}"))
        }
        Ok(Err(error)) => Finding::failed(format!("agent: {}", words::error(&error))),
        Ok(Ok(bytes)) => match AgentLine::parse(&bytes) {
            Ok(line) => {
                let words = said(&line);
                Finding { result: CheckResult::Agent(line.reply), words }
            }
            Err(fault) => Finding::failed(fault.to_string()),
        },
    }
}

/// What comes before the end of a line, the end of the connection or the limit.
async fn ask(mut stream: TcpStream, send: Option<&str>) -> io::Result<Vec<u8>> {
    if let Some(text) = send {
        stream.write_all(text.as_bytes()).await?;
    }
    let mut bytes = Vec::new();
    while bytes.len() < LIMIT && !bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        if stream.read_buf(&mut bytes).await? == 0 {
            break;
        }
    }
    Ok(bytes)
}

/// A line in words.
fn said(line: &AgentLine) -> String {
    let AgentReply { percent, administrative, up, reason } = &line.reply;
    let mut parts = Vec::new();
    parts.extend(up.map(|up| if up { "up" } else { "down" }.to_owned()));
    parts.extend(administrative.map(|mode| {
        match mode {
            AgentMode::Ready => "ready",
            AgentMode::Drain => "drain",
            AgentMode::Maint => "maint",
        }
        .to_owned()
    }));
    parts.extend(percent.map(|percent| format!("{percent}%")));
    let mut text = format!("agent said {}", parts.join(" ")).trim_end().to_owned();
    if let Some(reason) = reason {
        text = format!("{text} ({})", words::quoted(reason.as_bytes()));
    }
    if !line.ignored.is_empty() {
        let ignored = words::quoted(line.ignored.join(" ").as_bytes());
        text = format!("{text}, ignored: {ignored}");
    }
    text
}

/// Bytes of a line.
const LIMIT: usize = 1024;

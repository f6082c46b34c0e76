//! `SMTP_CHECK`: the mail server greets, takes a HELO and says goodbye.
//!
//! **Invariant:** connecting and each reply end within `connect_timeout`; every host must pass, in order, to the first
//! that fails.
//!
//! Called by [`crate::Prober`].

mod reply;

use std::io;

use elvs_model::health::{Finding, SmtpCheck, Target};
use thiserror::Error;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

pub use self::reply::{SmtpFault, SmtpReply};
use crate::connect::{self, ConnectError};
use crate::lines::{Line, Lines};
use crate::words;

/// Runs the check once.
pub(crate) async fn run(check: &SmtpCheck) -> Finding {
    for target in &check.targets {
        match talk(target, &check.helo_name).await {
            Ok(()) => {}
            Err(error) if check.targets.len() > 1 => {
                return Finding::failed(format!("{}: {error}", target.address));
            }
            Err(error) => return Finding::failed(error.to_string()),
        }
    }
    Finding::passed("greeted with 220, HELO answered with 250")
}

/// Why a mail server has failed.
#[derive(Debug, Error)]
enum TalkError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no {what} within {}", words::time(*.after))]
    Timeout { what: &'static str, after: std::time::Duration },
    #[error("connection closed before {what}")]
    Closed { what: &'static str },
    #[error("{} while waiting for {what}", words::error(.source))]
    Lost { what: &'static str, source: io::Error },
    #[error("{what}: {fault}")]
    Fault { what: &'static str, fault: SmtpFault },
    #[error("{what}: a line of more than {LINE} bytes")]
    TooLong { what: &'static str },
    #[error("{what}: SMTP {got} {text}, wanted {wanted}")]
    Unwanted { what: &'static str, got: u16, wanted: u16, text: String },
}

async fn talk(target: &Target, name: &str) -> Result<(), TalkError> {
    let mut lines = Lines::new(connect::tcp(target).await?, LINE);
    reply(target, &mut lines, "greeting", None, Some(220)).await?;
    reply(target, &mut lines, "reply to HELO", Some(format!("HELO {name}\r\n")), Some(250)).await?;
    // Like keepalived: whatever is said to QUIT, only that something is.
    reply(target, &mut lines, "reply to QUIT", Some("QUIT\r\n".to_owned()), None).await
}

/// Sends a command, if any, and reads the reply, which must have the wanted code, if any.
async fn reply(
    target: &Target,
    lines: &mut Lines<TcpStream>,
    what: &'static str,
    command: Option<String>,
    wanted: Option<u16>,
) -> Result<(), TalkError> {
    let lost = |source| TalkError::Lost { what, source };
    let step = async {
        if let Some(command) = command {
            lines.reader().write_all(command.as_bytes()).await.map_err(lost)?;
        }
        let mut reply = SmtpReply::default();
        loop {
            let line = match lines.next().await.map_err(lost)? {
                Line::Whole(line) => line,
                Line::Closed(_) => return Err(TalkError::Closed { what }),
                Line::TooLong => return Err(TalkError::TooLong { what }),
            };
            let code = reply.line(&line).map_err(|fault| TalkError::Fault { what, fault })?;
            if let Some(code) = code {
                return Ok((code, line));
            }
        }
    };
    let after = target.timeout;
    let finished = timeout(after, step).await;
    let (got, line) = finished.map_err(|_elapsed| TalkError::Timeout { what, after })??;
    match wanted {
        Some(wanted) if wanted != got => {
            let text = words::quoted(line.get(4..).unwrap_or_default());
            Err(TalkError::Unwanted { what, got, wanted, text })
        }
        _ => Ok(()),
    }
}

/// Longest line of a reply; RFC 5321 (4.5.3.1.5) allows 512.
const LINE: usize = 2048;

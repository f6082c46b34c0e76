//! The demo's client: one HTTP request per TCP connection, one after the other.
//!
//! **Invariant:** a connection is closed by both sides before the next one opens, and no two of a run have the same
//! client port; so each is one decision of the scheduler, and wlc sees no active connection.
//!
//! Called by the demo.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use elvs_net::bed::{CLIENT, Host, VIP};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::{sleep, timeout};

use super::config::PORT;
use super::server::Answer;
use super::stop::Stop;

/// What is to be sent.
pub(super) struct Requests<'a> {
    /// How many.
    pub number: u16,
    /// Number of the first, of which its client port depends.
    pub first: u16,
    /// Pause before each.
    pub pause: Duration,
    /// Whether the rest is given up after some failures in a row.
    pub give_up: bool,
    /// Asked before each.
    pub stop: &'a Stop,
    /// Told after each.
    pub done: &'a (dyn Fn() + Sync),
}

/// What came of the requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Answered requests by the name of the real server.
    pub answers: BTreeMap<String, u64>,
    /// Client addresses that real servers saw.
    pub seen: BTreeSet<IpAddr>,
    /// Requests that were not answered, with those that were not sent any more.
    pub failed: u64,
    /// Why the first one failed.
    pub first_failure: Option<String>,
    /// From the first request to the last answer.
    pub elapsed: Duration,
}

/// Sends the requests from the client's namespace.
pub(super) fn send(host: &Host, requests: &Requests<'_>) -> Result<Outcome> {
    let sent = host.namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok::<_, io::Error>(runtime.block_on(send_all(requests)))
    });
    sent?.context("cannot start the client")
}

async fn send_all(requests: &Requests<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let start = Instant::now();
    let mut in_a_row = 0;
    for number in (0..requests.number).map(|number| number.wrapping_add(requests.first) % PORTS) {
        if requests.stop.requested() || (requests.give_up && in_a_row >= GIVE_UP_AFTER) {
            outcome.failed += 1;
            continue;
        }
        if !requests.pause.is_zero() {
            sleep(requests.pause).await;
        }
        match timeout(PATIENCE, request(FIRST_PORT + number)).await {
            Ok(Ok(answer)) => {
                in_a_row = 0;
                *outcome.answers.entry(answer.server).or_default() += 1;
                outcome.seen.insert(answer.client);
            }
            Ok(Err(error)) => {
                in_a_row += 1;
                outcome.fail(number, &format!("{error:#}"));
            }
            Err(_) => {
                in_a_row += 1;
                outcome.fail(number, &format!("no answer within {} s", PATIENCE.as_secs()));
            }
        }
        (requests.done)();
    }
    outcome.elapsed = start.elapsed();
    outcome
}

impl Outcome {
    /// Requests that were answered.
    pub fn succeeded(&self) -> u64 {
        self.answers.values().sum()
    }

    fn fail(&mut self, number: u16, why: &str) {
        self.failed += 1;
        self.first_failure
            .get_or_insert_with(|| format!("request {}: {why}", u32::from(number) + 1));
    }
}

/// One connection with one request, read to its end.
async fn request(port: u16) -> Result<Answer> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((CLIENT, port))).context("cannot take a client port")?;
    let mut stream =
        socket.connect(SocketAddr::from((VIP, PORT))).await.context("cannot connect")?;
    let text = format!("GET / HTTP/1.1\r\nHost: {VIP}\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.context("cannot send")?;
    let mut response = Vec::new();
    // The server closes first, so that the client's port is free again at once.
    stream.take(MOST_BYTES).read_to_end(&mut response).await.context("cannot read the answer")?;
    parse(&response)
}

/// Reads the response of a demo server.
fn parse(response: &[u8]) -> Result<Answer> {
    let text = std::str::from_utf8(response).context("the answer is no text")?;
    let (head, body) = text.split_once("\r\n\r\n").context("the answer has no end of its head")?;
    let status = head.split(' ').nth(1).context("the answer has no status")?;
    anyhow::ensure!(status == "200", "the answer has status {status}");
    serde_json::from_str(body).context("the answer is not that of a demo server")
}

/// Port of the first connection; the others follow it.
const FIRST_PORT: u16 = 10_000;

/// Client ports; after the last one the first comes again.
const PORTS: u16 = 50_000;

/// How long a request may take: two lost SYNs are survived.
const PATIENCE: Duration = Duration::from_secs(5);

/// After so many failures in a row the rest is not sent.
const GIVE_UP_AFTER: u8 = 3;

/// A demo server's answer is far shorter.
const MOST_BYTES: u64 = 65_536;

#[cfg(test)]
mod tests;

//! The director of the demo: the product's own daemon, watched through its API.
//!
//! **Invariant:** when a director exists, its program is attached and every next hop is resolved.
//!
//! Called by the demo.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use elvs_api::{Client, ClientError, Status};
use elvs_model::health::WatchedView;

use super::process::Process;
use super::stop::Stop;

/// A running daemon.
pub(super) struct Director {
    process: Process,
    client: Client,
}

/// What the director says of itself at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// How the program is attached, one word per interface.
    pub interfaces: Vec<(String, &'static str)>,
    /// Packets it forwarded, both ways.
    pub packets: u64,
    /// Packets it dropped, by reason.
    pub drops: BTreeMap<String, u64>,
}

impl Director {
    /// Waits until the daemon answers and can forward to all its real servers.
    pub fn wait_ready(
        mut process: Process,
        socket: &Path,
        real_servers: usize,
        stop: &Stop,
    ) -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        let mut connected = None;
        loop {
            stop.check()?;
            process.check_alive()?;
            let mut client = match connected.take() {
                Some(client) => client,
                None => match Client::connect(socket) {
                    Ok(client) => client,
                    Err(ClientError::NoDaemon(_)) if Instant::now() < deadline => {
                        thread::sleep(PAUSE);
                        continue;
                    }
                    Err(e) => return Err(process.failure("does not answer").context(e)),
                },
            };
            let problem = not_ready(
                &client.status().context("cannot read the director's status")?,
                real_servers,
            );
            match problem {
                None => return Ok(Self { process, client }),
                Some(_) if Instant::now() < deadline => connected = Some(client),
                Some(problem) => return Err(process.failure(&format!("is not ready: {problem}"))),
            }
            thread::sleep(PAUSE);
        }
    }

    /// What the director says of itself now.
    pub fn facts(&mut self) -> Result<Facts> {
        let status = self.client.status().context("cannot read the director's status")?;
        let statistics = status.services.iter().map(|service| service.statistics);
        Ok(Facts {
            interfaces: status.interfaces.iter().map(|i| (i.name.clone(), i.mode.name())).collect(),
            packets: statistics.map(|s| s.in_packets + s.out_packets).sum(),
            drops: status.drops.into_iter().map(|drop| (drop.reason, drop.packets)).collect(),
        })
    }

    /// Whether the checks of the one virtual server know something, and its table has so many real servers.
    pub fn knows(
        &mut self,
        known: impl Fn(&WatchedView) -> bool,
        real_servers: usize,
    ) -> Result<bool> {
        let view = self.client.health().context("cannot read the director's checks")?;
        if !view.watched.first().is_some_and(known) {
            return Ok(false);
        }
        let services = self.client.services().context("cannot read the director's table")?;
        Ok(services.first().is_some_and(|service| service.destinations.len() == real_servers))
    }

    /// Ends the daemon in its own way and checks that it did not fail before.
    pub fn stop(mut self) -> Result<()> {
        self.process.check_alive()?;
        self.process.stop();
        Ok(())
    }

    /// Lets the daemon run on.
    pub fn keep(self) {
        self.process.keep();
    }
}

impl Facts {
    /// What came to pass since `before`; reasons without a drop are left out.
    pub fn since(mut self, before: &Self) -> Self {
        self.packets = self.packets.saturating_sub(before.packets);
        for (reason, packets) in &mut self.drops {
            *packets = packets.saturating_sub(before.drops.get(reason).copied().unwrap_or(0));
        }
        self.drops.retain(|_, packets| *packets > 0);
        self
    }

    /// One word if all interfaces agree, else each with its own.
    pub fn xdp_mode(&self) -> String {
        let mut modes = self.interfaces.iter().map(|(_, mode)| *mode);
        match modes.next() {
            Some(first) if modes.all(|mode| mode == first) => first.to_owned(),
            Some(_) => {
                let each = self.interfaces.iter().map(|(name, mode)| format!("{name} {mode}"));
                each.collect::<Vec<_>>().join(", ")
            }
            None => "none".to_owned(),
        }
    }
}

/// What is still missing before the first request may be sent.
fn not_ready(status: &Status, real_servers: usize) -> Option<String> {
    let known: usize = status.services.iter().map(|service| service.destinations.len()).sum();
    if known != real_servers {
        return Some(format!("{known} of {real_servers} real servers are in its table"));
    }
    if status.interfaces.is_empty() {
        return Some("no interface carries its program".to_owned());
    }
    let unresolved = status.unresolved.first()?;
    Some(format!("{}: {}", unresolved.destination, unresolved.problem))
}

/// How long the daemon may take to be ready.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at it.
const PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests;

//! What `elvs demo` can be asked for.
//!
//! **Invariant:** [`Settings`] exist only for what can be run: there is one weight for each real server, and one of
//! them is above 0.
//!
//! Called by the command line (which fills [`Options`]) and by the demo (which reads [`Settings`]).

use anyhow::bail;
use clap::{Args, ValueEnum};
use elvs_model::{ForwardingMethod, Scheduler, TunnelKind};
use elvs_net::bed::{MAX_REAL_SERVERS, Plan};

use super::PREFIX;

/// Options of `elvs demo`.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Forwarding method: direct routing, masquerading or IP-in-IP tunnels
    #[arg(long, value_enum, default_value_t = Mode::Dr)]
    pub mode: Mode,
    /// How a real server is chosen
    #[arg(long, value_enum, default_value_t = DemoScheduler::Rr)]
    pub scheduler: DemoScheduler,
    /// Number of real servers, 1 to 32 [default: one for each weight, or 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_REAL_SERVERS)))]
    pub real_servers: Option<u8>,
    /// Weight of each real server, 0 to 65535 [default: 1 each]
    #[arg(long, value_name = "W,W,..", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(0..=65535))]
    pub weights: Vec<u32>,
    /// Requests to send, one TCP connection each, 1 to 50000
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_REQUESTS)))]
    pub requests: u16,
    /// Let a real server fail, then all of them, then come back: who gets the requests, and how long it takes
    #[arg(long, value_name = "rsN", value_parser = real_server, conflicts_with = "keep")]
    pub fail: Option<u8>,
    /// Leave everything running and say how to look at it
    #[arg(long)]
    pub keep: bool,
    /// Remove what an earlier demo left, and do nothing else
    #[arg(long, conflicts_with = "keep")]
    pub clean: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Number of a real server by its name.
fn real_server(name: &str) -> Result<u8, String> {
    let number = name.strip_prefix("rs").and_then(|number| number.parse().ok());
    number.ok_or_else(|| "real servers are called rs1, rs2, ..".to_owned())
}

/// Forwarding method of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Direct routing.
    Dr,
    /// Masquerading.
    Nat,
    /// IP-in-IP tunnels.
    Tun,
}

impl Mode {
    /// Word of the option and of the report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dr => "dr",
            Self::Nat => "nat",
            Self::Tun => "tun",
        }
    }

    /// The forwarding method it stands for.
    pub const fn method(self) -> ForwardingMethod {
        match self {
            Self::Dr => ForwardingMethod::Dr,
            Self::Nat => ForwardingMethod::Nat,
            Self::Tun => ForwardingMethod::Tun(TunnelKind::Ipip),
        }
    }
}

/// Schedulers whose picks the demo can foretell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DemoScheduler {
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Weighted least connections.
    Wlc,
}

impl DemoScheduler {
    /// The scheduler itself.
    pub const fn scheduler(self) -> Scheduler {
        match self {
            Self::Rr => Scheduler::Rr,
            Self::Wrr => Scheduler::Wrr,
            Self::Wlc => Scheduler::Wlc,
        }
    }
}

/// Options that fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub mode: Mode,
    pub scheduler: DemoScheduler,
    /// One for each real server, `rs1` first.
    pub weights: Vec<u32>,
    pub requests: u16,
    /// Number of the real server that fails first, if the demo is about failures.
    pub fail: Option<u8>,
    pub keep: bool,
    pub json: bool,
}

impl Settings {
    /// The bed these settings need.
    pub fn plan(&self) -> Plan {
        Plan {
            prefix: PREFIX.to_owned(),
            method: self.mode.method(),
            // At most 32, by construction.
            real_servers: u8::try_from(self.weights.len() + usize::from(self.fail.is_some()))
                .unwrap_or(MAX_REAL_SERVERS),
        }
    }

    /// Number of the host that is the sorry server, if there is one.
    pub fn sorry_server(&self) -> Option<u8> {
        self.fail.map(|_| self.plan().real_servers)
    }

    /// What a host calls itself.
    pub fn name(&self, number: u8) -> String {
        if self.sorry_server() == Some(number) { SORRY.to_owned() } else { format!("rs{number}") }
    }
}

impl TryFrom<&Options> for Settings {
    type Error = anyhow::Error;

    fn try_from(options: &Options) -> Result<Self, anyhow::Error> {
        let given = options.weights.len();
        let weights = match (options.real_servers, given) {
            (number, 0) => vec![1; usize::from(number.unwrap_or(DEFAULT_REAL_SERVERS))],
            (Some(number), _) if usize::from(number) != given => bail!(
                "--real-servers {number} and {given} weights contradict each other: give one weight for each real server"
            ),
            _ if given > usize::from(MAX_REAL_SERVERS) => {
                bail!("{given} weights: at most {MAX_REAL_SERVERS} real servers are possible")
            }
            _ => options.weights.clone(),
        };
        if weights.iter().all(|weight| *weight == 0) {
            bail!(
                "every weight is 0, so no real server would get a connection: give one of them 1 or more"
            );
        }
        if let Some(fail) = options.fail {
            check_failure(fail, &weights, options.requests)?;
        }
        Ok(Self {
            fail: options.fail,
            mode: options.mode,
            scheduler: options.scheduler,
            weights,
            requests: options.requests,
            keep: options.keep,
            json: options.json,
        })
    }
}

fn check_failure(fail: u8, weights: &[u32], requests: u16) -> anyhow::Result<()> {
    if fail == 0 || usize::from(fail) > weights.len() {
        bail!("--fail rs{fail}: there are rs1 to rs{}", weights.len());
    }
    if weights.len() < 2 || weights.len() >= usize::from(MAX_REAL_SERVERS) || weights.contains(&0) {
        bail!("--fail needs 2 to {} real servers, each of a weight above 0", MAX_REAL_SERVERS - 1);
    }
    if requests > MAX_REQUESTS_WITH_FAILURES {
        bail!("--fail: at most {MAX_REQUESTS_WITH_FAILURES} --requests, for each of four acts");
    }
    Ok(())
}

/// Name of the sorry server.
pub(super) const SORRY: &str = "sorry";

/// Each act has so many, and client ports are to suffice for all of them.
const MAX_REQUESTS_WITH_FAILURES: u16 = 5_000;

/// Real servers without `--real-servers` and `--weights`.
const DEFAULT_REAL_SERVERS: u8 = 3;

/// Each request has a client port of its own, and all of them are over long before IPVS forgets a closed connection
/// (120 s, lvs FIN_WAIT and TIME_WAIT), on which wlc counts.
const MAX_REQUESTS: u16 = 50_000;

#[cfg(test)]
mod tests;

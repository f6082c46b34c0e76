//! `elvs drain`: a real server that is to be worked at gets no new connections.
//!
//! **Invariant:** the daemon decides; nothing is changed that it refuses.
//!
//! Called by the command line.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use elvs_api::{Client, Drain, Outcome};
use elvs_model::health::Drained;
use elvs_model::{DestinationKey, Family, Protocol, ServiceKey};

/// Options of `elvs drain`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Virtual service of the configuration: `192.0.2.10:80`, `[2001:db8::10]:80`, or a firewall mark
    service: Service,
    /// Its real server: `192.0.2.21:80`; the port is 0 where the configuration gives none
    real_server: SocketAddr,
    /// The service is UDP
    #[arg(long, conflicts_with = "sctp")]
    udp: bool,
    /// The service is SCTP
    #[arg(long)]
    sctp: bool,
    /// The firewall mark is that of IPv6 packets
    #[arg(short = '6', long)]
    ipv6: bool,
    /// It gets new connections again, by the weight that the configuration and its checks give it
    #[arg(long)]
    off: bool,
}

/// What names a virtual service, but for its protocol or family.
#[derive(Clone, Copy, Debug)]
enum Service {
    Address(SocketAddr),
    Mark(u32),
}

impl std::str::FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mark = || text.parse().ok().filter(|mark| *mark != 0).map(Self::Mark);
        text.parse().map(Self::Address).ok().or_else(mark).ok_or_else(|| {
            format!("`{text}` is neither an address with a port nor a firewall mark above 0")
        })
    }
}

/// Has the daemon on `socket` drain a real server, or use it again.
///
/// # Errors
/// No daemon, or a service or real server that its configuration does not have.
pub fn run(options: &Options, socket: &Path) -> Result<ExitCode> {
    let drain = options.drain();
    if let Outcome::Refused { message, .. } = Client::connect(socket)?.drain(drain)? {
        let Drained { service, .. } = drain.server;
        let server = options.real_server;
        bail!("{message}: the configuration must have {service} with {server} to drain it");
    }
    Ok(ExitCode::SUCCESS)
}

impl Options {
    fn drain(&self) -> Drain {
        let service = match self.service {
            Service::Address(at) => {
                let protocol = match (self.udp, self.sctp) {
                    (true, _) => Protocol::Udp,
                    (false, true) => Protocol::Sctp,
                    (false, false) => Protocol::Tcp,
                };
                ServiceKey::Address { protocol, address: at.ip(), port: at.port() }
            }
            Service::Mark(mark) => {
                let family = if self.ipv6 { Family::Inet6 } else { Family::Inet };
                ServiceKey::Fwmark { mark, family }
            }
        };
        let (address, port) = (self.real_server.ip(), self.real_server.port());
        let destination = DestinationKey { address, port };
        Drain { server: Drained { service, destination }, on: !self.off }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Options, run};
    use crate::test_daemon::with_daemon;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        options: Options,
    }

    fn typed(line: &str) -> Options {
        Typed::parse_from(std::iter::once("drain").chain(line.split_whitespace())).options
    }

    #[test]
    fn services_are_named_as_in_the_configuration() {
        for (line, service, on) in [
            ("192.0.2.10:80 192.0.2.21:80", "TCP 192.0.2.10:80", true),
            ("192.0.2.10:53 192.0.2.21:53 --udp", "UDP 192.0.2.10:53", true),
            ("[2001:db8::1]:9 [2001:db8::2]:9 --sctp --off", "SCTP [2001:db8::1]:9", false),
            ("7 192.0.2.21:0", "FWM 7", true),
            ("7 [2001:db8::2]:0 -6", "FWM 7 IPv6", true),
        ] {
            let drain = typed(line).drain();
            assert_eq!((drain.server.service.to_string().as_str(), drain.on), (service, on));
        }
        for line in ["192.0.2.10 192.0.2.21:80", "0 192.0.2.21:0", "7 192.0.2.21"] {
            let words = std::iter::once("drain").chain(line.split_whitespace());
            assert!(Typed::try_parse_from(words).is_err(), "{line}");
        }
    }

    #[test]
    fn what_the_daemon_refuses_is_an_error() {
        with_daemon(|socket| {
            let error = run(&typed("192.0.2.10:80 192.0.2.21:80"), socket).unwrap_err();
            assert!(error.to_string().starts_with("No such service: the configuration"), "{error}");
        });
    }
}

//! `PATH_CHECK` and `AGENT_CHECK`, which keepalived does not have.
//!
//! **Invariant:** a path check knows the packet that it sends: virtual address, port and protocol are a client's.
//!
//! Called by the lowering of checks.

use std::net::IpAddr;
use std::time::Duration;

use elvs_model::health::{AgentCheck, CheckKind, PathCheck, Target};
use elvs_model::{Destination, Family, ForwardingMethod, Protocol, ServiceKey};

use crate::diagnostic::{Code, Reporter};
use crate::lexer::Word;
use crate::lower::{Once, value};
use crate::sources::Extent;
use crate::tree::Item;

const PROTOCOLS: [(&str, Protocol); 2] = [("TCP", Protocol::Tcp), ("UDP", Protocol::Udp)];

/// `PATH_CHECK` before its service is known.
#[derive(Clone)]
pub(super) struct Path {
    vip: Option<(IpAddr, Extent)>,
    port: Option<(u16, Extent)>,
    protocol: Option<(Protocol, Extent)>,
    timeout: Duration,
}

pub(super) fn path(item: &Item, timeout: Duration, reporter: &mut Reporter) -> Option<Path> {
    let mut vip = Once::default();
    let mut port = Once::default();
    let mut protocol = Once::default();
    let mut refused = false;
    for line in item.items() {
        let Some(word) = line.arguments.first() else { continue };
        match line.keyword.text.as_str() {
            "virtual_ip" => match value::host_address("virtual_ip", word, reporter) {
                Some(address) => vip.set(line, address, reporter),
                None => refused = true,
            },
            keyword @ "virtual_port" => {
                let number = value::number(keyword, word, 1, u16::MAX.into(), reporter);
                match number.and_then(|number| u16::try_from(number).ok()) {
                    Some(number) => port.set(line, number, reporter),
                    None => refused = true,
                }
            }
            "protocol" => {
                let upper = Word { text: word.text.to_ascii_uppercase(), ..word.clone() };
                match value::name("protocol", &upper, &PROTOCOLS, reporter) {
                    Some(known) => protocol.set(line, known, reporter),
                    None => refused = true,
                }
            }
            _ => {}
        }
    }
    (!refused).then_some(Path { vip: vip.0, port: port.0, protocol: protocol.0, timeout })
}

impl Path {
    /// The check as a client of `service` reaches the destination.
    pub fn resolve(
        &self,
        service: &ServiceKey,
        destination: &Destination,
        at: Extent,
        reporter: &mut Reporter,
    ) -> Option<CheckKind> {
        let (vip, port, protocol) = match *service {
            ServiceKey::Address { protocol, address, port } => {
                self.only_marks(reporter);
                // A service on every port is tried on the one that is said.
                let own = if port == 0 { self.port.map_or(0, |(port, _)| port) } else { port };
                (Some(address), own, Some(protocol))
            }
            ServiceKey::Fwmark { .. } => (
                self.vip.map(|(vip, _)| vip),
                self.port.map_or(0, |(port, _)| port),
                self.protocol.map(|(protocol, _)| protocol),
            ),
        };
        let missing = match (vip, port, protocol) {
            (None, ..) => Some("virtual_ip ADDRESS"),
            (Some(_), _, None) => Some("protocol TCP|UDP"),
            (Some(_), 0, Some(_)) => Some("virtual_port PORT"),
            (Some(_), _, Some(_)) => None,
        };
        if let Some(missing) = missing {
            reporter
                .error(Code::MissingArgument, at, "PATH_CHECK does not know which packet to send")
                .help(format!("write `{missing}` in it: {service} does not say"));
            return None;
        }
        let (vip, protocol) = vip.zip(protocol)?;
        self.fits(service, vip, protocol, destination, at, reporter).then(|| {
            let own = destination.key.port;
            let mapped =
                matches!(destination.method, ForwardingMethod::Nat | ForwardingMethod::FullNat);
            CheckKind::Path(PathCheck {
                vip,
                port,
                protocol,
                real_server: destination.key.address,
                real_port: if mapped && own != 0 { own } else { port },
                method: destination.method,
                timeout: self.timeout,
            })
        })
    }

    /// Whether such a probe can be sent.
    fn fits(
        &self,
        service: &ServiceKey,
        vip: IpAddr,
        protocol: Protocol,
        destination: &Destination,
        at: Extent,
        reporter: &mut Reporter,
    ) -> bool {
        if protocol == Protocol::Sctp {
            reporter
                .error(Code::NotInEffect, at, "PATH_CHECK is for TCP and UDP services")
                .help("use another check here");
            return false;
        }
        let at = self.vip.map_or(at, |(_, at)| at);
        if Family::of(vip) != service.family() {
            let message = format!("virtual_ip {vip} is not of the virtual server's family");
            reporter
                .error(Code::MixedFamilies, at, message)
                .help("write an address of the family of `ip_family`");
            return false;
        }
        if vip == destination.key.address {
            let message = format!("virtual_ip {vip} is the real server itself");
            reporter
                .error(Code::InvalidValue, at, message)
                .help("write the address that clients connect to");
            return false;
        }
        true
    }

    /// Reports what a service by address says itself.
    fn only_marks(&self, reporter: &mut Reporter) {
        let places = [
            ("virtual_ip", self.vip.map(|(_, at)| at)),
            ("protocol", self.protocol.map(|(_, at)| at)),
        ];
        for (keyword, at) in places {
            let Some(at) = at else { continue };
            let message =
                format!("`{keyword}` is for services by firewall mark: the service's own is used");
            reporter.warning(Code::NoEffect, at, message).help("remove it");
        }
    }
}

/// `AGENT_CHECK`.
pub(super) fn agent(
    item: &Item,
    target: Target,
    has_port: bool,
    reporter: &mut Reporter,
) -> Option<CheckKind> {
    let mut send = Once::default();
    for line in item.items().iter().filter(|line| line.keyword.text == "send") {
        if let Some(word) = line.arguments.first() {
            let text = word.text.replace("\\r", "\r").replace("\\n", "\n");
            send.set(line, text, reporter);
        }
    }
    if !has_port {
        reporter
            .error(Code::MissingArgument, item.head(), "AGENT_CHECK has no `connect_port`")
            .help("write `connect_port PORT`: the agent listens on a port of its own");
        return None;
    }
    Some(CheckKind::Agent(AgentCheck { target, send: send.get().cloned() }))
}

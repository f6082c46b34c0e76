//! Where a check connects to: `connect_ip`, `connect_port`, `bindto`, `bind_port`, `bind_if`, `fwmark`.
//!
//! **Invariant:** both ends of a connection are of one family, and a link-local address comes with its interface.
//!
//! Called for every check that connects, and for the hosts of `SMTP_CHECK`.

use std::net::{IpAddr, SocketAddr};

use elvs_model::Family;
use elvs_model::health::Target;

use super::Around;
use crate::diagnostic::{Code, Reporter};
use crate::lower::timing::Times;
use crate::lower::{Once, value};
use crate::tree::Item;

/// Statements of one block.
#[derive(Default)]
pub(super) struct Connection {
    address: Once<IpAddr>,
    port: Once<u16>,
    source: Once<IpAddr>,
    source_port: Once<u16>,
    interface: Once<String>,
    mark: Once<u32>,
}

impl Connection {
    /// Takes a statement, if it is one of these.
    pub fn read(&mut self, item: &Item, reporter: &mut Reporter) {
        let keyword = item.keyword.text.as_str();
        let Some(word) = item.arguments.first() else { return };
        let port = |reporter: &mut Reporter| {
            let port = value::number(keyword, word, 1, u16::MAX.into(), reporter)?;
            u16::try_from(port).ok()
        };
        match keyword {
            "connect_ip" => {
                if let Some(address) = value::host_address(keyword, word, reporter) {
                    self.address.set(item, address, reporter);
                }
            }
            "connect_port" => {
                if let Some(port) = port(reporter) {
                    self.port.set(item, port, reporter);
                }
            }
            "bindto" => {
                if let Some(address) = value::host_address(keyword, word, reporter) {
                    self.source.set(item, address, reporter);
                }
            }
            "bind_port" => {
                if let Some(port) = port(reporter) {
                    self.source_port.set(item, port, reporter);
                }
            }
            "bind_if" => {
                if let Some(name) = value::interface(word, reporter) {
                    self.interface.set(item, name, reporter);
                }
            }
            "fwmark" => {
                if let Some(mark) = value::number(keyword, word, 0, u32::MAX, reporter) {
                    self.mark.set(item, mark, reporter);
                }
            }
            _ => {}
        }
    }

    /// Whether anything is said.
    pub const fn is_given(&self) -> bool {
        self.address.0.is_some()
            || self.port.0.is_some()
            || self.source.0.is_some()
            || self.source_port.0.is_some()
            || self.interface.0.is_some()
            || self.mark.0.is_some()
    }

    /// Reports ports of a check that knows none.
    pub fn without_ports(&self, reporter: &mut Reporter) {
        for at in [self.port.place(), self.source_port.place()].into_iter().flatten() {
            reporter
                .warning(Code::NoEffect, at, "an echo request has no port")
                .help("remove the line, or write TCP_CHECK");
        }
    }

    /// Whether a port is said.
    pub const fn has_port(&self) -> bool {
        self.port.0.is_some()
    }

    /// Where to; port 0 = that of the destination.
    pub fn target(&self, around: &Around<'_>, times: &Times) -> Target {
        let address = self.address.get().copied().unwrap_or(around.address);
        let port = self.port.get().copied().unwrap_or(around.port);
        Target {
            address: SocketAddr::new(address, port),
            source: self.source.get().copied(),
            source_port: self.source_port.get().copied(),
            interface: self.interface.get().cloned(),
            mark: self.mark.get().copied().unwrap_or(0),
            timeout: times.timeout(),
        }
    }

    /// Reports ends that do not go together.
    pub fn check(&self, around: &Around<'_>, item: &Item, reporter: &mut Reporter) {
        let to = self.address.get().copied().unwrap_or(around.address);
        if let Some((from, at)) = self.source.0
            && Family::of(from) != Family::of(to)
        {
            let message = format!("bindto {from} is not of the family of {to}");
            reporter
                .error(Code::MixedFamilies, at, message)
                .help("connect from an address of the family that is connected to");
        }
        if matches!(to, IpAddr::V6(v6) if v6.is_unicast_link_local())
            && self.interface.get().is_none()
        {
            let message = format!("{to} is a link-local address: on which interface is it?");
            reporter
                .error(Code::MissingArgument, item.head(), message)
                .help("write `bind_if INTERFACE` in the check");
        }
    }
}

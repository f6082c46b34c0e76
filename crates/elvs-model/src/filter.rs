//! Which connections are listed: the filters of `ipvsadm -Lc` that are ELVS's own.
//!
//! **Invariant:** a filter with nothing in it passes every connection; of several values of one kind one must fit, and of
//! several kinds every one.
//!
//! Called by the command line, which builds it, and by the daemon, which applies it, so that what is not asked for is
//! not sent.

use core::fmt;
use core::str::FromStr;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::{ConnectionState, ConnectionView};

/// Which connections are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionFilter {
    /// Clients; empty = all.
    pub clients: Vec<EndpointFilter>,
    /// Real servers; empty = all.
    pub real_servers: Vec<EndpointFilter>,
    /// States; empty = all.
    pub states: Vec<ConnectionState>,
}

impl ConnectionFilter {
    /// Whether a connection is listed.
    pub fn passes(&self, connection: &ConnectionView) -> bool {
        let any = |filters: &[EndpointFilter], end| {
            filters.is_empty() || filters.iter().any(|filter| filter.passes(end))
        };
        any(&self.clients, connection.client)
            && any(&self.real_servers, connection.destination)
            && (self.states.is_empty() || self.states.contains(&connection.state))
    }

    /// The filter as pairs of name and value: `client`, `real_server`, `state`.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, String)> {
        let clients = self.clients.iter().map(|filter| (CLIENT, filter.to_string()));
        let servers = self.real_servers.iter().map(|filter| (REAL_SERVER, filter.to_string()));
        let states = self.states.iter().map(|state| (STATE, state.name().to_owned()));
        clients.chain(servers).chain(states)
    }

    /// Takes in one such pair.
    ///
    /// # Errors
    /// A name or value that is none.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), FilterError> {
        match name {
            CLIENT => self.clients.push(value.parse()?),
            REAL_SERVER => self.real_servers.push(value.parse()?),
            STATE => self.states.push(value.parse()?),
            _ => return Err(FilterError::Name(name.to_owned())),
        }
        Ok(())
    }
}

const CLIENT: &str = "client";
const REAL_SERVER: &str = "real_server";
const STATE: &str = "state";

/// A prefix of addresses, and a port if only that one is meant: `203.0.113.0/24`, `203.0.113.5:443`,
/// `[2001:db8::/32]:443`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointFilter {
    /// Addresses.
    pub prefix: IpNet,
    /// Port; `None` = all.
    pub port: Option<u16>,
}

impl EndpointFilter {
    fn passes(&self, end: SocketAddr) -> bool {
        self.prefix.contains(&end.ip()) && self.port.is_none_or(|port| port == end.port())
    }
}

impl fmt::Display for EndpointFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.port, self.prefix) {
            (None, prefix) => write!(f, "{prefix}"),
            (Some(port), IpNet::V4(prefix)) => write!(f, "{prefix}:{port}"),
            (Some(port), IpNet::V6(prefix)) => write!(f, "[{prefix}]:{port}"),
        }
    }
}

impl FromStr for EndpointFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let refused = || FilterError::Endpoint(text.to_owned());
        let (address, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']').ok_or_else(refused)?;
                match rest.strip_prefix(':') {
                    Some(port) => (address, Some(port)),
                    None if rest.is_empty() => (address, None),
                    None => return Err(refused()),
                }
            }
            // More than one colon is an IPv6 address without a port.
            None => match text.split_once(':') {
                Some((address, port)) if !port.contains(':') => (address, Some(port)),
                Some(_) | None => (text, None),
            },
        };
        let prefix: IpNet = match address.parse::<IpAddr>() {
            Ok(address) => address.into(),
            Err(_) => address.parse().ok().ok_or_else(refused)?,
        };
        let port = match port {
            Some(port) => Some(port.parse().ok().ok_or_else(refused)?),
            None => None,
        };
        Ok(Self { prefix: prefix.trunc(), port })
    }
}

impl FromStr for ConnectionState {
    type Err = FilterError;

    /// The word that `ipvsadm -Lc` prints, in capitals or not.
    fn from_str(text: &str) -> Result<Self, FilterError> {
        let found = Self::ALL.into_iter().find(|state| state.name().eq_ignore_ascii_case(text));
        found.ok_or_else(|| FilterError::State(text.to_owned()))
    }
}

/// Why a filter cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// Not an address, prefix or port.
    #[error(
        "`{0}` is no address or prefix with an optional port: write for example 203.0.113.0/24, 203.0.113.5:443 or \
         [2001:db8::/32]:443"
    )]
    Endpoint(String),
    /// Not a state.
    #[error("`{0}` is no state of a connection: write one of {names}", names = state_names())]
    State(String),
    /// Not a kind of filter.
    #[error(
        "`{0}` is no filter of connections: those there are, are client, real_server and state"
    )]
    Name(String),
}

fn state_names() -> String {
    ConnectionState::ALL.map(ConnectionState::name).join(", ")
}

#[cfg(test)]
mod tests;

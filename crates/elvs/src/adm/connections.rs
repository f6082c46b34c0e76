//! `ipvsadm -Lc`: connections, one a line as they arrive.
//!
//! **Invariant:** no more than one connection is held at a time, so that a million can be listed.
//!
//! Called by the runner.

use std::io::{self, Write};

use elvs_model::{ConnectionView, Protocol};

use super::format::Namer;

/// Titles.
pub(super) fn title(persistent: bool, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "IPVS connection entries")?;
    write!(out, "pro expire state       source             virtual            ")?;
    if persistent {
        writeln!(out, "{:<18} {:<16} pe_data", "destination", "pe name")
    } else {
        writeln!(out, "destination")
    }
}

/// One connection.
pub(super) fn line(
    connection: &ConnectionView,
    persistent: bool,
    namer: Namer<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let protocol = match connection.protocol {
        6 => Some(Protocol::Tcp),
        17 => Some(Protocol::Udp),
        _ => None,
    };
    let name = match connection.protocol {
        6 => "TCP",
        17 => "UDP",
        132 => "SCTP",
        _ => "IP",
    };
    let [client, service, destination] =
        [connection.client, connection.service, connection.destination]
            .map(|end| namer.endpoint(end.ip(), end.port(), protocol));
    let (minutes, seconds) = (connection.expires_s / 60, connection.expires_s % 60);
    let expires = format!("{minutes:02}:{seconds:02}");
    let state = connection.state.name();
    write!(out, "{name:<3} {expires:<6} {state:<11} {client:<18} {service:<18} ")?;
    match &connection.engine {
        Some((engine, data)) if persistent => {
            writeln!(out, "{destination:<16} {engine:<18} {data}")
        }
        Some(_) | None => writeln!(out, "{destination}"),
    }
}

//! The profiles: which packet of which service is measured, and what has to happen before it.

use anyhow::{Result, bail};
use elvs_model::{ForwardingMethod, Scheduler};

use crate::packets::{DATAGRAM, FIRST, FIRST_REPLY, FOREIGN, Packet, REPLY, SEGMENT};
use crate::services::{Beside, GRE, GUE, IPIP, PLAIN, Setup};

/// One profile.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Name in the output.
    pub name: &'static str,
    /// The service.
    pub setup: Setup,
    /// Packets of every flow that are sent before, without being measured.
    pub prepare: &'static [Packet],
    /// The packet that is measured.
    pub packet: Packet,
    /// What the packet does.
    pub kind: Kind,
    /// Flows of one client; a power of two.
    pub per_client: u64,
    /// Most flows that are worth their time.
    pub most_flows: u64,
}

impl Profile {
    /// Whether it is measured with that number of flows: one opening packet is over before it can be timed.
    pub fn has(&self, flows: u64) -> bool {
        flows <= self.most_flows && (flows > 1 || self.kind != Kind::Opens)
    }
}

/// What a measured packet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is of a known connection.
    Known,
    /// It opens a connection, so the table is emptied before each run.
    Opens,
    /// It passes.
    Passes,
}

/// Name of the measurement that is no packet's: one load from the flow table that waits for the one before.
pub const TABLE_LOAD: &str = "one-table-load";
/// Most flows of any profile.
pub const MOST_FLOWS: u64 = 1 << 20;

const NAT: ForwardingMethod = ForwardingMethod::Nat;
const FULL_NAT: ForwardingMethod = ForwardingMethod::FullNat;
/// A client's part of the handshake.
const OPENED: &[Packet] = &[FIRST, SEGMENT];
/// A whole handshake, and a segment of the real server's.
const ANSWERED: &[Packet] = &[FIRST, FIRST_REPLY, SEGMENT, REPLY];

/// Every profile; those that can have one instance after the other are side by side.
pub const PROFILES: &[Profile] = &[
    known("dr-tcp-established", PLAIN, OPENED, SEGMENT),
    known("nat-request", PLAIN.by(NAT), OPENED, SEGMENT),
    known("nat-reply", PLAIN.by(NAT), OPENED, REPLY),
    known("tun-ipip", PLAIN.by(IPIP), OPENED, SEGMENT),
    known("udp-established", PLAIN, &[DATAGRAM], DATAGRAM),
    opens("new-flow", PLAIN),
    opens("new-wlc-16", PLAIN.scheduled(Scheduler::Wlc, 16)),
    Profile {
        most_flows: 1 << 16,
        ..opens("new-wlc-1024", PLAIN.scheduled(Scheduler::Wlc, 1_024))
    },
    opens("new-sh-16", PLAIN.scheduled(Scheduler::Sh, 16)),
    opens("new-mh-16", PLAIN.scheduled(Scheduler::Mh, 16)),
    opens("new-persistent", PLAIN.persistent()),
    // A template for each connection: together they would fill the table.
    Profile {
        per_client: 1,
        most_flows: 1 << 16,
        ..opens("new-persistent-first", PLAIN.persistent())
    },
    opens("new-fwmark", PLAIN.marked()),
    passes("not-ours", PLAIN.by(NAT)),
    known("tun-gue", PLAIN.by(GUE), OPENED, SEGMENT),
    known("tun-gre", PLAIN.by(GRE), OPENED, SEGMENT),
    known("fullnat-request", PLAIN.by(FULL_NAT), ANSWERED, SEGMENT),
    known("fullnat-reply", PLAIN.by(FULL_NAT), ANSWERED, REPLY),
    known("fullnat-toa", PLAIN.by(FULL_NAT), OPENED, SEGMENT),
    opens("new-fullnat", PLAIN.by(FULL_NAT)),
    known("dr6-tcp-established", PLAIN.of_ipv6(), OPENED, SEGMENT),
    known("nat6-request", PLAIN.by(NAT).of_ipv6(), OPENED, SEGMENT),
    known("nat6-reply", PLAIN.by(NAT).of_ipv6(), OPENED, REPLY),
    known("tun6-ipip", PLAIN.by(IPIP).of_ipv6(), OPENED, SEGMENT),
    known("udp6-established", PLAIN.of_ipv6(), &[DATAGRAM], DATAGRAM),
    opens("new6-flow", PLAIN.of_ipv6()),
    passes("not-ours6", PLAIN.by(NAT).of_ipv6()),
    known("fullnat6-request", PLAIN.by(FULL_NAT).of_ipv6(), ANSWERED, SEGMENT),
    known("fullnat6-reply", PLAIN.by(FULL_NAT).of_ipv6(), ANSWERED, REPLY),
    known("fullnat6-toa", PLAIN.by(FULL_NAT).of_ipv6(), OPENED, SEGMENT),
    opens("new6-fullnat", PLAIN.by(FULL_NAT).of_ipv6()),
    known("dr-beside-others", PLAIN.beside(Beside::Others), OPENED, SEGMENT),
    known("nat-request-beside-others", PLAIN.by(NAT).beside(Beside::Others), OPENED, SEGMENT),
    known("nat-reply-beside-others", PLAIN.by(NAT).beside(Beside::Others), OPENED, REPLY),
    opens("new-flow-beside-others", PLAIN.beside(Beside::Others)),
    passes("not-ours-beside-others", PLAIN.by(NAT).beside(Beside::Others)),
    known("dr-beside-marks", PLAIN.beside(Beside::Marks), OPENED, SEGMENT),
    opens("new-flow-beside-marks", PLAIN.beside(Beside::Marks)),
    passes("not-ours-beside-marks", PLAIN.by(NAT).beside(Beside::Marks)),
];

const fn known(
    name: &'static str,
    setup: Setup,
    prepare: &'static [Packet],
    packet: Packet,
) -> Profile {
    Profile {
        name,
        setup,
        prepare,
        packet,
        kind: Kind::Known,
        per_client: 1_024,
        most_flows: MOST_FLOWS,
    }
}

const fn opens(name: &'static str, setup: Setup) -> Profile {
    Profile { kind: Kind::Opens, ..known(name, setup, &[], FIRST) }
}

const fn passes(name: &'static str, setup: Setup) -> Profile {
    Profile { kind: Kind::Passes, ..known(name, setup, &[], FOREIGN) }
}

/// Which measurements were asked for.
#[derive(Debug)]
pub struct Chosen<'a>(&'a [String]);

impl<'a> Chosen<'a> {
    /// Of words that each are a name, or a part of one; none stands for all.
    ///
    /// # Errors
    ///
    /// A word that names nothing, with all names.
    pub fn new(words: &'a [String]) -> Result<Self> {
        for word in words {
            if !names().any(|name| name.contains(word.as_str())) {
                let names: Vec<_> = names().collect();
                bail!("no profile has `{word}` in its name; there are {}", names.join(", "));
            }
        }
        Ok(Self(words))
    }

    /// Whether a measurement is among them. A word that is a whole name stands for that one alone.
    pub fn has(&self, name: &str) -> bool {
        let fits = |word: &String| {
            let whole = names().any(|known| known == word);
            if whole { name == word } else { name.contains(word.as_str()) }
        };
        self.0.is_empty() || self.0.iter().any(fits)
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    PROFILES.iter().map(|profile| profile.name).chain([TABLE_LOAD])
}

#[cfg(test)]
mod tests;

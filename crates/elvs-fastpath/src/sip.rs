//! The SIP persistence engine: a service's clients are told apart by the Call-ID of their messages (`ip_vs_pe_sip`).
//!
//! **Invariant:** a Call-ID is found exactly where the kernel finds it; a packet that has none is dropped and counted, as by
//! IPVS.
//!
//! Called by [`crate::director`] for services with the engine only, before [`crate::persist`] and its like.

mod scan;
mod server;

use elvs_common::{CallHash, Counter, UDP, WideAddress, caller};

pub use self::server::{open_for_server, send_for_server};
use crate::flow::{FlowKey, WideValue};
use crate::frame::{Action, Frame};
use crate::host::{Host, Note, drop};
use crate::open::Path;
use crate::schedule::{Asked, Located, Pick};
use crate::side::Wide;
use crate::wide::{WidePacket, parse};

/// Bytes of a UDP header.
const UDP_HEADER: u64 = 8;
/// Bit of [`Note::CallFor`]: the connections of the service are in the wide table.
const IN_WIDE: u64 = 1;
/// Bit of it: packets are scheduled one by one.
const ONCE: u64 = 2;

/// Leaves a packet to [`find_call`]; what counts of its client's address is noted already.
#[inline(always)]
pub(crate) fn look_for_call<P: Path, H: Host>(host: &H, once: bool) -> Action {
    let table = if P::IS_WIDE { IN_WIDE } else { 0 };
    host.note(Note::CallFor, table | if once { ONCE } else { 0 });
    Action::SIP
}

/// The stage before [`persist`](crate::persist), or the like of it, for services with the engine: notes the hash of the
/// packet's Call-ID and where its template leads, and keeps for the daemon what it is of.
#[inline(always)]
pub fn find_call<H: Host, F: Frame>(host: &H, frame: &mut F) -> Action {
    let Some((packet, transport)) = parse(host, frame) else { return Action::PASS };
    if packet.protocol != UDP {
        return drop(host, Counter::NoCallId);
    }
    let client = WideAddress([host.noted(Note::CallClient), host.noted(Note::CallClientEnd)]);
    let hash = note_call(host, frame, &packet, client);
    if hash == 0 {
        return drop(host, Counter::NoCallId);
    }
    let service = host.noted(Note::CallFor);
    let key = Wide::key(&packet, &transport);
    if service & ONCE == 0 {
        keep_caller(host, &key, hash);
    }
    let (picked, remember) = if service & IN_WIDE == 0 {
        (host.pick(&key.fold(), frame.ingress(), Asked::Call), Action::PERSIST)
    } else {
        (host.wide_pick(&key, frame.ingress(), Asked::Call), Action::WIDE_PERSIST)
    };
    host.note(Note::CallFor, located(picked).into());
    remember
}

/// Finds the Call-ID of a packet, notes its hash and keeps it for the daemon; the hash, 0 if there is none.
#[inline(always)]
fn note_call<H: Host, F: Frame>(
    host: &H,
    frame: &mut F,
    packet: &WidePacket,
    client: WideAddress,
) -> u64 {
    let start = packet.payload as u64 + UDP_HEADER;
    let end = packet.offset as u64 + packet.length as u64;
    let found = scan::find(|value| host.forget(value), frame, start, end, seed(host, client));
    if !found.hit {
        return 0;
    }
    let hash = CallHash::of_bits(found.hash);
    host.note(Note::Call, hash.0);
    if !host.knows_call(hash) {
        scan::copy(host, frame, start + found.place, found.length);
        if !host.keep_call(hash, client, found.length) {
            host.count(Counter::CallsFull);
        }
    }
    hash.0
}

/// Keeps which call a connection is of.
#[inline(always)]
fn keep_caller<H: Host>(host: &H, key: &FlowKey<WideValue>, hash: u64) {
    let caller = caller(key.addresses, key.ports, key.protocol);
    if !host.keep_caller(&caller, CallHash(hash)) {
        host.count(Counter::CallsFull);
    }
}

/// Where the template of a Call-ID leads; without one the stage after this makes it.
#[inline(always)]
const fn located(picked: Pick) -> Located {
    match picked {
        Pick::Destination(index) => Located::Destination(index),
        Pick::Once(index) => Located::Once(index),
        Pick::Nobody
        | Pick::Contended
        | Pick::NoService
        | Pick::NoTemplate
        | Pick::ByCall
        | Pick::OnceByCall
        | Pick::Shed
        | Pick::Bypass => Located::Newcomer(0),
    }
}

/// What [`find_call`] found for this packet: a [`Located`] as a word. 0 if there is no template, or it was not asked.
#[inline(always)]
pub(crate) fn found_by_call<H: Host>(host: &H) -> u64 {
    if host.noted(Note::Call) == 0 { 0 } else { host.noted(Note::CallFor) }
}

/// What the hash of a client's Call-IDs begins with, and is multiplied by.
#[inline(always)]
fn seed<H: Host>(host: &H, client: WideAddress) -> [u64; 2] {
    let ([add, multiply], WideAddress([first, second])) = (host.seed(), client);
    let mixed = (first ^ add).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 32 ^ second).wrapping_mul(multiply | 1);
    [mixed ^ mixed >> 29, multiply]
}

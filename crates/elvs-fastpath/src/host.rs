//! What the decision core needs from whoever runs it.

use elvs_common::{Counter, DestinationRecord, DestinationStats, Line, NextHop};

use crate::atomic::Atomic64;
use crate::flow::{FlowKey, FlowMemory};
use crate::frame::Action;
use crate::schedule::{Pick, pick};

/// The tables and the clock.
///
/// Methods that return `Option` answer `None` for an index outside their table, nothing else.
pub trait Host: FlowMemory {
    /// Tick of now; see [`elvs_common::Settings`].
    fn tick(&self) -> u32;

    /// Buckets that hash values map to.
    fn buckets(&self) -> u32;

    /// Secret of the flow hash.
    fn seed(&self) -> [u64; 2];

    /// Line of the configuration in force. All lines read for one packet come from the same blob.
    fn line(&self, index: u32) -> Option<&Line>;

    /// Destination of an index.
    fn destination(&self, index: u32) -> Option<&DestinationRecord>;

    /// Load word of a destination.
    fn load(&self, index: u32) -> Option<&Self::Word>;

    /// Scheduler word of a service.
    fn scheduler(&self, index: u32) -> Option<&Self::Word>;

    /// Adds to this CPU's statistics of a destination.
    fn add_stats(&self, index: u32, added: DestinationStats);

    /// A random number; the kernel's own generator in the kernel.
    fn random(&self) -> u32;

    /// Chooses the destination of a new connection.
    ///
    /// In the kernel this is a function that the verifier walks through by itself: schedulers are mostly loops.
    #[inline(always)]
    fn pick(&self, opening: &FlowKey) -> Pick
    where
        Self: Sized,
    {
        pick(self, opening)
    }

    /// Idle ticks after which a connection in `state` may be replaced.
    fn timeout(&self, protocol: u8, state: u8) -> u32;

    /// Counts.
    fn count(&self, counter: Counter);

    /// Where replies to a client go.
    ///
    /// `learned` is given with the first packet of a connection: the hop it came from, to be used while the routing
    /// table has no resolved neighbour.
    fn client_hop(&self, client: u32, learned: Option<NextHop>) -> ClientHop;

    /// The same pointer, but the compiler does not know.
    ///
    /// Without it the compiler joins the paths on which something was found and on which it was not before it tests
    /// which it is, and moves registers that were never set; the kernel's verifier refuses that.
    #[inline(always)]
    fn opaque<'a, T>(&self, pointer: Option<&'a T>) -> Option<&'a T> {
        pointer
    }

    /// The same value, but the kernel's verifier does not know it any more and walks through what follows once instead
    /// of once for every value it may have.
    #[inline(always)]
    fn forget(&self, value: usize) -> usize {
        value
    }

    /// Next hop towards an address by the kernel's routing table, for when the daemon has given none.
    fn route(&self, address: u32) -> Option<NextHop>;
}

/// Answer of [`Host::client_hop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientHop {
    /// Send it there.
    Known(NextHop),
    /// No route, or its neighbour is not resolved.
    Unknown,
}

/// Adds `delta` to a destination's load; an index outside the table is a bug and counted as one.
#[inline(always)]
pub(crate) fn add_load<H: Host>(host: &H, destination: u32, delta: u64) {
    match host.load(destination) {
        Some(word) => {
            word.fetch_add(delta);
        }
        None => host.count(Counter::Bug),
    }
}

/// Drops a packet and counts why.
#[inline(always)]
pub(crate) fn drop<H: Host>(host: &H, why: Counter) -> Action {
    host.count(why);
    Action::DROP
}

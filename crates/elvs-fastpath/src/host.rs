//! What the decision core needs from whoever runs it.

use elvs_common::{
    CallHash, Caller, Control, Counter, DestinationLoad, DestinationRecord, DestinationStats, Line,
    NextHop, WideAddress,
};

use crate::atomic::Atomic64;
use crate::flood::has_room;
use crate::flow::{FlowKey, FlowMemory, WideValue};
use crate::fragment::{Fragment, FragmentKey};
use crate::frame::Action;
use crate::open::{Remembered, memorize, remember, remember_provisional};
use crate::schedule::{Asked, Located, Pick, locate, pick, pick_stable};
use crate::sctp::{checksum_change, next_sctp_state};
use crate::side::{Narrow, Wide};
use crate::tcp::{Direction, TcpFlags};
use crate::wide::{WideFragment, WideFragmentKey, WideMemory};

/// The tables and the clock.
///
/// Methods that return `Option` answer `None` for an index outside their table, nothing else.
pub trait Host: FlowMemory<Addresses = <Self as FlowMemory>::Word> {
    /// The wide flow table.
    type Wide: WideMemory<Word = Self::Word>;

    /// The wide flow table.
    fn wide(&self) -> &Self::Wide;

    /// Buckets of the wide table that hash values map to.
    fn wide_buckets(&self) -> u32;

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

    /// Chooses the destination of a new connection; see [`pick`].
    ///
    /// In the kernel this is a function that the verifier walks through by itself: schedulers are mostly loops.
    #[inline(always)]
    fn pick(&self, opening: &FlowKey, ingress: u32, asked: Asked) -> Pick
    where
        Self: Sized,
    {
        pick::<Narrow, _>(self, opening, ingress, asked)
    }

    /// As [`Self::pick`], for the wide table.
    #[inline(always)]
    fn wide_pick(&self, opening: &FlowKey<WideValue>, ingress: u32, asked: Asked) -> Pick
    where
        Self: Sized,
    {
        pick::<Wide, _>(self, opening, ingress, asked)
    }

    /// Looks for the least loaded destination of an address's set; see [`locate`]. A function of its own in the kernel.
    #[inline(always)]
    fn locate(&self, opening: &FlowKey, ingress: u32) -> Located
    where
        Self: Sized,
    {
        locate::<Narrow, _>(self, opening, ingress)
    }

    /// As [`Self::locate`], for the wide table.
    #[inline(always)]
    fn wide_locate(&self, opening: &FlowKey<WideValue>, ingress: u32) -> Located
    where
        Self: Sized,
    {
        locate::<Wide, _>(self, opening, ingress)
    }

    /// Puts an entry into the flow table, in the kernel by a function of its own as well.
    #[inline(always)]
    fn remember(&self, key: &FlowKey, control: Control, destination: u32) -> Remembered
    where
        Self: Sized,
    {
        remember::<Narrow, _>(self, key, control, destination)
    }

    /// As [`Self::remember`], into the wide table.
    #[inline(always)]
    fn wide_remember(
        &self,
        key: &FlowKey<WideValue>,
        control: Control,
        destination: u32,
    ) -> Remembered
    where
        Self: Sized,
    {
        remember::<Wide, _>(self, key, control, destination)
    }

    /// Remembers a scheduler's choice; see [`memorize`].
    #[inline(always)]
    fn memorize(&self, opening: &FlowKey, ingress: u32, destination: u32, place: u16) -> Remembered
    where
        Self: Sized,
    {
        memorize::<Narrow, _>(self, opening, ingress, destination, place)
    }

    /// The same key, where there is room for it.
    #[inline(always)]
    fn wide_stash<'a>(&'a self, key: &'a FlowKey<WideValue>) -> &'a FlowKey<WideValue> {
        key
    }

    /// As [`Self::memorize`], in the wide table.
    #[inline(always)]
    fn wide_memorize(
        &self,
        opening: &FlowKey<WideValue>,
        ingress: u32,
        destination: u32,
        place: u16,
    ) -> Remembered
    where
        Self: Sized,
    {
        memorize::<Wide, _>(self, opening, ingress, destination, place)
    }

    /// State of an SCTP association after a packet; see [`next_sctp_state`]. A function of its own in the kernel: there are 30
    /// rows to tell apart.
    #[inline(always)]
    fn sctp_state(&self, direction: Direction, state: u8, flags: TcpFlags) -> u8 {
        next_sctp_state(direction, state, flags)
    }

    /// What other ports change a checksum of SCTP by; see [`checksum_change`]. A function of its own in the kernel as well.
    #[inline(always)]
    fn sctp_checksum_change(&self, ports: u32, length: u32) -> u32 {
        checksum_change(ports, length)
    }

    /// Chooses a destination that need not be remembered; see [`pick_stable`]. A function of its own in the kernel.
    #[inline(always)]
    fn pick_stable(&self, opening: &FlowKey, ingress: u32) -> Pick
    where
        Self: Sized,
    {
        pick_stable::<Narrow, _>(self, opening, ingress)
    }

    /// As [`Self::pick_stable`], for the wide table.
    #[inline(always)]
    fn wide_pick_stable(&self, opening: &FlowKey<WideValue>, ingress: u32) -> Pick
    where
        Self: Sized,
    {
        pick_stable::<Wide, _>(self, opening, ingress)
    }

    /// As [`Self::remember`], in a place for entries that give way; see [`remember_provisional`].
    #[inline(always)]
    fn remember_provisional(&self, key: &FlowKey, control: Control, destination: u32) -> Remembered
    where
        Self: Sized,
    {
        remember_provisional::<Narrow, _>(self, key, control, destination)
    }

    /// As [`Self::remember_provisional`], in the wide table.
    #[inline(always)]
    fn wide_remember_provisional(
        &self,
        key: &FlowKey<WideValue>,
        control: Control,
        destination: u32,
    ) -> Remembered
    where
        Self: Sized,
    {
        remember_provisional::<Wide, _>(self, key, control, destination)
    }

    /// New flows per second and core above which half-open ones are kept out of the table; 0 = never.
    fn flood_threshold(&self) -> u32;

    /// The [`elvs_common::FloodWord`] of all CPUs.
    fn flood_word(&self) -> Option<&Self::Word>;

    /// Counts a new flow, if there is room for it in this CPU's window.
    #[inline(always)]
    fn admits_at_once(&self, tick: u32) -> bool {
        let window = self.noted(Note::NewFlows);
        let room = has_room(window, tick);
        if room {
            self.note(Note::NewFlows, window.wrapping_sub(1));
        }
        room
    }

    /// Leaves a word for a later stage of the same packet; see [`Note`].
    fn note(&self, note: Note, value: u64);

    /// The word that an earlier stage left; what it is if none did, means nothing.
    fn noted(&self, note: Note) -> u64;

    /// Remembers where the fragments of a datagram go.
    fn remember_fragment(&self, key: &FragmentKey, fragment: &Fragment);

    /// What [`Self::remember_fragment`] was told of a datagram, or [`Fragment::NONE`].
    fn fragment(&self, key: &FragmentKey) -> Fragment;

    /// As [`Self::remember_fragment`], of IPv6.
    fn remember_wide_fragment(&self, key: &WideFragmentKey, fragment: &WideFragment);

    /// What [`Self::remember_wide_fragment`] was told of a datagram, or [`WideFragment::NONE`].
    fn wide_fragment(&self, key: &WideFragmentKey) -> WideFragment;

    /// Whether a Call-ID is kept already.
    fn knows_call(&self, hash: CallHash) -> bool;

    /// Writes a byte of a Call-ID, for [`Self::keep_call`].
    fn draft_call(&self, index: u32, byte: u8);

    /// Keeps the Call-ID that was drafted, for who lists templates; false if there is no room.
    fn keep_call(&self, hash: CallHash, client: WideAddress, length: u64) -> bool;

    /// Keeps which template a connection belongs to, for who ends templates; false if there is no room.
    fn keep_caller(&self, caller: &Caller, hash: CallHash) -> bool;

    /// Settings in force; see [`elvs_common::SettingFlags`].
    fn settings(&self) -> u32;

    /// One of so many new connections is to be dropped; 0 = none.
    fn drop_rate(&self) -> u32;

    /// Idle ticks after which a connection in `state` may be replaced.
    fn timeout(&self, protocol: u8, state: u8) -> u32;

    /// Counts.
    fn count(&self, counter: Counter);

    /// Where replies to a client go.
    ///
    /// `learned` is given with the first packet of a connection: the hop it came from, to be used while the routing
    /// table has no resolved neighbour.
    fn client_hop(&self, client: u32, learned: Option<NextHop>) -> ClientHop;

    /// As [`Self::client_hop`], for a client of either family.
    fn wide_client_hop(&self, client: WideAddress, learned: Option<NextHop>) -> ClientHop;

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
    fn forget(&self, value: u64) -> u64 {
        value
    }

    /// Next hop towards an address by the kernel's routing table, for when the daemon has given none.
    fn route(&self, address: u32) -> Option<NextHop>;

    /// As [`Self::route`], towards an address of either family.
    fn wide_route(&self, address: WideAddress) -> Option<NextHop>;
}

/// A word that the stages of one packet leave for one another, by its place among the [`elvs_common::NOTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Index of the destination that the packet goes to (low half), and what the stage before says of it.
    Destination = 1,
    /// Local end of a connection by full NAT; see [`crate::LocalEnd`].
    LocalEnd = 14,
    /// The ICMP error that a refused packet is answered by; see [`crate::report()`].
    Report = 2,
    /// The IPv4 address that it comes from, as loaded.
    ReportSource = 3,
    /// Answers about packets that are too big left to this CPU; stays from packet to packet.
    TooBigBudget = 4,
    /// Other answers left to this CPU; stays from packet to packet.
    ReportBudget = 5,
    /// First word of an IPv6 address that the packet, or the answer to it, is to come from.
    Source = 6,
    /// Second word of that address.
    SourceEnd = 7,
    /// The [`CallHash`] of a SIP message; 0 = none was looked for.
    Call = 16,
    /// What [`crate::find_call`] is to know, and what it found.
    CallFor = 17,
    /// First word of the client's masked address.
    CallClient = 18,
    /// Second word of that.
    CallClientEnd = 19,
    /// New connections until this CPU drops one (`drop_packet`); stays from packet to packet.
    DropCountdown = 22,
    /// This CPU's window of new flows: the tick it began at (high half), flows that may still open in it (low half); stays from
    /// packet to packet.
    NewFlows = 20,
    /// New flows of the window in flood mode, 0 = it is not on; stays from packet to packet.
    Flood = 21,
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

/// Counts a new connection in its destination's load; it may overload it.
#[inline(always)]
pub(crate) fn give_load<H: Host>(host: &H, index: u32, inactive: bool) {
    let Some(word) = host.load(index) else { return host.count(Counter::Bug) };
    word.fetch_add(DestinationLoad::unit(inactive));
    if host.destination(index).is_some_and(|destination| destination.upper_threshold != 0) {
        judge(host, index, word, Judgement::Added);
    }
}

/// Takes a connection that has ended off its destination's load; one that was overloaded by it may not be so any more.
#[inline(always)]
pub(crate) fn take_load<H: Host>(host: &H, index: u32, ended: Control) {
    if ended.is_template() {
        return;
    }
    let Some(word) = host.load(index) else { return host.count(Counter::Bug) };
    let unit = DestinationLoad::unit(ended.inactive());
    let left = word.fetch_add(unit.wrapping_neg()).wrapping_sub(unit);
    if left & DestinationLoad::OVERLOAD != 0 {
        judge(host, index, word, Judgement::Removed);
    }
}

/// Times a judgement is repeated when another CPU changed the load meanwhile.
const JUDGE_TRIES: u32 = 8;

/// What happened before a destination's load is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// A connection was added.
    Added,
    /// One was taken off.
    Removed,
}

/// Marks a destination as overloaded, or not so any more.
///
/// The mark is set by compare-and-swap of the very load it was judged by, so it is never left behind by a change that came
/// in between; who changed the load judges it again.
#[inline(always)]
pub(crate) fn judge<H: Host>(host: &H, index: u32, word: &H::Word, after: Judgement) {
    let Some(destination) = host.destination(index) else { return host.count(Counter::Bug) };
    let (upper, lower) = (destination.upper_threshold, destination.lower_threshold);
    let mut round = 0;
    while round < JUDGE_TRIES {
        let found = word.load();
        let judged = if after == Judgement::Added {
            DestinationLoad::judge_added(found, upper)
        } else {
            DestinationLoad::judge_removed(found, upper, lower)
        };
        if judged == found || word.compare_exchange(found, judged).is_ok() {
            return;
        }
        round += 1;
    }
    host.count(Counter::JudgeContended);
}

/// Whether a destination's upper threshold was reached.
#[inline(always)]
pub(crate) fn is_overloaded<H: Host>(host: &H, index: u32) -> bool {
    host.load(index).is_some_and(|word| word.load() & DestinationLoad::OVERLOAD != 0)
}

/// Drops a packet and counts why.
#[inline(always)]
pub(crate) fn drop<H: Host>(host: &H, why: Counter) -> Action {
    host.count(why);
    Action::DROP
}

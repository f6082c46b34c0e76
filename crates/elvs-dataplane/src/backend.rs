//! What the director's upper half needs from whatever holds its tables.
//!
//! **Invariant:** an index outside a table is answered with `None` or ignored, never with another element.
//!
//! Implemented by [`crate::Kernel`] (maps) and [`crate::Heap`] (plain memory); called by [`crate::Director`].

use std::io;
use std::sync::atomic::AtomicU64;

use elvs_common::{
    Call, CallHash, Caller, Counter, DestinationRecord, FloodWord, Line, LocalPort, NextHop,
    Settings, idle_ticks,
};
use elvs_fastpath::{FlowMemory, WideMemory};
use elvs_model::{Statistics, XdpMode};

/// A moment of the kernel's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Jiffies since some time before the boot.
    pub jiffies: u64,
    /// Tick = jiffies >> this.
    pub tick_shift: u32,
}

impl Now {
    /// The tick, as packets are marked with it; wraps.
    pub const fn tick(self) -> u32 {
        let [a, b, c, d, ..] = (self.jiffies >> self.tick_shift).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// The moment so many ticks later.
    pub(crate) const fn later(self, ticks: u32) -> Self {
        Self { jiffies: self.jiffies + ((ticks as u64) << self.tick_shift), ..self }
    }

    /// Ticks since `tick`; 0 for one that a packet marked after this moment was taken.
    pub const fn idle(self, tick: u32) -> u32 {
        idle_ticks(self.tick(), tick)
    }

    /// Jiffies since the beginning of `tick`; 0 for one that lies after this moment.
    pub const fn idle_jiffies(self, tick: u32) -> u64 {
        if self.tick().wrapping_sub(tick).cast_signed() < 0 {
            return 0;
        }
        let begun = self.jiffies & ((1 << self.tick_shift) - 1);
        ((self.idle(tick) as u64) << self.tick_shift) + begun
    }
}

/// How the program came to be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AttachedMode {
    /// In the driver, before the kernel makes a packet buffer.
    Native,
    /// In the kernel's stack: slower, but every interface has it.
    Generic,
}

impl AttachedMode {
    /// The word in listings and pin names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// The kernel refused an operation on a table.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct BackendError {
    /// The operation and its table.
    pub what: String,
    /// Why.
    pub source: io::Error,
}

/// Why the program could not be attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// There is no such interface in this network namespace.
    #[error("interface {interface} does not exist in this network namespace (see `ip link`)")]
    NoInterface {
        /// Its name.
        interface: String,
    },
    /// Another XDP program holds the interface.
    #[error(
        "interface {interface} already runs an XDP program that is not ours: find it with `ip link show {interface}` and remove it with `ip link set dev {interface} xdp off`, or leave the interface out"
    )]
    Foreign {
        /// Its name.
        interface: String,
    },
    /// The kernel refused every mode that was tried.
    #[error("interface {interface} takes no XDP program in {mode} mode: {reason}")]
    Refused {
        /// Its name.
        interface: String,
        /// The mode tried last.
        mode: &'static str,
        /// The kernel's words.
        reason: String,
    },
    /// What the interface sends cannot be looked at.
    #[error(
        "what interface {interface} sends cannot be looked at, so the director is no client of its own services and no real server by NAT there: {reason} (needs Linux 6.6 or later, for tcx links)"
    )]
    Egress {
        /// Its name.
        interface: String,
        /// The kernel's words.
        reason: String,
    },
    /// The link could not be kept beyond the daemon's life.
    #[error("interface {interface}: link cannot be pinned at {path}: {reason}")]
    Pin {
        /// Its name.
        interface: String,
        /// Where.
        path: String,
        /// Why.
        reason: String,
    },
}

/// The tables, the clock and the interfaces of a director.
pub trait Backend: FlowMemory<Word = AtomicU64, Addresses = AtomicU64> {
    /// The wide flow table.
    type Wide: WideMemory<Word = AtomicU64>;

    /// The wide flow table.
    fn wide(&self) -> &Self::Wide;

    /// The time.
    fn now(&self) -> Now;

    /// Settings in force.
    fn settings(&self) -> Settings;

    /// When a core last kept new flows out of the table because of a flood.
    fn flood(&self) -> FloodWord;

    /// Changes timeouts, flags and the threshold of floods in the settings; the other fields are for the backend alone.
    fn write_settings(&mut self, settings: &Settings);

    /// Load word of a destination.
    fn load(&self, index: u32) -> Option<&AtomicU64>;

    /// Scheduler word of a service.
    fn scheduler(&self, index: u32) -> Option<&AtomicU64>;

    /// Destination record.
    fn record(&self, index: u32) -> Option<DestinationRecord>;

    /// Writes a destination record: selector and flags last.
    fn write_record(&mut self, index: u32, record: &DestinationRecord);

    /// Puts a configuration blob in force, whole; packets in flight finish with the old one before this returns.
    ///
    /// # Errors
    ///
    /// [`BackendError`] if the kernel refuses; the old blob then stays in force.
    fn swap_blob(&mut self, lines: &[Line]) -> Result<(), BackendError>;

    /// Statistics of a destination index since its table was made, over all CPUs.
    ///
    /// # Errors
    ///
    /// [`BackendError`] if the kernel refuses to read them.
    fn statistics(&self, index: u32) -> Result<Statistics, BackendError>;

    /// Value of a counter over all CPUs.
    ///
    /// # Errors
    ///
    /// [`BackendError`] if the kernel refuses to read it.
    fn counter(&self, counter: Counter) -> Result<u64, BackendError>;

    /// What is kept of a Call-ID, if it is.
    fn call(&self, hash: CallHash) -> Option<Call>;

    /// Call-IDs that are kept, in no order.
    fn calls(&self) -> Vec<CallHash>;

    /// Forgets a Call-ID.
    fn forget_call(&mut self, hash: CallHash);

    /// The Call-ID whose template a connection belongs to, if that is kept.
    fn call_of(&self, caller: &Caller) -> Option<CallHash>;

    /// Connections that it is kept of, in no order.
    fn callers(&self) -> Vec<Caller>;

    /// Forgets a connection.
    fn forget_caller(&mut self, caller: &Caller);

    /// Memory of all tables, bytes.
    fn memory_bytes(&self) -> u64;

    /// Attaches the director's program to an interface; one that has it already keeps it.
    ///
    /// # Errors
    ///
    /// [`AttachError`] names the interface and the cure.
    fn attach(&mut self, interface: &str, mode: XdpMode) -> Result<AttachedMode, AttachError>;

    /// Takes the program off an interface; one that does not have it is left as it is.
    ///
    /// # Errors
    ///
    /// [`BackendError`] if the kernel refuses.
    fn detach(&mut self, interface: &str) -> Result<(), BackendError>;

    /// Interfaces that have the program.
    fn attached(&self) -> Vec<(String, AttachedMode)>;

    /// Says how frames go between the host's own stack and the director; interface 0 = they do not.
    ///
    /// # Errors
    ///
    /// [`BackendError`] if the kernel refuses.
    fn set_local_hop(&mut self, port: LocalPort, hop: &NextHop) -> Result<(), BackendError>;

    /// Has what the host itself sends by an interface looked at; one where it is already is left as it is.
    ///
    /// # Errors
    ///
    /// [`AttachError`] names the interface and the cure.
    fn attach_egress(&mut self, interface: &str) -> Result<(), AttachError>;

    /// Ends that; an interface where it is not so is left as it is.
    ///
    /// # Errors
    ///
    /// [`BackendError`] if the kernel refuses.
    fn detach_egress(&mut self, interface: &str) -> Result<(), BackendError>;

    /// Interfaces where what the host sends is looked at.
    fn attached_egress(&self) -> Vec<String>;

    /// Detaches the program everywhere and removes everything made for this director.
    ///
    /// # Errors
    ///
    /// The first [`BackendError`]; the rest is removed nevertheless.
    fn teardown(&mut self) -> Result<(), BackendError>;
}

#[cfg(test)]
mod tests {
    use super::Now;

    #[test]
    fn idle_times_survive_the_wrap_and_packets_from_the_future() {
        // (jiffies, tick of the last packet, idle ticks, idle jiffies), tick = 16 jiffies
        let rows = [
            (160, 10, 0, 0),
            (175, 10, 0, 15),
            (176, 10, 1, 16),
            (160, 11, 0, 0),
            ((1 << 36) + 5, u32::MAX, 1, 21),
            ((1 << 36) - 1, 3, 0, 0),
        ];
        for (jiffies, tick, idle, idle_jiffies) in rows {
            let now = Now { jiffies, tick_shift: 4 };
            assert_eq!((now.idle(tick), now.idle_jiffies(tick)), (idle, idle_jiffies), "{now:?}");
        }
    }
}

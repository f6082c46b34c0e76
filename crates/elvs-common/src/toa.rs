//! The TCP option TOA, by which a FULLNAT director tells a real server who the client is, and what the programs that
//! read it there share with `elvs realserver toa`.
//!
//! **Invariant:** [`find_client`] asks for bytes below [`OPTIONS_BUFFER`] only, whatever it is told, and ends after at
//! most [`MAX_OPTIONS`] steps.
//!
//! Called by the programs of `ebpf/elvs-toa`, by `elvs realserver toa` and by the lab.

/// Kind of the option: one of the two that RFC 4727 leaves to experiments. DPVS, the LVS of Alibaba and their kernel
/// modules use it.
pub const TOA_KIND: u8 = 254;
/// Length with an IPv4 client: kind, length, port, address.
pub const TOA_IPV4_LENGTH: u8 = 8;
/// Length with an IPv6 client.
pub const TOA_IPV6_LENGTH: u8 = 20;

/// Most bytes of options a TCP header holds (RFC 9293 section 3.1: data offset 15).
pub const MAX_OPTIONS: usize = 40;
/// Bytes that [`find_client`] may ask for: options and the longest overrun of their last byte.
pub const OPTIONS_BUFFER: usize = 64;

/// End of the option list (RFC 9293 section 3.2).
const END: u8 = 0;
/// One byte of padding.
const NO_OPERATION: u8 = 1;

/// A client's address and port; the value that is kept with the socket of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ToaClient {
    /// IPv6 address, or IPv4 address as `::ffff:a.b.c.d`; each word in network order.
    pub address: [u32; 4],
    /// Port in network order, in the first two bytes.
    pub port: u32,
}

const _: () = assert!(size_of::<ToaClient>() == 20);

impl ToaClient {
    /// The first three words of an IPv4 address's mapped form (RFC 4291 section 2.5.5.2), in network order.
    pub const MAPPED: [u32; 3] = [0, 0, 0xffffu32.to_be()];

    /// The IPv4 address, in network order, if it is one.
    #[inline(always)]
    pub const fn ipv4(&self) -> Option<u32> {
        let [first, second, third, address] = self.address;
        if first == 0 && second == 0 && third == Self::MAPPED[2] { Some(address) } else { None }
    }
}

/// Why options that seem to hold a client's address are not believed.
///
/// As wide as a word: next to a byte, the compiler would fill up with accesses to the stack that lie askew, which the
/// kernel's verifier refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ToaError {
    /// An option's length is below 2 or passes the end of the header, so that nothing behind it can be found.
    Overrun,
    /// An option of this kind has a length that no format knows.
    Length,
    /// The address is unspecified or the port is 0.
    Unusable,
}

/// The options of a TCP header.
pub trait OptionBytes {
    /// The byte at a place, 0 behind the options; places are below [`OPTIONS_BUFFER`].
    fn byte(&self, at: usize) -> u8;

    /// The place itself. A program in the kernel hides from the verifier how it was come by, so that it looks at each
    /// step once, and not once for each way that leads to it.
    #[inline(always)]
    fn forget(&self, at: usize) -> usize {
        at
    }
}

impl OptionBytes for [u8] {
    fn byte(&self, at: usize) -> u8 {
        self.get(at).copied().unwrap_or(0)
    }
}

/// Finds the client's address in the options of a TCP header, `length` bytes.
///
/// The first option of the kind counts, as directors put theirs in front of what the client sent; one of unknown
/// length is passed over, since others may experiment with this kind, too.
///
/// # Errors
///
/// [`ToaError`] if there is an option of this kind, or a broken one, and no address.
#[inline(always)]
pub fn find_client<O: OptionBytes + ?Sized>(
    options: &O,
    length: usize,
) -> Result<Option<ToaClient>, ToaError> {
    let mut foreign = false;
    let mut at = 0;
    let mut found = 0;
    // Bytes behind the options are 0, the end of the list. Every step takes a byte or more.
    for _ in 0..MAX_OPTIONS {
        at = options.forget(at);
        if at >= MAX_OPTIONS {
            break;
        }
        match options.byte(at) {
            END => break,
            NO_OPERATION => at += 1,
            kind => {
                let size = options.byte(at + 1);
                if size < 2 {
                    return Err(ToaError::Overrun);
                }
                if kind == TOA_KIND {
                    if size == TOA_IPV4_LENGTH || size == TOA_IPV6_LENGTH {
                        found = size;
                        break;
                    }
                    foreign = true;
                }
                at += usize::from(size);
            }
        }
    }
    if at + usize::from(found) > length {
        return Err(ToaError::Overrun);
    }
    if found != 0 && at < MAX_OPTIONS {
        return client(options, at, found).map(Some);
    }
    if foreign { Err(ToaError::Length) } else { Ok(None) }
}

/// Reads the option at `at`.
#[inline(always)]
fn client<O: OptionBytes + ?Sized>(
    options: &O,
    at: usize,
    size: u8,
) -> Result<ToaClient, ToaError> {
    let byte = |at| options.byte(at);
    let word = |at| u32::from_ne_bytes([byte(at), byte(at + 1), byte(at + 2), byte(at + 3)]);
    let port = u32::from_ne_bytes([byte(at + 2), byte(at + 3), 0, 0]);
    let address = if size == TOA_IPV4_LENGTH {
        let [first, second, third] = ToaClient::MAPPED;
        [first, second, third, word(at + 4)]
    } else {
        [word(at + 4), word(at + 8), word(at + 12), word(at + 16)]
    };
    let client = ToaClient { address, port };
    if port == 0 || address == [0; 4] || client.ipv4() == Some(0) {
        return Err(ToaError::Unusable);
    }
    Ok(client)
}

/// Names of the maps of a real server's programs; the kernel keeps 15 bytes.
pub mod toa_maps {
    /// Socket storage: the client of each connection, freed by the kernel with its socket.
    pub const CLIENTS: &str = "TOA_CLIENTS";
    /// Prefixes whose options are believed: longest prefix match on the mapped address.
    pub const TRUSTED: &str = "TOA_TRUSTED";
    /// Per-CPU counters, by [`super::ToaCounter`].
    pub const COUNTERS: &str = "TOA_COUNTERS";
}

/// Names of a real server's programs.
pub mod toa_programs {
    /// Reads options when a connection is established.
    pub const LEARN: &str = "elvs_toa_learn";
    /// Answers getpeername(2) and accept(2) of IPv4 sockets.
    pub const PEER4: &str = "elvs_toa_peer4";
    /// The same for IPv6 sockets, those with IPv4 peers included.
    pub const PEER6: &str = "elvs_toa_peer6";
}

/// Prefixes there is room for.
pub const TOA_MAX_TRUSTED: u32 = 1024;

macro_rules! toa_counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// What the programs of a real server count.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum ToaCounter {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl ToaCounter {
            /// Every counter, in the order of its map index.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Name in listings and JSON.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One line for operators.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

toa_counters! {
    /// Connections whose client was known before they could be accepted.
    Learned = "learned",
    /// Connections whose client came only with their first data; accept(2) may have been too early for it.
    LearnedLate = "learned_late",
    /// Connections from trusted addresses that were established without the option; look at the director.
    Absent = "absent",
    /// Options from addresses that are not trusted, ignored; a client forges, or `--trust` lacks a director's address.
    Untrusted = "untrusted",
    /// Options from trusted addresses that cannot be read, ignored.
    Malformed = "malformed",
    /// Clients that could not be kept for want of memory.
    NoMemory = "no_memory",
    /// Answers of accept(2) and getpeername(2) that name the client.
    Answered = "answered",
    /// Answers that name the director, because an IPv4 socket cannot name an IPv6 client; let the program listen on IPv6.
    Unanswerable = "unanswerable",
}

/// Number of counters.
pub const TOA_COUNTERS: usize = ToaCounter::ALL.len();

#[cfg(test)]
mod tests;

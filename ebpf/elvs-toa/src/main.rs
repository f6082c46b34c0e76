//! ELVS's programs on a real server behind FULLNAT: one reads the client's address from the TCP option of a new
//! connection, two put it into the answers of accept(2) and getpeername(2).
//!
//! **Invariant:** an address is kept only if the segment that brought it came from a trusted source, before the
//! connection's first data was taken in, and at most once per connection. It lies in the socket's own storage, so
//! that it lives exactly as long as the socket, and no other connection can push it out.
//!
//! Loaded and attached by `elvs realserver toa`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod maps;

use core::arch::asm;

use aya_ebpf::bindings::{
    BPF_SK_STORAGE_GET_F_CREATE, BPF_SOCK_OPS_PARSE_HDR_OPT_CB,
    BPF_SOCK_OPS_PARSE_UNKNOWN_HDR_OPT_CB_FLAG, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, bpf_sock,
    bpf_sock_ops,
};
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::macros::{cgroup_sock_addr, sock_ops};
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::programs::{SockAddrContext, SockOpsContext};
use elvs_common::{
    MAX_OPTIONS, OPTIONS_BUFFER, OptionBytes, ToaClient, ToaCounter, ToaError, find_client,
};

use crate::maps::{TOA_CLIENTS, TOA_TRUSTED, count};

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
/// Bytes of a TCP header without options.
const TCP_HEADER: usize = 20;
/// Where its length is.
const DATA_OFFSET: usize = 12;
/// What a program on these hooks has to return.
const GO_ON: i32 = 1;

/// Learns clients. Called when a connection that was listened for is established, with the segment that did it (the
/// last one of the handshake), under the lock that accept(2) waits for; and, if that brought no address, for later
/// segments with options unknown to the kernel.
#[sock_ops]
pub fn elvs_toa_learn(ctx: SockOpsContext) -> u32 {
    let late = match ctx.op() {
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => false,
        BPF_SOCK_OPS_PARSE_HDR_OPT_CB => true,
        _ => return 1,
    };
    if late && is_too_late(&ctx) {
        return 1;
    }
    // verifier: one place that reads options, since it walks through all ways that they can be laid out.
    match client_in(&ctx) {
        Ok(None) => {
            if !late && is_trusted(&ctx) {
                count(ToaCounter::Absent);
                watch(&ctx);
            }
        }
        found => {
            learn(&ctx, found, if late { ToaCounter::LearnedLate } else { ToaCounter::Learned });
        }
    }
    1
}

/// Directors mark what they send before the real server's first answer; what comes later is the client's own.
#[inline(always)]
fn is_too_late(ctx: &SockOpsContext) -> bool {
    // SAFETY: a field of the kernel's context.
    let taken_in = unsafe { (&raw const (*ctx.ops).bytes_received).read_volatile() };
    taken_in != 0 || is_known(ctx)
}

#[inline(always)]
fn learn(ctx: &SockOpsContext, found: Result<Option<ToaClient>, ToaError>, as_what: ToaCounter) {
    if !is_trusted(ctx) {
        return count(ToaCounter::Untrusted);
    }
    let Ok(Some(mut client)) = found else {
        watch(ctx);
        return count(ToaCounter::Malformed);
    };
    let stored = storage(ctx, &raw mut client, BPF_SK_STORAGE_GET_F_CREATE.into());
    count(if stored.is_null() { ToaCounter::NoMemory } else { as_what });
}

/// Asks for the connection's later segments whose options the kernel does not know.
#[inline(always)]
fn watch(ctx: &SockOpsContext) {
    let flags = ctx.cb_flags() | BPF_SOCK_OPS_PARSE_UNKNOWN_HDR_OPT_CB_FLAG;
    // The kernel refuses flags that it does not know: then the connection keeps the director's address.
    let _ = ctx.set_cb_flags(flags as i32);
}

#[inline(always)]
fn is_known(ctx: &SockOpsContext) -> bool {
    !storage(ctx, core::ptr::null_mut(), 0).is_null()
}

/// The storage of the connection's socket; null if there is none.
#[inline(always)]
fn storage(ctx: &SockOpsContext, value: *mut ToaClient, flags: u64) -> *mut ToaClient {
    // SAFETY: a field of the kernel's context.
    let socket: *mut bpf_sock = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if socket.is_null() {
        return core::ptr::null_mut();
    }
    let map = (&raw const TOA_CLIENTS).cast_mut().cast();
    // SAFETY: map and socket are the kernel's; the value is null or of the map's type.
    unsafe { bpf_sk_storage_get(map, socket.cast(), value.cast(), flags) }.cast()
}

/// The client's address in the options of the segment.
#[inline(always)]
fn client_in(ctx: &SockOpsContext) -> Result<Option<ToaClient>, ToaError> {
    // SAFETY: fields of the kernel's context: where the TCP header lies, and its end.
    let start = unsafe { (*ctx.ops).__bindgen_anon_3.skb_data } as usize;
    // SAFETY: as above.
    let end = unsafe { (*ctx.ops).__bindgen_anon_4.skb_data_end } as usize;
    if start + TCP_HEADER > end {
        return Ok(None);
    }
    // SAFETY: a byte of the header: its length in words, in the upper half (RFC 9293 section 3.1).
    let words = unsafe { ((start + DATA_OFFSET) as *const u8).read_volatile() } >> 4;
    let header = usize::from(words) * 4;
    if header <= TCP_HEADER {
        return Ok(None);
    }
    // In words of eight bytes, so that they are cleared by eight stores.
    let mut options = [0u64; OPTIONS_BUFFER / 8];
    let copy = (&raw mut options).cast::<u32>();
    let mut at = 0;
    while at < MAX_OPTIONS {
        let word = start + TCP_HEADER + at;
        if word + 4 > end {
            break;
        }
        // SAFETY: four bytes of the header, whose end was asked.
        let word = unsafe { (word as *const u32).read_unaligned() };
        // SAFETY: within the copy, which is longer than the options.
        unsafe { copy.add(at / 4).write(word) };
        at += 4;
    }
    // SAFETY: a word of the header: the ports.
    let unknown = unsafe { (start as *const u32).read_volatile() }.into();
    find_client(&Options { copy: &options, unknown }, header - TCP_HEADER)
}

/// Options on the stack, zeros behind them.
struct Options<'a> {
    copy: &'a [u64; OPTIONS_BUFFER / 8],
    /// A number of which the verifier knows nothing.
    unknown: u64,
}

impl OptionBytes for Options<'_> {
    #[inline(always)]
    fn byte(&self, at: usize) -> u8 {
        if at >= OPTIONS_BUFFER {
            return 0;
        }
        // verifier: volatile, so that bytes are not joined to words that would lie askew on the stack.
        // SAFETY: within the copy.
        unsafe { (&raw const *self.copy).cast::<u8>().add(at).read_volatile() }
    }

    #[inline(always)]
    fn forget(&self, at: usize) -> usize {
        let mut place = at;
        // SAFETY: arithmetic of two registers that leaves them as they were.
        unsafe {
            asm!(
                "{0} ^= {1}",
                "{0} ^= {1}",
                inout(reg) place,
                in(reg) self.unknown,
                options(pure, nomem, nostack)
            );
        }
        place
    }
}

/// Whether the other end of the connection is one whose options are believed.
#[inline(always)]
fn is_trusted(ctx: &SockOpsContext) -> bool {
    let ops: *mut bpf_sock_ops = ctx.ops;
    // verifier: all words are read before one is chosen; otherwise the compiler chooses an offset into the context,
    // and every kernel refuses to read there.
    // SAFETY: a field of the kernel's context.
    let ipv4 = unsafe { (&raw const (*ops).remote_ip4).read_volatile() };
    // SAFETY: as above.
    let words = unsafe { &raw const (*ops).remote_ip6 }.cast::<u32>();
    let mut ipv6 = [0; 4];
    let mut index = 0;
    while index < 4 {
        // SAFETY: a word of that field; volatile, since the kernel allows no wider reads.
        ipv6[index] = unsafe { words.add(index).read_volatile() };
        index += 1;
    }
    let [first, second, third] = ToaClient::MAPPED;
    let source = match ctx.family() {
        AF_INET => [first, second, third, ipv4],
        AF_INET6 => ipv6,
        _ => return false,
    };
    TOA_TRUSTED.get(Key::new(128, source)).is_some()
}

/// Answers of IPv4 sockets.
#[cgroup_sock_addr(getpeername4)]
pub fn elvs_toa_peer4(ctx: SockAddrContext) -> i32 {
    if let Some(client) = client_of(&ctx) {
        match client.ipv4() {
            None => count(ToaCounter::Unanswerable),
            Some(address) => {
                // SAFETY: a field of the kernel's context that this hook may write.
                unsafe { (&raw mut (*ctx.sock_addr).user_ip4).write_volatile(address) };
                answer_port(&ctx, &client);
            }
        }
    }
    GO_ON
}

/// Answers of IPv6 sockets.
#[cgroup_sock_addr(getpeername6)]
pub fn elvs_toa_peer6(ctx: SockAddrContext) -> i32 {
    if let Some(client) = client_of(&ctx) {
        // SAFETY: a field of the kernel's context that this hook may write.
        let words = unsafe { &raw mut (*ctx.sock_addr).user_ip6 }.cast::<u32>();
        let mut index = 0;
        while index < 4 {
            // SAFETY: a word of that field; volatile, so that words are not joined.
            unsafe { words.add(index).write_volatile(client.address[index]) };
            index += 1;
        }
        answer_port(&ctx, &client);
    }
    GO_ON
}

#[inline(always)]
fn answer_port(ctx: &SockAddrContext, client: &ToaClient) {
    // SAFETY: a field of the kernel's context that these hooks may write.
    unsafe { (&raw mut (*ctx.sock_addr).user_port).write_volatile(client.port) };
    count(ToaCounter::Answered);
}

#[inline(always)]
fn client_of(ctx: &SockAddrContext) -> Option<ToaClient> {
    // SAFETY: the context is the kernel's; the value is copied before anything else runs.
    unsafe { TOA_CLIENTS.get_ptr_mut(ctx).as_ref().copied() }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

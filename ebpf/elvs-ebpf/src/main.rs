//! ELVS's programs in the kernel.
//!
//! **Invariant:** nothing is decided here: the director's programs put maps and packet memory behind the traits of
//! `elvs-fastpath` and turn its verdict into an XDP action.
//!
//! Loaded and attached by `elvs-dataplane`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![allow(internal_features, reason = "the BPF target offers atomics as intrinsics only")]

mod clients;
mod frame;
mod host;
mod maps;
mod word;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{TC_ACT_UNSPEC, xdp_action, xdp_md};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_redirect};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use elvs_common::{Counter, GENERAL_PROGRAM, LOCAL_MTU, LocalPort, SCHEDULE_PROGRAM, WIDE_PROGRAM};
use elvs_fastpath::{
    Action, Frame, Host, connect_wide, decapsulate, find_call, flood, flood_wide, forward_fragment,
    forward_full_nat_fragment, forward_full_nat_icmp, forward_general, forward_icmp, forward_ipsec,
    forward_narrow, forward_new, forward_plain, forward_tunnel, forward_wide,
    forward_wide_fragment, forward_wide_icmp, is_own_traffic, open_for_server, open_full_nat,
    open_icmp, open_wide, persist, persist_wide, reply_full_nat, reply_wide, report, reset,
    send_for_server, send_full_nat, send_wide,
};

use crate::frame::{SocketFrame, XdpFrame};
use crate::host::{KernelHost, forget};
use crate::maps::{ELVS_LOCAL, ELVS_PROGS, gue_port};

/// The director's first stage: packets of known connections, and whatever is not ours.
#[xdp]
#[inline(always)]
pub fn elvs_director(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = forward_plain(&host, &mut XdpFrame::new(&ctx));
    if action == Action::GENERAL {
        go_on(&ctx, GENERAL_PROGRAM);
    } else if action == Action::SCHEDULE {
        go_on(&ctx, SCHEDULE_PROGRAM);
    } else if action == Action::WIDE {
        go_on(&ctx, WIDE_PROGRAM);
    } else {
        return answer(action);
    }
    // The program is missing.
    host.count(Counter::Bug);
    xdp_action::XDP_DROP
}

/// The same for frames with VLAN tags or IP options, and fragments.
#[xdp]
#[inline(always)]
pub fn elvs_general(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = forward_general(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// ICMP errors about packets of known connections.
#[xdp]
#[inline(always)]
pub fn elvs_icmp(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = forward_icmp(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// Opens connections for ICMP errors of none, and goes back to [`elvs_icmp`] or [`elvs_icmp6`].
#[xdp]
#[inline(always)]
pub fn elvs_icmp_open(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = open_icmp(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// Fragments without ports.
#[xdp]
#[inline(always)]
pub fn elvs_fragment(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = forward_fragment(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// Answers a refused packet by an ICMP error.
#[xdp]
#[inline(always)]
pub fn elvs_reply(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    answer(report(&host, &mut XdpFrame::new(&ctx)))
}

/// Answers a packet of a removed destination by a reset.
#[xdp]
#[inline(always)]
pub fn elvs_reset(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    answer(reset(&host, &mut XdpFrame::new(&ctx)))
}

/// Packets of known connections of the wide table.
#[xdp]
#[inline(always)]
pub fn elvs_wide(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = forward_wide(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// Packets of IPv4 that looked like those of the wide table.
#[xdp]
#[inline(always)]
pub fn elvs_narrow(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = forward_narrow(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// Replies to packets of the wide table.
#[xdp]
#[inline(always)]
pub fn elvs_wide_reply(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = reply_wide(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// As [`elvs_schedule`], for the wide table.
#[xdp]
#[inline(always)]
pub fn elvs_wide_open(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = open_wide(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// As [`elvs_persist`], for the wide table.
#[xdp]
#[inline(always)]
pub fn elvs_wide_keep(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = persist_wide(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// Makes the connection of the wide table whose destination [`elvs_wide_keep`] has noted.
#[xdp]
#[inline(always)]
pub fn elvs_wide_join(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = connect_wide(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// Sends a packet of the wide table to the destination that an earlier stage has noted.
#[xdp]
#[inline(always)]
pub fn elvs_wide_send(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = send_wide(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// New connections by full NAT.
#[xdp]
#[inline(always)]
pub fn elvs_fnat_open(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = open_full_nat(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// Clients' packets by full NAT.
#[xdp]
#[inline(always)]
pub fn elvs_fnat(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = send_full_nat(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// Replies to local addresses of full NAT.
#[xdp]
#[inline(always)]
pub fn elvs_fnat_reply(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = reply_full_nat(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// Errors about connections by full NAT.
#[xdp]
#[inline(always)]
pub fn elvs_fnat_icmp(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = forward_full_nat_icmp(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// Fragments of connections by full NAT.
#[xdp]
#[inline(always)]
pub fn elvs_fnat_frag(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = forward_full_nat_fragment(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// ICMPv6 errors about packets of known connections.
#[xdp]
#[inline(always)]
pub fn elvs_icmp6(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = forward_wide_icmp(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// Fragments of IPv6.
#[xdp]
#[inline(always)]
pub fn elvs_fragment6(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = forward_wide_fragment(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// AH and ESP after their IKE flows.
#[xdp]
#[inline(always)]
pub fn elvs_ipsec(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = forward_ipsec(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// The director's last stage: packets that may open a connection. It starts itself again when another CPU moved the
/// scheduler meanwhile, as often as the kernel allows.
#[xdp]
#[inline(always)]
pub fn elvs_schedule(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = forward_new(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// Makes a persistence template for the client of a packet, and goes back to [`elvs_schedule`].
#[xdp]
#[inline(always)]
pub fn elvs_persist(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = persist(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// Finds the Call-ID of a packet for a service that goes by it, and goes on to [`elvs_persist`] or [`elvs_wide_keep`].
#[xdp]
#[inline(always)]
pub fn elvs_sip(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = find_call(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// Datagrams that masqueraded real servers of services with the SIP engine begin with.
#[xdp]
#[inline(always)]
pub fn elvs_sip_out(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = open_for_server(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// The same after their template was made: connects and sends them.
#[xdp]
#[inline(always)]
pub fn elvs_sip_send(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = send_for_server(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// New flows during a flood, and packets of flows that it kept out of the table.
#[xdp]
#[inline(always)]
pub fn elvs_flood(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = flood(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// As [`elvs_flood`], for the wide table.
#[xdp]
#[inline(always)]
pub fn elvs_wide_flood(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = flood_wide(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// Goes on to another program; returns only if that cannot be.
#[inline(always)]
fn go_on(ctx: &XdpContext, program: u32) {
    // SAFETY: the program takes the same context.
    unsafe { ELVS_PROGS.tail_call(ctx, program) };
}

/// Goes on to the stage that an action names, or answers it.
#[inline(always)]
fn finish(ctx: &XdpContext, host: &KernelHost<'_>, action: Action) -> u32 {
    if !action.is_stage() {
        return answer(action);
    }
    go_on(ctx, action.program());
    // The program is missing, or a scheduler was in contention for as many stages as the kernel allows. What is to be told has
    // been refused and counted before.
    match action {
        Action::REPORT | Action::RESET => {}
        Action::SCHEDULE
        | Action::PERSIST
        | Action::WIDE_OPEN
        | Action::WIDE_PERSIST
        | Action::FULL_NAT_OPEN => {
            host.count(Counter::SchedulerContended);
        }
        _ => host.count(Counter::Bug),
    }
    xdp_action::XDP_DROP
}

#[inline(always)]
fn answer(action: Action) -> u32 {
    match action {
        Action::PASS => xdp_action::XDP_PASS,
        Action::DROP => xdp_action::XDP_DROP,
        Action::TRANSMIT => xdp_action::XDP_TX,
        // SAFETY: a helper call without pointers.
        redirect => unsafe { bpf_redirect(redirect.ifindex(), 0) as u32 },
    }
}

/// Index of the loopback device in every network namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;

/// What the host itself sends by an interface: hands the director's program what is its business, as if it came by a wire
/// (the interface that the program is attached to for this end), and leaves the rest alone.
#[classifier]
pub fn elvs_egress(ctx: TcContext) -> i32 {
    redirect_own(&ctx).unwrap_or(TC_ACT_UNSPEC)
}

#[inline(always)]
fn redirect_own(ctx: &TcContext) -> Option<i32> {
    // SAFETY: fields of the context of this run.
    let (came_by, leaves_by) = unsafe { ((*ctx.skb.skb).ingress_ifindex, (*ctx.skb.skb).ifindex) };
    // What came by an interface the director's program has seen, and passed.
    if came_by != 0 {
        return None;
    }
    // SAFETY: as above.
    let segment = unsafe { (*ctx.skb.skb).gso_size };
    // What the pair does not carry. On the loopback device it is delivered here, where a local real server by direct
    // routing is.
    if segment.max(if segment == 0 { ctx.len() } else { 0 }) > LOCAL_MTU {
        return None;
    }
    let hop = ELVS_LOCAL.get(LocalPort::ToDirector as u32).filter(|hop| hop.ifindex != 0)?;
    // Looking up connections and services asks nothing of the context, which is none of XDP.
    let lookup = XdpContext::new(ctx.as_ptr().cast::<xdp_md>());
    let host = KernelHost::new(&lookup)?;
    if !is_own_traffic(&host, &mut SocketFrame::new(ctx), leaves_by == LOOPBACK) {
        return None;
    }
    ctx.store(0, &hop.addresses(), 0).ok()?;
    // SAFETY: a helper call without pointers.
    Some(unsafe { bpf_redirect(hop.ifindex, 0) } as i32)
}

/// Wraps a packet for the tunnel of its destination, unless that is plain IPv4 in IPv4.
#[xdp]
#[inline(always)]
pub fn elvs_tunnel(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = forward_tunnel(&host, &mut XdpFrame::new(&ctx));
    finish(&ctx, &host, action)
}

/// A tunnelled real server's decapsulation: takes the outer headers off a packet that came by IP in IP, GRE or GUE and
/// hands the inner one to the host's stack, as a tunnel device would. Whatever is none of these is the stack's business.
#[xdp]
pub fn elvs_decap(ctx: XdpContext) -> u32 {
    let _ = decapsulate(forget, &mut XdpFrame::new(&ctx), gue_port());
    xdp_action::XDP_PASS
}

/// Passes every frame: makes a veth peer accept redirected frames.
#[xdp]
pub fn elvs_pass(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// The kernel's clock for the daemon: writes `jiffies` into the first eight bytes of the packet it is run on.
#[xdp]
pub fn elvs_clock(ctx: XdpContext) -> u32 {
    let mut frame = XdpFrame::new(&ctx);
    // SAFETY: a helper call without arguments.
    let now = unsafe { bpf_jiffies64() };
    match frame.window::<8>(0) {
        Some(bytes) => {
            *bytes = now.to_ne_bytes();
            xdp_action::XDP_PASS
        }
        None => xdp_action::XDP_ABORTED,
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

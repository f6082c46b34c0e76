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

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_redirect};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use elvs_common::{Counter, GENERAL_PROGRAM, SCHEDULE_PROGRAM, WIDE_PROGRAM};
use elvs_fastpath::{
    Action, Frame, Host, connect_wide, forward_fragment, forward_general, forward_icmp,
    forward_ipsec, forward_new, forward_plain, forward_wide, open_wide, persist, persist_wide,
    reply_wide, report, send_wide,
};

use crate::frame::XdpFrame;
use crate::host::KernelHost;
use crate::maps::ELVS_PROGS;

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

/// Packets of known connections of the wide table.
#[xdp]
#[inline(always)]
pub fn elvs_wide(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = forward_wide(&host, &mut XdpFrame::new(&ctx));
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
        Action::REPORT => {}
        Action::SCHEDULE | Action::PERSIST | Action::WIDE_OPEN | Action::WIDE_PERSIST => {
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

/// A tunnelled real server's decapsulation: takes the outer header off an IP-in-IP packet (RFC 2003) and hands the
/// inner one to the host's stack, as a tunnel device would.
#[xdp]
pub fn elvs_decap(ctx: XdpContext) -> u32 {
    let mut frame = XdpFrame::new(&ctx);
    // Whatever is no plain IP-in-IP packet is the stack's business.
    let _ = decapsulate(&mut frame);
    xdp_action::XDP_PASS
}

#[inline(always)]
fn decapsulate(frame: &mut XdpFrame) -> Option<()> {
    let ethernet = *frame.window::<14>(0)?;
    let outer = frame.window::<20>(14)?;
    let fragment = u16::from_be_bytes([outer[6], outer[7]]) & 0x3fff != 0;
    if ethernet[12] != 0x08 || ethernet[13] != 0 || outer[0] != 0x45 || outer[9] != 4 || fragment {
        return None;
    }
    let inner = frame.window::<20>(34)?;
    if inner[0] >> 4 != 4 || !frame.shrink_front::<20>() {
        return None;
    }
    *frame.window::<14>(0)? = ethernet;
    Some(())
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

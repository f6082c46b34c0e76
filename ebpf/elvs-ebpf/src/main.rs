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
use elvs_common::{Counter, GENERAL_PROGRAM, PERSIST_PROGRAM, SCHEDULE_PROGRAM, TUNNEL_PROGRAM};
use elvs_fastpath::{
    Action, Frame, Host, decapsulate, forward_general, forward_new, forward_plain, forward_tunnel,
    persist,
};

use crate::frame::XdpFrame;
use crate::host::{KernelHost, forget};
use crate::maps::{ELVS_PROGS, gue_port};

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
    } else {
        return answer(action);
    }
    // The program is missing.
    host.count(Counter::Bug);
    xdp_action::XDP_DROP
}

/// The same for frames with VLAN tags or IP options.
#[xdp]
#[inline(always)]
pub fn elvs_general(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = forward_general(&host, &mut XdpFrame::new(&ctx));
    if action == Action::SCHEDULE {
        go_on(&ctx, SCHEDULE_PROGRAM);
    } else if action == Action::TUNNEL {
        go_on(&ctx, TUNNEL_PROGRAM);
    } else {
        return answer(action);
    }
    host.count(Counter::Bug);
    xdp_action::XDP_DROP
}

/// The director's last stage: packets that may open a connection. It starts itself again when another CPU moved the
/// scheduler meanwhile, as often as the kernel allows.
#[xdp]
#[inline(always)]
pub fn elvs_schedule(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = forward_new(&host, &mut XdpFrame::new(&ctx));
    if action == Action::PERSIST {
        go_on(&ctx, PERSIST_PROGRAM);
    } else if action == Action::SCHEDULE {
        go_on(&ctx, SCHEDULE_PROGRAM);
    } else if action == Action::TUNNEL {
        go_on(&ctx, TUNNEL_PROGRAM);
    } else {
        return answer(action);
    }
    host.count(Counter::SchedulerContended);
    xdp_action::XDP_DROP
}

/// Makes a persistence template for the client of a packet, and goes back to [`elvs_schedule`].
#[xdp]
#[inline(always)]
pub fn elvs_persist(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    let action = persist(&host, &mut XdpFrame::new(&ctx));
    if action == Action::SCHEDULE {
        go_on(&ctx, SCHEDULE_PROGRAM);
    } else if action == Action::PERSIST {
        go_on(&ctx, PERSIST_PROGRAM);
    } else if action == Action::TUNNEL {
        go_on(&ctx, TUNNEL_PROGRAM);
    } else {
        return answer(action);
    }
    host.count(Counter::SchedulerContended);
    xdp_action::XDP_DROP
}

/// Goes on to another program; returns only if that cannot be.
#[inline(always)]
fn go_on(ctx: &XdpContext, program: u32) {
    // SAFETY: the program takes the same context.
    unsafe { ELVS_PROGS.tail_call(ctx, program) };
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

/// Wraps a packet for the tunnel of its destination, unless that is plain IPv4 in IPv4.
#[xdp]
#[inline(always)]
pub fn elvs_tunnel(ctx: XdpContext) -> u32 {
    let Some(host) = KernelHost::new(&ctx) else { return xdp_action::XDP_PASS };
    answer(forward_tunnel(&host, &mut XdpFrame::new(&ctx)))
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

//! Forwarding methods by the words of the command line.
//!
//! **Invariant:** one constant per method the director forwards by.
//!
//! Called by the lab's tests.

use elvs_model::{ForwardingMethod, TunnelKind};

/// Direct routing.
pub const DR: ForwardingMethod = ForwardingMethod::Dr;
/// Masquerading.
pub const NAT: ForwardingMethod = ForwardingMethod::Nat;
/// IP in IP.
pub const TUN: ForwardingMethod = ForwardingMethod::Tun(TunnelKind::Ipip);

//! What tests that need root share: beds of network namespaces, real servers, clients.
//!
//! **Invariant:** a test that needs root fails without it and says so; it never passes silently.
//!
//! Called by `lab/tests`.

pub use elvs_net::bed;

pub mod method;

/// Fails the test if it does not run as root.
///
/// # Panics
/// Without root: network namespaces, XDP and raw sockets need it.
#[expect(clippy::panic, reason = "a test that cannot run must fail loudly")]
pub fn require_root() {
    if !nix::unistd::geteuid().is_root() {
        panic!("this test needs root: run it with `sudo -E cargo xtask test`");
    }
}

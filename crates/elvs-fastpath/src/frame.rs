//! Access to a packet's bytes, and what becomes of it.

/// A frame as received, Ethernet header first.
pub trait Frame {
    /// The `N` bytes at `offset`, if the frame has them.
    ///
    /// The kernel's verifier wants one bounds check per access window with a bounded offset; that is all this does.
    fn window<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]>;

    /// Bytes of the frame.
    fn length(&self) -> usize;

    /// Makes room for `N` bytes in front; false if there is none, and then nothing changed.
    fn grow_front<const N: usize>(&mut self) -> bool;

    /// Index of the interface it came from.
    fn ingress(&self) -> u32;
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To the host's network stack, unchanged.
    Pass,
    /// Dropped; a counter says why.
    Drop,
    /// Out of the interface it came from.
    Transmit,
    /// Out of another interface.
    Redirect(u32),
}

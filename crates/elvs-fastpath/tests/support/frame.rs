//! A frame in a vector.

use elvs_fastpath::{Frame, ShrinkFrame};

/// Interface that frames of the tests come from, unless said otherwise.
pub const NIC: u32 = 2;

/// A frame with some room in front, as XDP has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryFrame {
    /// Bytes, Ethernet header first.
    pub bytes: Vec<u8>,
    /// Bytes that may be put in front.
    pub headroom: usize,
    /// Interface it came from.
    pub ingress: u32,
}

impl MemoryFrame {
    /// A frame of the default interface with XDP's headroom.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, headroom: 256, ingress: NIC }
    }
}

impl Frame for MemoryFrame {
    fn window<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        self.bytes.get_mut(offset..offset.checked_add(N)?)?.try_into().ok()
    }

    fn length(&self) -> usize {
        self.bytes.len()
    }

    fn grow_front<const N: usize>(&mut self) -> bool {
        if self.headroom < N {
            return false;
        }
        self.headroom -= N;
        // What lies there is left over from an earlier packet: nothing may be taken from it.
        self.bytes.splice(0..0, [0xa5; N]);
        true
    }

    fn shrink_front<const N: usize>(&mut self) -> bool {
        if self.bytes.len() < N {
            return false;
        }
        self.headroom += N;
        self.bytes.drain(..N);
        true
    }

    fn truncate(&mut self, length: usize) -> bool {
        self.bytes.truncate(length);
        self.bytes.len() == length
    }

    fn ingress(&self) -> u32 {
        self.ingress
    }
}

impl ShrinkFrame for MemoryFrame {
    fn shrink_front_by(&mut self, bytes: usize) -> bool {
        if bytes + 14 > self.bytes.len() {
            return false;
        }
        self.bytes.drain(..bytes);
        self.headroom += bytes;
        true
    }
}

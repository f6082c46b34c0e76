//! Any bytes as a BFD control packet: no panic, and what parses is written to what parses to the same.
//!
//! Run it with `cargo +nightly fuzz run bfd`. Input: the payload of one UDP datagram.
#![no_main]

use elvs_wire::bfd::Control;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(packet) = Control::parse(bytes) {
        assert_eq!(Control::parse(&packet.emit()), Ok(packet));
    }
});

//! Any sequence of frames on a director with services of every forwarding method: no panic, a passed or dropped frame is
//! as it came, every drop has one reason, the tables agree with one another afterwards.
//!
//! Run it with `cargo +nightly fuzz run packet`. Input: frames one after the other, each behind its length (two bytes,
//! little-endian); the top bit of a length lets time pass before the frame.
#![no_main]

use elvs_common::{Method, TCP, UDP, scheduler_id};
use libfuzzer_sys::fuzz_target;

#[path = "../../crates/elvs-fastpath/tests/support/mod.rs"]
mod support;

use support::{ACK, Packet, SYN, Table};

const CLIENT: &str = "192.0.2.7:40000";
const SERVER: &str = "10.1.0.21:8080";
const VIPS: [(&str, Method); 3] =
    [("10.0.0.100:80", Method::Nat), ("10.0.0.101:80", Method::Dr), ("10.0.0.102:53", Method::Tun)];

fn director() -> Table {
    let mut table = Table::new(1);
    for protocol in [TCP, UDP] {
        for (vip, method) in VIPS {
            let id = table.add_service(protocol, vip, scheduler_id::WLC);
            table.add_destination(id, SERVER, method, 1);
        }
    }
    for (vip, _) in VIPS {
        table.director.run(Packet::tcp(CLIENT, vip, SYN).build());
        table.director.run(Packet::tcp(CLIENT, vip, ACK).build());
        table.director.run(Packet::udp(CLIENT, vip).build());
    }
    table
}

fuzz_target!(|input: &[u8]| {
    let table = director();
    let mut rest = input;
    while let Some(([low, high], frames)) = rest.split_first_chunk() {
        if high & 0x80 != 0 {
            table.director.advance_seconds(60);
        }
        let length = usize::from(u16::from_le_bytes([*low, high & 0x7f])).min(frames.len());
        let (frame, left) = frames.split_at(length);
        table.director.run(frame.to_vec());
        rest = left;
    }
    table.director.check_tables();
});

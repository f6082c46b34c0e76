//! Services whose clients are told apart by the Call-ID of their SIP messages.

use std::net::SocketAddr;

use elvs_common::Counter;
use elvs_lab::method;
use elvs_model::{ForwardingMethod, Persistence, VirtualService};

use crate::bench::{ACK, Bench, Fixture, SYN};
use crate::packet::Packet;
use crate::tamper;
use crate::verdicts::shapes;

pub const FIXTURES: [Fixture; 2] = [("no_call_id", no_call_id), ("calls_full", calls_full)];

/// The services with the engine and one real server.
fn serve(bench: &mut Bench, method: ForwardingMethod, one_packet: bool) {
    bench.begin_anew();
    let engine = |service| VirtualService {
        engine: Some("sip".to_owned()),
        persistence: Some(Persistence { timeout: 300 }),
        one_packet,
        ..service
    };
    bench.serve_with(engine, |_| (), method, 1, 1);
}

/// A datagram with other data.
fn with(packet: Packet, payload: &str) -> Packet {
    Packet { payload: payload.as_bytes().to_vec(), ..packet }
}

fn message(packet: Packet, call: &str) -> Packet {
    with(packet, &format!("INVITE x SIP/2.0\r\nCall-ID: {call}\r\n\r\n"))
}

/// From another port of the client.
fn beside(packet: Packet) -> Packet {
    let from = SocketAddr::new(packet.from.ip(), packet.from.port() + 1);
    Packet { from, ..packet }
}

/// As a packet is to leave for the real server.
fn sent(bench: &Bench, packet: &Packet, method: ForwardingMethod) -> Packet {
    let to = if method == method::NAT { bench.mapped(1) } else { packet.to };
    Packet { to, ..bench.to_server(packet, 1) }
}

fn no_call_id(bench: &mut Bench) {
    let long = format!("a\r\nCall-ID: {}\r\n\r\n", "x".repeat(256));
    let without = ["", "x", "INVITE\r\nCall-ID: one@h", "a\r\nCall-ID: one@h x\r\n", &long];
    let methods = [method::DR, method::NAT, method::TUN];
    for (method, one_packet) in methods.iter().flat_map(|m| [(*m, false), (*m, true)]) {
        serve(bench, method, one_packet);
        for data in without {
            for packet in shapes(bench, &with(bench.udp(), data)) {
                bench.drops(&packet, &[Counter::NoCallId]);
            }
        }
        // The engine knows UDP only.
        bench.drops(&bench.tcp(SYN), &[Counter::NoCallId]);
        bench.passes(&bench.tcp(ACK), &[Counter::NotSyn]);
    }
    // What a message has opened needs none.
    serve(bench, method::DR, false);
    for packet in [message(bench.udp(), "one@h"), with(bench.udp(), "\r\n\r\n")] {
        bench.sends(&packet, &bench.to_server(&packet, 1), &[]);
    }
}

/// There is room for neither the Call-ID nor the connection: both go without, and the message on.
fn calls_full(bench: &mut Bench) {
    let last = tamper::fill_calls(&bench.both);
    for (call, method, one_packet) in [
        ("one@h", method::DR, false),
        ("two@h", method::DR, true),
        ("three@h", method::NAT, false),
        ("four@h", method::NAT, true),
    ] {
        let counted = vec![Counter::CallsFull; if one_packet { 1 } else { 2 }];
        serve(bench, method, one_packet);
        for packet in [bench.udp(), beside(bench.udp())] {
            let packet = message(packet, call);
            let sent = sent(bench, &packet, method);
            bench.sends(&packet, &sent, &counted);
        }
        if method == method::NAT {
            // The real server begins one itself; where the client is, its own message has said.
            let client = beside(beside(bench.udp())).from;
            let own = message(Packet::udp(bench.mapped(1), client), &format!("own-{call}"));
            let sent = Packet { from: bench.service(), ..bench.to_client(&own) };
            bench.sends(&own, &sent, &counted);
        }
    }
    // One that ended leaves room for one.
    tamper::forget_call(&mut bench.both, &last);
    serve(bench, method::DR, false);
    let packet = message(bench.udp(), "last@h");
    bench.sends(&packet, &bench.to_server(&packet, 1), &[]);
    let packet = message(beside(bench.udp()), "last@h");
    bench.sends(&packet, &bench.to_server(&packet, 1), &[Counter::CallsFull]);
}

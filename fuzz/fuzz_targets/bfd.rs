//! Any datagrams to BFD: no panic, what parses is written to what parses to the same, and the sessions' answers parse.
//!
//! Run it with `cargo +nightly fuzz run bfd`. Input: datagrams of up to 24 bytes, each behind two bytes: the TTL it came
//! with, and the hundredths of a second that pass before it. A discriminator that is not 0 stands for the session's.
#![no_main]

use std::time::{Duration, Instant};

use elvs_health::bfd::{Datagram, Effect, Sessions};
use elvs_model::health::BfdInstance;
use elvs_wire::bfd::Control;
use libfuzzer_sys::fuzz_target;

fn instance(name: &str, last: u8, passive: bool) -> BfdInstance {
    BfdInstance {
        name: name.to_owned(),
        neighbor: [10, 0, 0, last].into(),
        source: None,
        min_rx: Duration::from_millis(10),
        min_tx: Duration::from_millis(10),
        idle_tx: Duration::from_secs(1),
        multiplier: last,
        passive,
        ttl: 255,
        max_hops: 1,
        multihop: false,
    }
}

/// Does what is due, and looks at what is sent.
fn step(sessions: &mut Sessions, now: Instant) {
    sessions.handle_timeout(now);
    while let Some(effect) = sessions.poll_effect() {
        if let Effect::Send { packet, .. } = effect {
            assert_eq!(Control::parse(&packet.emit()), Ok(packet));
        }
    }
    assert!(sessions.poll_timeout().is_none_or(|at| at > now), "all that was due is done");
}

fuzz_target!(|input: &[u8]| {
    let mut now = Instant::now();
    let mut sessions = Sessions::new(1);
    sessions.configure(&[instance("active", 1, false), instance("passive", 2, true)], now);
    let keys: Vec<_> = sessions.view().iter().map(|view| view.discriminator).collect();
    for chunk in input.chunks(26) {
        let Some((&[ttl, wait], bytes)) = chunk.split_first_chunk() else { break };
        if let Ok(packet) = Control::parse(bytes) {
            assert_eq!(Control::parse(&packet.emit()), Ok(packet));
        }
        let mut bytes = bytes.to_vec();
        let last = 1 + ttl % 2;
        if let Some(yours) = bytes.get_mut(8..12)
            && yours != [0; 4]
        {
            yours.copy_from_slice(&keys[usize::from(last - 1)].get().to_be_bytes());
        }
        now += Duration::from_millis(10) * u32::from(wait);
        step(&mut sessions, now);
        let source = [10, 0, 0, last].into();
        let datagram =
            Datagram { bytes: &bytes, source, destination: None, multihop: false, ttl: Some(ttl) };
        sessions.handle_datagram(&datagram, now);
        step(&mut sessions, now);
    }
});

//! SCTP, AH and ESP through the director in plain memory: what is listed, counted, rewritten and left alone.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

#[path = "support/sctp.rs"]
mod scenarios;

use elvs_dataplane::{FakePlane, MemoryFrame, Plane};
use elvs_fastpath::Verdict;
use elvs_model::ForwardingMethod;

use scenarios::{Bed, Went, families};

const NIC: u32 = 2;

fn run(plane: &FakePlane, bytes: Vec<u8>) -> Went {
    let mut frame = MemoryFrame::new(bytes.clone(), NIC);
    match plane.process(&mut frame) {
        Verdict::Transmit => Went::Out(frame.bytes),
        Verdict::Redirect(interface) => panic!("to interface {interface}"),
        unchanged @ (Verdict::Pass | Verdict::Drop) => {
            assert_eq!(frame.bytes, bytes, "{unchanged:?}, but changed");
            if unchanged == Verdict::Pass { Went::Passed } else { Went::Dropped }
        }
    }
}

fn with_bed(scenario: impl Fn(Bed<'_, FakePlane>)) {
    let mut plane = FakePlane::for_connections(256);
    scenario(Bed { plane: &mut plane, ingress: NIC, run: &run });
    plane.teardown().unwrap();
}

#[test]
fn masquerading_rewrites_and_tracks_both_ways() {
    for family in families() {
        with_bed(|bed| scenarios::masqueraded(bed, family));
    }
}

#[test]
fn direct_routing_tracks_what_clients_send() {
    for family in families() {
        with_bed(|bed| scenarios::direct(bed, family));
    }
}

#[test]
fn errors_find_their_association() {
    for family in families() {
        for method in [ForwardingMethod::Dr, ForwardingMethod::Nat] {
            with_bed(|bed| scenarios::errors(bed, family, method));
        }
    }
}

#[test]
fn any_chunk_but_an_abort_opens_if_that_is_set() {
    for family in families() {
        with_bed(|bed| scenarios::sloppy(bed, family));
    }
}

#[test]
fn a_client_keeps_its_real_server() {
    for family in families() {
        with_bed(|bed| scenarios::persistent(bed, family));
    }
}

#[test]
fn ah_and_esp_follow_their_ike() {
    for family in families() {
        for method in [ForwardingMethod::Dr, ForwardingMethod::Nat] {
            with_bed(|bed| scenarios::ipsec(bed, family, method));
        }
    }
}

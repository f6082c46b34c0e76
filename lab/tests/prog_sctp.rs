//! SCTP, AH and ESP by the real program: the scenarios that the data plane's own tests run in plain memory.
//!
//! There is no test with real sockets: SCTP is a module that not every kernel has, and the packets here are what one sends.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

#[path = "../../crates/elvs-dataplane/tests/support/sctp.rs"]
mod scenarios;

use aya::TestRunOptions;
use aya::programs::{TestRun, Xdp};
use aya_obj::programs::XdpAttachType;
use elvs_common::{LAYOUT_VERSION, program_names};
use elvs_dataplane::{DataPlane, Options, Plane, open};
use elvs_lab::require_root;
use elvs_model::ForwardingMethod;

use scenarios::{Bed, Went, families};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
/// Interface that test runs come from.
const LOOPBACK: u32 = 1;

fn with_bed(name: &str, scenario: impl Fn(Bed<'_, DataPlane>)) {
    require_root();
    let state = tempfile::tempdir().unwrap();
    let options = Options {
        instance: format!("lab-sctp-{name}-{}", std::process::id()),
        pin_root: "/sys/fs/bpf/elvs-lab".into(),
        state_dir: state.path().to_path_buf(),
        connections: 4_096,
        wide_connections: None,
        locals: 1,
    };
    let pins = options.pin_root.join(&options.instance).join(format!("v{LAYOUT_VERSION}"));
    let mut plane = open(&options).unwrap().plane;
    let program =
        Xdp::from_pin(pins.join(program_names::DIRECTOR), XdpAttachType::Interface).unwrap();
    let run = |_: &DataPlane, frame: Vec<u8>| {
        let mut out = vec![0; 4_096];
        let mut options = TestRunOptions::new();
        options.data_in = Some(&frame);
        options.data_out = Some(&mut out);
        let result = program.test_run(options).unwrap();
        out.truncate(usize::try_from(result.data_size_out).unwrap());
        match result.return_value {
            XDP_TX => return Went::Out(out),
            XDP_PASS => assert_eq!(out, frame, "passed, but changed"),
            XDP_DROP => {
                assert_eq!(out, frame, "dropped, but changed");
                return Went::Dropped;
            }
            other => panic!("XDP action {other}"),
        }
        Went::Passed
    };
    let scenario = std::panic::AssertUnwindSafe(|| {
        scenario(Bed { plane: &mut plane, ingress: LOOPBACK, run: &run });
    });
    let outcome = std::panic::catch_unwind(scenario);
    // A test that failed half way leaves no pins.
    plane.teardown().ok();
    std::fs::remove_dir(&options.pin_root).ok();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn masquerading_rewrites_and_tracks_both_ways() {
    for family in families() {
        with_bed("nat", |bed| scenarios::masqueraded(bed, family));
    }
}

#[test]
fn direct_routing_tracks_what_clients_send() {
    for family in families() {
        with_bed("dr", |bed| scenarios::direct(bed, family));
    }
}

#[test]
fn errors_find_their_association() {
    for family in families() {
        for method in [ForwardingMethod::Dr, ForwardingMethod::Nat] {
            with_bed("errors", |bed| scenarios::errors(bed, family, method));
        }
    }
}

#[test]
fn any_chunk_but_an_abort_opens_if_that_is_set() {
    for family in families() {
        with_bed("sloppy", |bed| scenarios::sloppy(bed, family));
    }
}

#[test]
fn a_client_keeps_its_real_server() {
    for family in families() {
        with_bed("persistent", |bed| scenarios::persistent(bed, family));
    }
}

#[test]
fn ah_and_esp_follow_their_ike() {
    for family in families() {
        for method in [ForwardingMethod::Dr, ForwardingMethod::Nat] {
            with_bed("ipsec", |bed| scenarios::ipsec(bed, family, method));
        }
    }
}

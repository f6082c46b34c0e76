use std::net::IpAddr;
use std::time::Duration;

use elvs_model::health::{BfdInstance, CheckKind, FileCheck};

use crate::lower::tests::{read_text, shown};

fn session(lines: &str) -> BfdInstance {
    let outcome = read_text(&format!("bfd_instance b {{\n{lines}\n}}\n"));
    let found = shown(&outcome);
    let desired = outcome.desired.unwrap_or_else(|| panic!("{lines}: {found:?}"));
    let [session] = desired.health.bfd.try_into().unwrap();
    session
}

#[test]
fn keepalived_conf_sessions_have_these_defaults() {
    let want = BfdInstance {
        name: "b".to_owned(),
        neighbor: IpAddr::from([192, 0, 2, 1]),
        source: None,
        min_rx: Duration::from_millis(10),
        min_tx: Duration::from_millis(10),
        idle_tx: Duration::from_secs(1),
        multiplier: 5,
        passive: false,
        ttl: 255,
        max_hops: 0,
        multihop: false,
    };
    assert_eq!(session("neighbor_ip 192.0.2.1"), want);
    assert_eq!(session("neighbour_ip 192.0.2.1"), want);
    assert_eq!(session("neighbor_ip 2001:db8::1").ttl, 64);
}

#[test]
fn sessions_are_as_written() {
    let lines = "neighbor_ip 192.0.2.1\nsource_ip 192.0.2.2\nmin_rx 3.312\nmin_tx 20\nidle_tx 1500\nmultiplier 255\npassive\nhoplimit 7\nmax_hops 3\nmultihop";
    let session = session(lines);
    assert_eq!(session.source, Some(IpAddr::from([192, 0, 2, 2])));
    assert_eq!(session.min_rx, Duration::from_micros(3312));
    assert_eq!(session.min_tx, Duration::from_millis(20));
    assert_eq!(session.idle_tx, Duration::from_millis(1500));
    assert_eq!((session.multiplier, session.ttl, session.max_hops), (255, 7, 3));
    assert!(session.passive && session.multihop);
}

#[test]
fn sessions_that_cannot_be_meant_are_refused_or_said() {
    let with = |line: &str| format!("bfd_instance b {{\nneighbor_ip 192.0.2.1\n{line}\n}}\n");
    let cases = [
        (with("min_rx 0"), "f:3:8: error: min_rx `0` is not within 1 to 4294967.295 milliseconds"),
        (
            with("idle_tx 999"),
            "f:3:9: error: idle_tx `999` is not within 1000 to 4294967.295 milliseconds",
        ),
        (with("multiplier 256"), "f:3:12: error: multiplier 256 exceeds 255"),
        (with("ttl 0"), "f:3:5: error: ttl 0 is below 1"),
        (with("source_ip ::1"), "f:3:1: error: source_ip ::1 is not of the family of 192.0.2.1"),
        (with("ttl 9\nmax_hops 10"), "f:4:1: warning: max_hops 10 exceeds the TTL of 9: 9 is used"),
        (
            with("") + &with("").replace(" b ", " c "),
            "f:5:1: error: bfd_instance `c` has the neighbour and the source of `b`",
        ),
        ("bfd_instance b {\n}\n".to_owned(), "f:1:1: error: bfd_instance `b` has no neighbour"),
        (with("").repeat(2), "f:5:1: error: bfd_instance `b` is defined twice"),
        (
            with("").replace(" b ", " abcdefghijklmnopqrstuvwxyz012345 "),
            "f:1:14: error: `abcdefghijklmnopqrstuvwxyz012345` has more than 31 bytes",
        ),
    ];
    for (text, want) in cases {
        assert_eq!(shown(&read_text(&text)), [want], "{text}");
    }
}

/// The check of a file whose `track_file` block has `lines`, by a `FILE_CHECK` with `own` in it.
fn file(keyword: &str, lines: &str, own: &str) -> FileCheck {
    let text = format!(
        "virtual_server 192.0.2.1 80 {{\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\nreal_server 192.0.2.9 80 {{\nFILE_CHECK {{\ntrack_file f\n{own}\n}}\n}}\n}}\n{keyword} f {{\nfile /run/f\n{lines}\n}}\n"
    );
    let outcome = read_text(&text);
    let found = shown(&outcome);
    let desired = outcome.desired.unwrap_or_else(|| panic!("{lines} {own}: {found:?}"));
    let CheckKind::File(file) = &desired.services[0].health.servers[0].checks[0].kind else {
        panic!()
    };
    file.clone()
}

#[test]
fn files_have_the_nearest_weight() {
    let plain = file("track_file", "", "");
    assert_eq!((plain.file.name.as_str(), plain.file.path.to_str()), ("f", Some("/run/f")));
    assert_eq!((plain.file.initial, plain.weight, plain.reverse), (None, 1, false));
    let set = "weight -7 reverse\ninit_file";
    let of_block = file("vrrp_track_file", set, "");
    assert_eq!(
        (of_block.file.initial, of_block.weight, of_block.reverse),
        (Some((0, false)), -7, true)
    );
    let own = file("track_file", set, "weight 2147483647 noreverse");
    assert_eq!((own.weight, own.reverse), (2_147_483_647, false));
    assert_eq!(file("track_file", "init_file -3 overwrite", "").file.initial, Some((-3, true)));
    assert_eq!(file("track_file", "init_file overwrite", "").file.initial, Some((0, true)));
}

#[test]
fn files_that_cannot_be_meant_are_refused() {
    let cases = [
        ("track_file f {\n}\n", "f:1:1: error: track_file `f` has no file"),
        (
            "track_file f {\nfile /a\n}\nvrrp_track_file f {\nfile /b\n}\n",
            "f:4:1: error: track_file `f` is defined twice",
        ),
        (
            "track_file f {\nfile /a\nweight 255\n}\n",
            "f:3:8: error: weight `255` is no number from -254 to 254",
        ),
        ("track_file f {\nfile /a\nweight 1 back\n}\n", "f:3:10: error: unknown direction `back`"),
        (
            "track_file f {\nfile /a\ninit_file x\n}\n",
            "f:3:11: error: init_file `x` is no number from -2147483648 to 2147483647",
        ),
    ];
    for (text, want) in cases {
        assert_eq!(shown(&read_text(text)), [want], "{text}");
    }
}

#[test]
fn the_weight_of_a_check_may_be_as_great_as_that_of_a_real_server() {
    let text = |weight: &str| {
        format!(
            "virtual_server 192.0.2.1 80 {{\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\nreal_server 192.0.2.9 80 {{\nFILE_CHECK {{\ntrack_file f\nweight {weight}\n}}\n}}\n}}\ntrack_file f {{\nfile /run/f\n}}\n"
        )
    };
    assert!(read_text(&text("-2147483647")).desired.is_some());
    let want = "f:8:8: error: weight `2147483648` is no number from -2147483647 to 2147483647";
    assert_eq!(shown(&read_text(&text("2147483648"))), [want]);
}

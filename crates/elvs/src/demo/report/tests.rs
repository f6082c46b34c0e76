use super::*;
use crate::demo::options::DemoScheduler;

fn settings() -> Settings {
    Settings {
        fail: None,
        mode: Mode::Dr,
        scheduler: DemoScheduler::Wrr,
        weights: vec![3, 2, 1],
        requests: 6,
        keep: false,
        json: true,
    }
}

fn report(answers: &[(&str, u64)], failed: u64) -> Report {
    let outcome = Outcome {
        answers: answers.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
        seen: BTreeSet::from([IpAddr::V4(CLIENT)]),
        failed,
        first_failure: (failed > 0).then(|| "request 1: cannot connect".to_owned()),
        elapsed: Duration::from_millis(500),
    };
    let facts = Facts {
        interfaces: vec![("eth0".to_owned(), "native")],
        packets: 36,
        drops: BTreeMap::from([("malformed".to_owned(), 2)]),
    };
    Report::new(&settings(), outcome, Replies { through_director: 0, direct: 30 }, facts)
}

/// The shape is a promise to programs: names, order and types.
#[test]
fn json_has_the_promised_shape() {
    let report = report(&[("rs1", 3), ("rs2", 2), ("rs3", 1)], 0);
    assert_eq!(
        serde_json::to_string(&report.json()).unwrap(),
        concat!(
            r#"{"mode":"dr","scheduler":"wrr","requests":6,"succeeded":6,"failed":0,"real_servers":["#,
            r#"{"address":"10.0.0.21","weight":3,"connections":3},"#,
            r#"{"address":"10.0.0.22","weight":2,"connections":2},"#,
            r#"{"address":"10.0.0.23","weight":1,"connections":1}],"#,
            r#""director":{"xdp_mode":"native","replies_through_director":0,"packets":36,"drops":{"malformed":2}}}"#
        )
    );
}

/// Answers by name, failed requests, whether the promise was kept, part of the verdict.
type Case = (&'static [(&'static str, u64)], u64, bool, &'static str);

#[test]
fn keeps_its_promise_only_with_exact_shares_and_no_failure() {
    const CASES: &[Case] = &[
        (&[("rs1", 3), ("rs2", 2), ("rs3", 1)], 0, true, "exactly what wrr owes it"),
        (
            &[("rs1", 2), ("rs2", 3), ("rs3", 1)],
            0,
            false,
            "rs1 got 2 and is owed 3; rs2 got 3 and is owed 2",
        ),
        (&[("rs1", 3), ("rs2", 2)], 1, false, "1 requests FAILED, and it is not"),
        (&[("rs1", 3), ("rs2", 2), ("rs3", 1)], 1, false, "1 requests FAILED."),
    ];
    for (answers, failed, kept, verdict) in CASES {
        let report = report(answers, *failed);
        assert_eq!(report.kept_promise(), *kept, "{answers:?}");
        assert!(report.verdict().contains(verdict), "{answers:?}: {}", report.verdict());
    }
}

#[test]
fn prints_for_people() {
    let mut text = Vec::new();
    report(&[("rs1", 3), ("rs2", 2), ("rs3", 1)], 0).print(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    for expected in [
        "6 of 6 answered",
        "bypassed the director: all 30 packets",
        "saw 10.0.0.1, its own address",
        "XDP           native",
        "36 packets in 0.50 s, 72 packets/s",
        "2 malformed",
        "50.0%",
        "33.3%",
        "16.7%",
    ] {
        assert!(text.contains(expected), "{expected} is missing in:\n{text}");
    }
}

#[test]
fn rounds_shares() {
    const CASES: &[(u64, u64, &str)] = &[
        (0, 0, "-"),
        (0, 7, "0.0%"),
        (7, 7, "100.0%"),
        (1, 3, "33.3%"),
        (2, 3, "66.7%"),
        (1, 2000, "0.1%"),
    ];
    for (part, whole, expected) in CASES {
        assert_eq!(percent(*part, *whole), *expected, "{part} of {whole}");
    }
}

#[test]
fn draws_every_host() {
    for mode in [Mode::Dr, Mode::Nat, Mode::Tun] {
        let drawing = drawing::draw(&Settings { mode, ..settings() });
        for host in
            ["10.0.0.1 ", "10.0.0.10 ", "10.0.0.100:80", "rs1", "rs2", "rs3", "weight 3", ".23:80"]
        {
            assert!(drawing.contains(host), "{host} is missing in:\n{drawing}");
        }
        // The network's line is straight: it is in the same column in every line that has it.
        let columns: BTreeSet<usize> = drawing
            .lines()
            .filter_map(|line| line.chars().position(|c| "┐┤┘│".contains(c)))
            .collect();
        assert_eq!(columns.len(), 1, "{columns:?} in:\n{drawing}");
    }
}

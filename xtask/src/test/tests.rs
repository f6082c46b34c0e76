use super::*;

#[test]
fn reads_the_lines_that_sum_up_a_test_binary() {
    let cases = [
        (
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.52s",
            Some(Tally { passed: 12, failed: 0, ignored: 1 }),
        ),
        (
            "test result: FAILED. 7 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
            Some(Tally { passed: 7, failed: 2, ignored: 0 }),
        ),
        ("test flow::expires ... ok", None),
        ("running 3 tests", None),
        ("test result: ok", None),
        ("it printed: test result: ok. 9 passed; 0 failed", None),
    ];
    for (line, expected) in cases {
        assert_eq!(Tally::of_line(line), expected, "{line}");
    }
}

fn tests() -> Vec<String> {
    vec!["net_bed".to_owned()]
}

#[test]
fn tests_that_need_peers_exist_and_only_they_are_left_out() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let all = lab_tests(root, false).unwrap();
    let mut without = lab_tests(root, true).unwrap();
    without.extend(PEER_TESTS.iter().map(|&name| name.to_owned()));
    without.sort();
    assert_eq!(without, all);
}

#[test]
fn tests_that_start_peers_are_known() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("lab/tests");
    for name in lab_tests(folder.ancestors().nth(2).unwrap(), false).unwrap() {
        let source = std::fs::read_to_string(folder.join(format!("{name}.rs"))).unwrap();
        let starts = ["bird", "curl", "keepalived", "nginx", "wrk"].iter().any(|peer| {
            source.contains(&format!(".{peer}(")) || source.contains(&format!("(\"{peer}\")"))
        });
        // What compares with a peer is named after it.
        let starts = starts || source.contains("Nginx::") || name.starts_with("peer_");
        assert_eq!(starts, PEER_TESTS.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn host_only_leaves_out_the_lab_and_nothing_else() {
    let names = |host_only| {
        let options = Options { host_only, filter: None };
        let jobs = jobs(Path::new("/"), Path::new("/t/release/elvs"), &options, &tests());
        jobs.into_iter().map(|job| job.name).collect::<Vec<_>>()
    };
    assert_eq!(names(true), names(false)[..2]);
    assert_eq!(names(false)[2], "tests that need root");
}

#[test]
fn the_lab_gets_the_binary_and_one_thread() {
    let options = Options { host_only: false, filter: Some("net_".into()) };
    let lab = jobs(Path::new("/"), Path::new("/t/release/elvs"), &options, &tests())
        .pop()
        .unwrap()
        .command;
    let arguments: Vec<_> = lab.get_args().collect();
    let expected = "test --no-fail-fast -p elvs-lab --lib --test net_bed net_ -- --test-threads=1";
    let expected: Vec<_> = expected.split(' ').collect();
    assert_eq!(arguments, expected);
    let binary = lab.get_envs().find(|(name, _)| *name == BINARY).unwrap().1;
    assert_eq!(binary, Some("/t/release/elvs".as_ref()));
}

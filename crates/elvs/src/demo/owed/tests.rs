use super::*;

/// Picks that a real kernel made (Linux 6.12, short TCP connections), as the decision core's tests have them.
const RECORDINGS: &[(&str, DemoScheduler, &str)] = &[
    (
        "rr 1,1,1",
        DemoScheduler::Rr,
        include_str!("../../../../elvs-fastpath/tests/golden/sched/rr-w111-tcp.script"),
    ),
    (
        "rr 4,3,2,1",
        DemoScheduler::Rr,
        include_str!("../../../../elvs-fastpath/tests/golden/sched/rr-w4321-tcp.script"),
    ),
    (
        "rr added 3,1,2",
        DemoScheduler::Rr,
        include_str!("../../../../elvs-fastpath/tests/golden/sched/order-rr-312.script"),
    ),
    (
        "wrr 1,1,1",
        DemoScheduler::Wrr,
        include_str!("../../../../elvs-fastpath/tests/golden/sched/wrr-w111-tcp.script"),
    ),
    (
        "wrr 4,3,2,1",
        DemoScheduler::Wrr,
        include_str!("../../../../elvs-fastpath/tests/golden/sched/wrr-w4321-tcp.script"),
    ),
    (
        "wrr added 3,1,2",
        DemoScheduler::Wrr,
        include_str!("../../../../elvs-fastpath/tests/golden/sched/order-wrr-312.script"),
    ),
    (
        "wlc 1,1,1",
        DemoScheduler::Wlc,
        include_str!("../../../../elvs-fastpath/tests/golden/sched/wlc-w111-tcp.script"),
    ),
    (
        "wlc 4,3,2,1",
        DemoScheduler::Wlc,
        include_str!("../../../../elvs-fastpath/tests/golden/sched/wlc-w4321-tcp.script"),
    ),
    (
        "wlc added 2,3,1",
        DemoScheduler::Wlc,
        include_str!("../../../../elvs-fastpath/tests/golden/sched/order-wlc-231.script"),
    ),
];

/// Addresses and weights in the order added, and the picks.
fn parse(script: &str) -> (Vec<(String, u32)>, Vec<String>) {
    let mut servers = Vec::new();
    let mut picks = Vec::new();
    for line in script.lines() {
        if line.starts_with("ipvsadm -a") {
            let words: Vec<&str> = line.split_whitespace().collect();
            let after = |flag| {
                let place = words.iter().position(|word| *word == flag).unwrap();
                words[place + 1].to_owned()
            };
            let address = after("-r").split(':').next().unwrap().to_owned();
            servers.push((address, after("-w").parse().unwrap()));
        } else if let Some((_, pick)) = line.split_once(" -> ") {
            picks.push(pick.trim().to_owned());
        }
    }
    (servers, picks)
}

#[test]
fn picks_as_the_kernel_did() {
    for (name, scheduler, script) in RECORDINGS {
        let (servers, picks) = parse(script);
        assert!(picks.len() >= 24, "{name}: {} picks", picks.len());
        let weights: Vec<u32> = servers.iter().map(|(_, weight)| *weight).collect();
        let mut model = Model::new(*scheduler, &weights);
        for (number, expected) in picks.iter().enumerate() {
            let picked = model.pick().unwrap();
            assert_eq!(&servers[picked].0, expected, "{name}: connection {}", number + 1);
        }
    }
}

#[test]
fn owes_whole_shares() {
    const CASES: &[(DemoScheduler, &[u32], u16, &[u64])] = &[
        (DemoScheduler::Rr, &[1, 1, 1], 300, &[100, 100, 100]),
        (DemoScheduler::Rr, &[3, 2, 1], 300, &[100, 100, 100]),
        (DemoScheduler::Rr, &[1, 1, 1], 301, &[100, 100, 101]),
        (DemoScheduler::Rr, &[1, 0, 1], 3, &[1, 0, 2]),
        (DemoScheduler::Wrr, &[3, 2, 1], 300, &[150, 100, 50]),
        (DemoScheduler::Wrr, &[6, 4, 2], 300, &[150, 100, 50]),
        (DemoScheduler::Wrr, &[0, 2, 0], 5, &[0, 5, 0]),
        (DemoScheduler::Wlc, &[3, 2, 1], 300, &[150, 100, 50]),
        (DemoScheduler::Wlc, &[0, 0, 7], 9, &[0, 0, 9]),
        (DemoScheduler::Wrr, &[65535, 1], 10, &[9, 1]),
    ];
    for (scheduler, weights, connections, expected) in CASES {
        let counts = owed(*scheduler, weights, *connections);
        assert_eq!(counts, *expected, "{scheduler:?} {weights:?} {connections}");
    }
}

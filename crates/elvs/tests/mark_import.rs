//! Whole files of iptables and nftables with the mark rules that they become: `ELVS_BLESS=1` rewrites what is expected.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use elvs::mark::{Skipped, convert};
use elvs_model::Family;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mark").join(name)
}

/// What becomes of a file, as text.
fn shown(text: &str) -> String {
    let converted = convert(text, None).unwrap();
    let mut shown = String::new();
    for rule in &converted.rules {
        writeln!(shown, "{rule}").unwrap();
    }
    for (what, list) in [("skipped", &converted.skipped), ("elsewhere", &converted.elsewhere)] {
        for Skipped { place, text, reason } in list {
            writeln!(shown, "{what}: {place}: {reason}\n  {text}").unwrap();
        }
    }
    shown
}

#[test]
fn files_are_converted_as_recorded() {
    for (input, output) in [
        ("lvs.save", "lvs.out"),
        ("plain6.save", "plain6.out"),
        ("ruleset.json", "ruleset.out"),
        // What nft 1.0.6 wrote.
        ("recorded.json", "recorded.out"),
    ] {
        let actual = shown(&fs::read_to_string(golden(input)).unwrap());
        if std::env::var_os("ELVS_BLESS").is_some() {
            fs::write(golden(output), &actual).unwrap();
        }
        let expected = fs::read_to_string(golden(output)).unwrap_or_default();
        assert_eq!(expected, actual, "{output}: ELVS_BLESS=1 rewrites it");
    }
}

/// Rules of table mangle's PREROUTING.
fn rules(lines: &str) -> Vec<String> {
    let text = format!("*mangle\n:PREROUTING ACCEPT [0:0]\n{lines}\nCOMMIT\n");
    let converted = convert(&text, Some(Family::Inet)).unwrap();
    assert_eq!(converted.skipped, [], "{lines}");
    converted.rules.iter().map(ToString::to_string).collect()
}

#[test]
fn the_last_rule_of_iptables_comes_first() {
    let found = rules(
        "-A PREROUTING -d 192.0.2.0/24 -j MARK --set-mark 1\n-A PREROUTING -d 192.0.2.7/32 -j MARK --set-mark 2",
    );
    assert_eq!(
        found,
        ["--destination 192.0.2.7/32 --mark 2", "--destination 192.0.2.0/24 --mark 1"]
    );
    let overwritten = rules(
        "-A PREROUTING -d 192.0.2.7/32 -j MARK --set-mark 2\n-A PREROUTING -d 192.0.2.0/24 -j MARK --set-mark 1",
    );
    assert_eq!(overwritten, ["--destination 192.0.2.0/24 --mark 1"]);
}

#[test]
fn a_rule_without_addresses_keeps_its_family() {
    assert_eq!(
        rules("-A PREROUTING -p tcp -m tcp --dport :1023 -j MARK --set-mark 1"),
        ["--destination 0.0.0.0/0 --protocol tcp --destination-port 0:1023 --mark 1"]
    );
}

#[test]
fn masks_change_the_bits_they_name() {
    let found = rules(
        "-A PREROUTING -d 192.0.2.7/32 -j MARK --set-xmark 0x12/0xffffffff\n-A PREROUTING -d 192.0.2.0/24 -j MARK --set-xmark 0x100/0xf0",
    );
    assert_eq!(
        found,
        ["--destination 192.0.2.7/32 --mark 258", "--destination 192.0.2.0/24 --mark 256"]
    );
    let cleared = rules(
        "-A PREROUTING -d 192.0.2.0/31 -j MARK --set-mark 1\n-A PREROUTING -d 192.0.2.1/32 -j MARK --and-mark 0xfe",
    );
    assert_eq!(
        cleared,
        ["--destination 192.0.2.1/32 --mark none", "--destination 192.0.2.0/31 --mark 1"]
    );
}

#[test]
fn a_policy_that_drops_leaves_no_marks_but_those_of_accepted_packets() {
    let text = "*mangle\n:PREROUTING DROP [0:0]\n-A PREROUTING -d 192.0.2.1/32 -j MARK --set-mark 1\n-A PREROUTING -p tcp -d 192.0.2.0/30 -j ACCEPT\nCOMMIT\n";
    let expected = "--destination 192.0.2.1/32 --protocol tcp --mark 1\n";
    assert_eq!(shown(text), expected);
}

/// What no mark rule can match, one that leaves packets unmarked can.
#[test]
fn every_protocol_and_every_interface_but_one() {
    let mark = "-j MARK --set-mark 1";
    assert_eq!(
        rules(&format!("-A PREROUTING -d 192.0.2.1/32 ! -p icmp ! -i lo {mark}")),
        [
            "--destination 192.0.2.1/32 --protocol 1 --mark none",
            "--destination 192.0.2.1/32 --interface lo --mark none",
            "--destination 192.0.2.1/32 --mark 1",
        ]
    );
    assert_eq!(
        rules(&format!("-A PREROUTING -i lo -j ACCEPT\n-A PREROUTING -d 192.0.2.1/32 {mark}")),
        [
            "--destination 0.0.0.0/0 --interface lo --mark none",
            "--destination 192.0.2.1/32 --mark 1"
        ]
    );
}

/// A rule that cannot be taken over is named only if it has to do with marks.
#[test]
fn a_rule_in_doubt_is_named_where_it_matters() {
    let text = |lines: &str| format!("*mangle\n:A - [0:0]\n{lines}\nCOMMIT\n");
    let skipped = |lines: &str| {
        let converted = convert(&text(lines), Some(Family::Inet)).unwrap();
        converted.skipped.into_iter().map(|skipped| skipped.place).collect::<Vec<_>>()
    };
    let mark = "-A PREROUTING -d 192.0.2.1/32 -j MARK --set-mark 1";
    let doubt = "-A PREROUTING -m state --state NEW";
    assert_eq!(skipped(&format!("{doubt} -j ACCEPT\n{mark}")), ["line 3"]);
    assert_eq!(skipped(&format!("{mark}\n{doubt} -j ACCEPT")), [""; 0]);
    assert_eq!(skipped(&format!("{mark}\n{doubt} -j DROP")), ["line 4"]);
    assert_eq!(skipped(&format!("{doubt} -d 192.0.2.2/32 -j ACCEPT\n{mark}")), [""; 0]);
    // It leaves chain A alone, and what follows in PREROUTING meets its packets too.
    let inside =
        "-A PREROUTING -j A\n-A A -m state --state NEW -j RETURN\n-A A -s 10.0.0.0/8 -j LOG";
    assert_eq!(skipped(&format!("{inside}\n{mark}")), [""; 0]);
}

/// nft leaves out matches that another one implies.
#[test]
fn a_negated_match_of_nft_needs_the_header_it_looks_at() {
    let rule = |left: &str, right: &str| {
        format!(
            r#"{{"nftables":[{{"chain":{{"family":"inet","table":"t","name":"c","type":"filter","hook":"prerouting","prio":0}}}},
            {{"rule":{{"family":"inet","table":"t","chain":"c","handle":1,"expr":[
            {{"match":{{"op":"!=","left":{{"payload":{left}}},"right":{right}}}}},
            {{"mangle":{{"key":{{"meta":{{"key":"mark"}}}},"value":7}}}}]}}}}]}}"#
        )
    };
    let port = shown(&rule(r#"{"protocol":"tcp","field":"dport"}"#, "80"));
    assert_eq!(port, "--protocol tcp --destination-port 80 --mark none\n--protocol tcp --mark 7\n");
    let address = shown(&rule(
        r#"{"protocol":"ip","field":"daddr"}"#,
        r#"{"prefix":{"addr":"128.0.0.0","len":1}}"#,
    ));
    assert_eq!(
        address,
        "--destination 128.0.0.0/1 --mark none\n--destination 0.0.0.0/0 --mark 7\n"
    );
}

#[test]
fn one_family_can_be_asked_for() {
    let both = fs::read_to_string(golden("lvs.save")).unwrap()
        + &fs::read_to_string(golden("plain6.save")).unwrap();
    let nft = fs::read_to_string(golden("ruleset.json")).unwrap();
    for text in [both, nft] {
        let all = convert(&text, None).unwrap().rules;
        assert!(all.iter().any(|rule| rule.family() == Some(Family::Inet6)));
        for family in [Family::Inet, Family::Inet6] {
            let rules = convert(&text, Some(family)).unwrap().rules;
            assert!(!rules.is_empty());
            assert!(rules.iter().all(|rule| rule.family() == Some(family)), "{rules:?}");
        }
    }
}

#[test]
fn refuses_what_is_none_of_the_three() {
    let cases = [
        ("table ip mangle {\n}\n", "`nft -j list ruleset`"),
        ("{\"nftables\": [", "it starts as JSON and is none"),
        ("{\"services\": []}", "it has no list `nftables`"),
        ("-A PREROUTING -j MARK --set-mark 1\n", "line 1 is not of iptables-save: -A PREROUTING"),
        ("*mangle\nnonsense\n", "line 2 is not of iptables-save: nonsense"),
        ("*mangle\n-A PREROUTING -d\nCOMMIT\n", "may be of iptables or of ip6tables"),
        ("*mangle\n-A PREROUTING -s 10.0.0.1 -d\nCOMMIT\n", "line 2: `-d` has no value"),
        ("*mangle\n-A PREROUTING -s 10.0.0.1 -j\nCOMMIT\n", "line 2: `-j` has no target"),
        (
            "*mangle\n-A PREROUTING -s 10.0.0.1 --comment \"x\n",
            "line 2: a quote is not closed: -A PREROUTING",
        ),
    ];
    for (text, expected) in cases {
        let message = convert(text, None).map(|_| ()).expect_err(text).to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn rules_that_would_multiply_without_bound_are_named() {
    let ports: Vec<String> = (0..70).map(|port| (port * 2).to_string()).collect();
    let ports = ports.join(",");
    let text = format!(
        "*mangle\n-A PREROUTING -d 192.0.2.1/32 -p tcp -m multiport --sports {ports} -m multiport --dports {ports} -j MARK --set-mark 1\nCOMMIT\n"
    );
    let converted = convert(&text, None).unwrap();
    assert_eq!(converted.rules, []);
    assert!(converted.skipped[0].reason.contains("more than 4096"), "{:?}", converted.skipped);
}

#[test]
fn loops_of_chains_end() {
    let text = "*mangle\n:PREROUTING ACCEPT [0:0]\n:A - [0:0]\n-A PREROUTING -d 192.0.2.1/32 -j A\n-A A -j MARK --set-mark 1\n-A A -j A\n-A A -j A\nCOMMIT\n";
    let converted = convert(text, None).unwrap();
    assert!(!converted.skipped.is_empty());
}

use crate::{MapSource, Options, read};

fn findings(text: &str) -> Vec<String> {
    let outcome = read(&MapSource::single("f", text), "f", &Options::default());
    outcome.diagnostics.iter().map(ToString::to_string).collect()
}

fn helps(text: &str) -> Vec<String> {
    let outcome = read(&MapSource::single("f", text), "f", &Options::default());
    outcome.diagnostics.into_iter().filter_map(|d| d.help).collect()
}

#[test]
fn unknown_keywords_name_the_nearest_known_one() {
    let cases: &[(&str, &str, &str)] = &[
        (
            "global_def {\n}",
            "f:1:1: error: unknown keyword `global_def` outside every block",
            "did you mean `global_defs`?",
        ),
        (
            "global_defs {\n lvs_timeout tcp 9\n}",
            "f:2:2: error: unknown keyword `lvs_timeout` in a `global_defs` block",
            "did you mean `lvs_timeouts`?",
        ),
        (
            "data_plane {\n interfaces_ eth0\n}",
            "f:2:2: error: unknown keyword `interfaces_` in a `data_plane` block",
            "did you mean `interface`?",
        ),
        (
            "data_plane {\n vrtual_router_id 1\n}",
            "f:2:2: error: unknown keyword `vrtual_router_id` in a `data_plane` block",
            "did you mean `virtual_router_id`? It belongs in a `vrrp_instance` block",
        ),
        (
            "192.0.2.1 80 {\n}",
            "f:1:1: error: unknown keyword `192.0.2.1` outside every block",
            "an address starts no statement; is the keyword before it missing?",
        ),
        (
            "lvs_sched rr",
            "f:1:1: error: `lvs_sched` does not belong here, outside every block",
            "it belongs in a `virtual_server` block",
        ),
        (
            "global_defs {\n weight 1\n}",
            "f:2:2: error: `weight` does not belong in a `global_defs` block",
            "it belongs in a `virtual_server`, `real_server`, `FILE_CHECK`, `vrrp_script`, `vrrp_track_process`, `track_file` or `bfd_instance` block",
        ),
        (
            "global_defs {\n instance x\n}",
            "f:2:2: error: `instance` does not belong in a `global_defs` block",
            "`instance` stands outside every block; is a `}` missing above it?",
        ),
    ];
    for (text, message, help) in cases {
        assert_eq!(
            (findings(text), helps(text)),
            (vec![(*message).to_owned()], vec![(*help).to_owned()])
        );
    }
    assert_eq!(findings("zzzzzzzzzzzz 1\nqqqqqqqqqqq 2").len(), 2);
    assert_eq!(helps("zzzzzzzzzzzz 1"), Vec::<String>::new());
}

#[test]
fn content_of_an_unknown_block_is_not_judged() {
    assert_eq!(findings("nonsense_block {\n more {\n  nonsense\n }\n}").len(), 1);
}

#[test]
fn arguments_and_blocks_are_counted() {
    let cases: &[(&str, &str)] = &[
        ("virtual_server {\n}", "f:1:1: error: `virtual_server` has no argument"),
        ("global_defs {\n lvs_timeouts tcp\n}", "f:2:2: error: `lvs_timeouts` has only 1 argument"),
        (
            "data_plane {\n xdp_mode auto now\n}",
            "f:2:16: error: `now` is one argument too many for `xdp_mode`",
        ),
        ("data_plane x {\n}", "f:1:12: error: `x` is one argument too many for `data_plane`"),
        ("data_plane", "f:1:1: error: `data_plane` needs a block"),
        ("static_routes", "f:1:1: error: `static_routes` needs a block"),
        ("data_plane {\n connections 4096 {\n }\n}", "f:2:19: error: `connections` has no block"),
        ("data_plane {\n connections\n}", "f:2:2: error: `connections` has no argument"),
    ];
    for (text, want) in cases {
        assert_eq!(findings(text).first().map(String::as_str), Some(*want), "{text}");
    }
    let text = "net_namespace a b";
    assert!(
        findings(text)[0].starts_with("f:1:17: warning:"),
        "ignored by keepalived, and harmless"
    );
}

#[test]
fn keywords_not_in_effect_are_noted_once_with_their_count() {
    let text = "\
vrrp_instance A {
  state MASTER
  priority 100
}
vrrp_instance B {
  state BACKUP
  virtual_ipaddress {
    192.0.2.1/24 dev eth0 label eth0:1
    nonsense is data here
  }
}
global_defs {
  process_names
  vrrp_version 3
  lvs_timeouts tcp 900
}
";
    assert_eq!(
        findings(text),
        [
            "f:1:1: note: `vrrp_instance` is not yet in effect (2 places, the first one here); \
             nor is what it holds: `priority`, `state` and `virtual_ipaddress`",
            "f:13:3: note: `process_names` has no meaning for ELVS",
            "f:14:3: note: `vrrp_version` is not yet in effect",
        ]
    );
}

#[test]
fn mistakes_inside_blocks_not_in_effect_are_still_errors() {
    let text = "vrrp_instance A {\n  prioritty 100\n  weight 1\n}\n";
    let found = findings(text);
    assert_eq!(found[0], "f:2:3: error: unknown keyword `prioritty` in a `vrrp_instance` block");
    assert_eq!(found[1], "f:3:3: error: `weight` does not belong in a `vrrp_instance` block");
}

#[test]
fn findings_are_bounded() {
    let outcome =
        read(&MapSource::single("f", "nonsense\n".repeat(5000)), "f", &Options::default());
    assert_eq!(outcome.diagnostics.len(), crate::MAX_DIAGNOSTICS + 1);
    let last = outcome.diagnostics.last().unwrap();
    assert_eq!(last.to_string(), "f:1001:1: error: more than 1000 findings; the rest is left out");
    assert!(outcome.desired.is_none());
}

#[test]
fn a_file_with_more_warnings_than_are_kept_is_not_applied() {
    let text = format!(
        "virtual_server 192.0.2.1 80 {{\nprotocol TCP\nlvs_sched rr\nlvs_method DR\n{}real_server 192.0.2.2 80 {{}}\n}}\n",
        "lvs_sched wrr\n".repeat(2000)
    );
    let outcome = read(&MapSource::single("f", text), "f", &Options::default());
    assert_eq!(outcome.diagnostics.len(), crate::MAX_DIAGNOSTICS + 1);
    assert!(outcome.desired.is_none());
}

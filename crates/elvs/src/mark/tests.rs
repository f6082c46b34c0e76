//! The commands against a daemon's API over a table in memory.

use std::fs;
use std::path::PathBuf;

use clap::Parser;

use super::*;
use crate::test_daemon::with_daemon;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

/// What a command line prints, or why it fails.
fn mark(socket: &Path, line: &str) -> Result<String> {
    let words = ["mark"].into_iter().chain(line.split_whitespace());
    let line = Line::try_parse_from(words)?;
    let mut out = Vec::new();
    let mut client = Client::connect(socket)?;
    match &line.options.action {
        Action::Add(rule) => add(&mut client, &[rule.rule()?])?,
        Action::Del(rule) => delete(&mut client, &rule.rule()?, &mut out)?,
        Action::List { json } => list(&mut client, *json, &mut out)?,
        Action::Import(options) => {
            let mut errors = Vec::new();
            let code = import::run(options, socket, &mut out, &mut errors)?;
            out.extend(errors);
            writeln!(out, "{code:?}")?;
        }
    }
    Ok(String::from_utf8(out)?)
}

#[test]
fn rules_are_listed_in_the_order_in_which_they_were_added() {
    with_daemon(|socket| {
        let web = "--destination 192.0.2.100/32 --protocol tcp --destination-port 80:90 --mark 7";
        mark(
            socket,
            "add --mark 0x7 --destination 192.0.2.100 --protocol TCP --destination-port 80-90",
        )
        .unwrap();
        mark(socket, "add --source ::/0 --interface eth0 --mark 1").unwrap();
        let listed = mark(socket, "list").unwrap();
        assert_eq!(listed, format!("{web}\n--source ::/0 --interface eth0 --mark 1\n"));
        let json: Vec<MarkRule> =
            serde_json::from_str(&mark(socket, "list --json").unwrap()).unwrap();
        assert_eq!(json[0].to_string(), web);
        let again = mark(socket, &format!("add {web}")).unwrap_err().to_string();
        assert_eq!(again, format!("{web}: mark rule already exists"));
    });
}

#[test]
fn a_mark_alone_deletes_all_its_rules_and_says_which() {
    with_daemon(|socket| {
        for rule in ["--source 10.0.0.0/8 --mark 7", "--mark 8", "--mark 7"] {
            mark(socket, &format!("add {rule}")).unwrap();
        }
        let unknown = mark(socket, "del --source 10.0.0.0/9 --mark 7").unwrap_err().to_string();
        assert!(unknown.contains("no such mark rule"), "{unknown}");
        let said = mark(socket, "del --mark 7").unwrap();
        assert_eq!(said, "deleting --source 10.0.0.0/8 --mark 7\ndeleting --mark 7\n");
        assert_eq!(mark(socket, "list").unwrap(), "--mark 8\n");
        let none = mark(socket, "del --mark 7").unwrap_err().to_string();
        assert_eq!(none, "no rule gives mark 7: `elvs mark list` shows those there are");
    });
}

#[test]
fn a_rule_alone_is_deleted_alone() {
    with_daemon(|socket| {
        for rule in ["--source 10.0.0.0/8 --mark 7", "--mark 7"] {
            mark(socket, &format!("add {rule}")).unwrap();
        }
        assert_eq!(mark(socket, "del --source 10.0.0.0/8 --mark 7").unwrap(), "");
        assert_eq!(mark(socket, "list").unwrap(), "--mark 7\n");
    });
}

#[test]
fn an_import_adds_what_is_not_there_and_names_what_cannot_be() {
    let directory = tempfile::tempdir().unwrap();
    let file: PathBuf = directory.path().join("rules");
    let rule = "-A PREROUTING -d 192.0.2.100/32 -j MARK --set-xmark 0x7/0xffffffff";
    fs::write(&file, format!("*mangle\n{rule}\n-A PREROUTING -m u32 --u32 0=0 -s 10.0.0.0/8 -j MARK --set-mark 1\nCOMMIT\n")).unwrap();
    let import = |options: &str| format!("import {options} {}", file.display());
    let rest = "line 3: not imported: a mark rule cannot say `-m u32`\n  -A PREROUTING -m u32 --u32 0=0 -s 10.0.0.0/8 -j MARK --set-mark 1\n";
    let failure = format!("{:?}\n", ExitCode::FAILURE);
    with_daemon(|socket| {
        let dry = mark(socket, &import("--dry-run")).unwrap();
        let line = "--destination 192.0.2.100/32 --mark 7\n";
        assert_eq!(
            dry,
            format!(
                "{line}{rest}1 rule would be added; 1 rule of the file not imported\n{failure}"
            )
        );
        assert_eq!(mark(socket, "list").unwrap(), "");
        let added = mark(socket, &import("")).unwrap();
        assert_eq!(
            added,
            format!("{line}{rest}1 rule added; 1 rule of the file not imported\n{failure}")
        );
        assert_eq!(mark(socket, "list").unwrap(), line);
        let again = mark(socket, &import("--family inet")).unwrap();
        assert_eq!(
            again,
            format!(
                "{rest}0 rules added, 1 were there already; 1 rule of the file not imported\n{failure}"
            )
        );
        fs::write(&file, format!("*mangle\n{rule}\nCOMMIT\n")).unwrap();
        let whole = mark(socket, &import("")).unwrap();
        assert!(whole.ends_with(&format!("{:?}\n", ExitCode::SUCCESS)), "{whole}");
        let missing = mark(socket, "import /nonexistent").unwrap_err();
        assert_eq!(format!("{missing}"), "cannot open /nonexistent");
    });
}

#[test]
fn a_command_line_is_refused_with_value_and_cure() {
    let cases = [
        ("add --destination 192.0.2.0/24", "--mark <N|none>"),
        ("add --mark 0", "`0` is no mark"),
        ("add --mark 7 --source 10.0.0.1/8", "write `10.0.0.0/8`"),
        ("add --mark 7 --destination-port 80", "ports need protocol tcp, udp or sctp"),
        ("add --mark 7 --source ::/0 --destination 10.0.0.0/8", "different families"),
        ("import --family inet7 x", "inet6"),
    ];
    with_daemon(|socket| {
        for (line, expected) in cases {
            let message = mark(socket, line).expect_err(line).to_string();
            assert!(message.contains(expected), "{line}: {message}");
        }
    });
}

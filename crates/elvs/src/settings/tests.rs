use clap::Parser;

use super::*;
use crate::test_daemon::with_daemon;

#[derive(clap::Parser)]
struct SetLine {
    #[command(flatten)]
    options: SetOptions,
}

#[derive(clap::Parser)]
struct GetLine {
    #[command(flatten)]
    options: GetOptions,
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    ["elvs"].into_iter().chain(line.split_whitespace())
}

/// What `elvs set` says on standard error, or why it fails.
fn set_line(socket: &Path, line: &str) -> Result<String> {
    let options = SetLine::try_parse_from(words(line))?.options;
    let mut errors = Vec::new();
    apply(&mut Client::connect(socket)?, change(&options)?, &mut errors)?;
    Ok(String::from_utf8(errors)?)
}

/// What `elvs get` prints and says.
fn get_line(socket: &Path, line: &str) -> Result<(String, String)> {
    let options = GetLine::try_parse_from(words(line))?.options;
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    show(&Client::connect(socket)?.settings()?, &options, &mut out, &mut errors)?;
    Ok((String::from_utf8(out)?, String::from_utf8(errors)?))
}

#[test]
fn a_value_is_kept_and_a_word_is_said_where_it_is_not_in_effect() {
    with_daemon(|socket| {
        for (line, name, value) in [
            ("drop_packet 3", "drop_packet", "3\n"),
            ("net.ipv4.vs.sync_threshold 5 60", "sync_threshold", "5 60\n"),
            ("est_nice -5", "est_nice", "-5\n"),
            ("est_cpulist 0-3,8", "est_cpulist", "0-3,8\n"),
        ] {
            let setting: Setting = name.parse().unwrap();
            let warning = setting.warning().map(|text| format!("elvs: warning: {text}\n"));
            let warning = warning.unwrap_or_default();
            assert_eq!(set_line(socket, line).unwrap(), warning, "{line}");
            assert_eq!(get_line(socket, name).unwrap(), (value.to_owned(), warning), "{line}");
        }
        let warning = Setting::EstNice.warning().unwrap();
        assert!(warning.starts_with("est_nice is kept, and has no meaning on XDP: "), "{warning}");
    });
}

#[test]
fn all_are_listed_with_value_default_and_status() {
    with_daemon(|socket| {
        set_line(socket, "conntrack 1").unwrap();
        let (text, errors) = get_line(socket, "").unwrap();
        assert_eq!(errors, "");
        assert_eq!(text.lines().count(), 34, "the title and 33 settings");
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
        let words: Vec<&str> = line("conntrack ").split_whitespace().collect();
        assert_eq!(
            words.join(" "),
            "conntrack 1 0 no meaning on XDP: packets are forwarded before netfilter sees them"
        );
        assert!(line("drop_entry ").ends_with("  in effect"));
        let (json, _) = get_line(socket, "--json").unwrap();
        let all: Vec<SettingView> = serde_json::from_str(&json).unwrap();
        assert_eq!(all.len(), 33);
        let (json, _) = get_line(socket, "--json conntrack").unwrap();
        let one: SettingView = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (one.value.to_string(), one.default.to_string()),
            ("1".to_owned(), "0".to_owned())
        );
    });
}

#[test]
fn refuses_what_ipvs_refuses() {
    with_daemon(|socket| {
        for (line, expected) in [
            ("drop_packet 4", "`4` is no value of drop_packet: write a number from 0 to 3"),
            ("sync_ports 3", "`3` is no value of sync_ports: write 1, 2, 4, 8, 16, 32 or 64"),
            ("nonsense 1", "there is no setting `nonsense`: `elvs get` lists those there are"),
            ("drop_packet", "VALUE"),
        ] {
            let error = set_line(socket, line).expect_err(line).to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
        assert_eq!(get_line(socket, "drop_packet").unwrap().0, "0\n");
    });
}

use clap::Parser as _;

use super::*;
use crate::test_daemon::with_daemon;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

const SERVICE: &str = "virtual_server 192.0.2.1 80 {\n lvs_sched rr\n lvs_method DR\n protocol TCP\n @one alpha\n real_server 192.0.2.2 80 {\n  weight 1\n }\n}\n";

/// What `elvs check` writes for a file with that text, and whether it takes it.
fn check(text: &str, line: &str, socket: &Path) -> Result<(String, bool)> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), text)?;
    let name = file.path().to_str().unwrap();
    let words = ["elvs", "--file", name].into_iter().chain(line.split_whitespace());
    let options = Line::try_parse_from(words)?.options;
    let mut out = Vec::new();
    let taken = write(&options, socket, false, &mut out)?;
    Ok((String::from_utf8(out)?.replace(name, "FILE"), taken))
}

#[test]
fn what_a_file_means_follows_the_findings() {
    let none = Path::new("/nonexistent");
    let (text, taken) = check(SERVICE, "--no-host --explain", none).unwrap();
    assert!(taken);
    let head = "FILE: ok: 1 virtual service, 1 real server; 0 warnings, 0 notes\n\nVirtual server TCP 192.0.2.1:80\n";
    assert!(text.starts_with(head), "{text}");
    let (text, taken) = check("virtual_servers {\n}\n", "--explain --diff", none).unwrap();
    assert!(!taken, "{text}");
    assert!(text.ends_with("FILE: refused: 1 error, 0 warnings, 0 notes\n"), "{text}");
}

#[test]
fn the_daemon_is_asked_what_would_change() {
    with_daemon(|socket| {
        let (text, _) = check(SERVICE, "--no-host --diff", socket).unwrap();
        let want = "\n\none word of it\na reload would make 2 changes:\n  + virtual service TCP 192.0.2.1:80, rr\n  + real server 192.0.2.2:80 of TCP 192.0.2.1:80, DR, weight 1\n";
        assert!(text.ends_with(want), "{text}");
        let (text, _) = check("# nothing\n", "--no-host --diff", socket).unwrap();
        assert!(text.ends_with("\na reload would change nothing\n"), "{text}");
        let (json, _) = check(SERVICE, "--diff --explain --json -i one", socket).unwrap();
        let report: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(report["plan"]["changes"].as_array().unwrap().len(), 2);
        assert!(report["meaning"].as_str().unwrap().starts_with("Virtual server TCP"));
    });
    let failure = check(SERVICE, "--diff", Path::new("/nonexistent")).unwrap_err();
    assert!(format!("{failure:#}").contains("/nonexistent"), "{failure:#}");
}

#[test]
fn what_this_host_lacks_is_said_unless_it_is_another_that_shall_run_the_file() {
    let none = Path::new("/nonexistent");
    let text = format!("global_defs {{\n shutdown_script /nonexistent/stop\n}}\n{SERVICE}");
    let lack =
        "program /nonexistent/stop cannot be run: no such file or directory (shutdown_script)";
    let (out, taken) = check(&text, "", none).unwrap();
    assert!(taken, "a host that lacks something does not make the file wrong");
    assert!(out.contains("0 notes\n\non this host:\nwarning: "), "{out}");
    assert!(out.contains(&format!("\nwarning: {lack}\n")), "{out}");
    let (json, _) = check(&text, "--json", none).unwrap();
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(report["host"].as_array().unwrap().iter().any(|line| line == lack), "{json}");
    let (out, _) = check(&text, "--no-host", none).unwrap();
    assert!(out.ends_with("0 notes\n"), "{out}");
    let (json, _) = check(&text, "--no-host --json", none).unwrap();
    assert!(!json.contains("\"host\""), "{json}");
}

//! Whole files with their diagnostics: `ELVS_BLESS=1` rewrites what is expected.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::fs;
use std::path::{Path, PathBuf};

use elvs_config::{
    Capabilities, Context, KEYWORDS, MapSource, Options, Severity, compatibility_page, read, render,
};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn assert_golden(path: &Path, actual: &str) {
    if std::env::var_os("ELVS_BLESS").is_some() {
        fs::write(path, actual).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(expected, actual, "{}: ELVS_BLESS=1 rewrites it", path.display());
}

fn outcome(name: &str) -> elvs_config::Outcome {
    let text = fs::read(golden(name)).unwrap();
    let options = Options { config_id: "main".to_owned(), ..Options::default() };
    read(&MapSource::single(name, text), name, &options)
}

#[test]
fn diagnostics_are_as_recorded() {
    for name in ["keepalived", "mistakes", "everything", "web", "shop"] {
        let outcome = outcome(&format!("{name}.conf"));
        let shown = render(&outcome.diagnostics, &outcome.sources, false);
        assert_golden(&golden(&format!("{name}.out")), &shown);
    }
}

#[test]
fn desired_is_as_recorded() {
    for name in ["web", "everything", "shop"] {
        let desired = outcome(&format!("{name}.conf")).desired.unwrap();
        let json = serde_json::to_string_pretty(&desired).unwrap();
        assert_golden(&golden(&format!("{name}.json")), &(json + "\n"));
    }
}

#[test]
fn diagnostics_serialise_with_their_place() {
    let outcome = outcome("mistakes.conf");
    let json = serde_json::to_value(&outcome.diagnostics[0]).unwrap();
    assert_eq!(json["severity"], "error");
    assert_eq!(json["code"], "unknown-keyword");
    assert_eq!(json["span"]["file"], "mistakes.conf");
    assert!(json["span"]["line"].as_u64().unwrap() > 0);
    let back: elvs_config::Diagnostic = serde_json::from_value(json).unwrap();
    assert_eq!(back, outcome.diagnostics[0]);
}

/// The recorded keepalived accepts this file, so nothing in it may be unknown; what this release cannot serve is said.
#[test]
fn keepalived_conf_of_the_recording_is_understood() {
    let outcome = outcome("keepalived.conf");
    let errors: Vec<_> = outcome
        .diagnostics
        .iter()
        .filter(|d| d.severity == Severity::Error)
        .map(|d| (d.span.line, d.code))
        .collect();
    assert_eq!(errors, []);
}

#[test]
fn everything_uses_every_keyword_of_keepalived() {
    let text = fs::read_to_string(golden("everything.conf")).unwrap();
    let used: std::collections::HashSet<&str> = text.split([' ', '\n', '\t']).collect();
    let missing: Vec<_> = KEYWORDS
        .iter()
        .filter(|row| row.contexts != [Context::GlobalDefs])
        .map(|row| row.name)
        .filter(|name| !used.contains(name))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn compatibility_page_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config-compatibility.md");
    assert_golden(&path, &compatibility_page(&Capabilities::THIS_RELEASE));
}

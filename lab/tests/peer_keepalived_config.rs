//! The configuration language beside keepalived's own reader: `elvs check` and `keepalived -t` take and refuse the same files,
//! or the difference is one that is listed in `docs/config-differences.md` with its reason.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail loudly"
)]

#[path = "peer_keepalived_config/classes.rs"]
mod classes;
#[path = "peer_keepalived_config/corpus.rs"]
mod corpus;
#[path = "peer_keepalived_config/language.rs"]
mod language;
#[path = "peer_keepalived_config/peers.rs"]
mod peers;
#[path = "peer_keepalived_config/samples.rs"]
mod samples;
#[path = "peer_keepalived_config/tables.rs"]
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use classes::{CLASSES, Class, Who};
use language::WORDS;
use peers::{Verdict, elvs_report, elvs_verdict, keepalived_verdicts};

/// Files that stand beside each configuration, for its include lines.
const INCLUDED: [(&str, &str); 3] = [
    (
        "part.inc",
        "virtual_server 192.0.2.7 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 192.0.2.8 80 {\nweight 1\n}\n}\n",
    ),
    ("broken.inc", "bogus 1\n"),
    ("loop.inc", "include loop.inc\n"),
];

/// The classes that explain why one side refuses what the other takes; what is not explained, if anything.
fn explain(refusing: Who, verdict: &Verdict) -> Result<Vec<&'static Class>, Vec<String>> {
    let class_of = |complaint: &String| {
        let fits = |c: &&Class| c.who == refusing && complaint.contains(c.says);
        CLASSES.iter().find(fits).ok_or_else(|| complaint.clone())
    };
    let (found, unexplained): (Vec<_>, Vec<_>) =
        verdict.complaints.iter().map(class_of).partition(Result::is_ok);
    let unexplained: Vec<String> = unexplained.into_iter().filter_map(Result::err).collect();
    let found: Vec<_> = found.into_iter().flatten().collect();
    if unexplained.is_empty() && !found.is_empty() { Ok(found) } else { Err(unexplained) }
}

#[test]
fn keepalived_and_elvs_take_the_same_files() {
    elvs_lab::require_root();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for (name, text) in INCLUDED {
        fs::write(path(name), text).unwrap();
    }
    let cases = corpus::cases();
    assert!(cases.len() >= 200, "{} files", cases.len());
    let files: Vec<_> = cases.iter().map(|case| path(&format!("{}.conf", case.name))).collect();
    for (case, file) in cases.iter().zip(&files) {
        fs::write(file, &case.text).unwrap();
    }
    let theirs = keepalived_verdicts(directory.path(), &files);
    let mut agreed = BTreeMap::from([(true, 0), (false, 0)]);
    let mut used = BTreeSet::new();
    let mut unexplained = Vec::new();
    for ((case, file), theirs) in cases.iter().zip(&files).zip(&theirs) {
        let ours = elvs_verdict(file);
        if ours.takes == theirs.takes {
            *agreed.get_mut(&ours.takes).unwrap() += 1;
            continue;
        }
        let (who, verdict) =
            if ours.takes { (Who::Keepalived, theirs) } else { (Who::Elvs, &ours) };
        let said = format!("{}: only {who:?} refuses: {:?}", case.name, verdict.complaints);
        match explain(who, verdict) {
            Ok(classes)
                if who == Who::Keepalived && !ours.speaks && classes.iter().any(|c| !c.silent) =>
            {
                unexplained.push(format!("{said}\nand elvs is silent of it\n{}", case.text));
            }
            Ok(classes) => used.extend(classes.iter().map(|class| class.says)),
            Err(complaints) => {
                unexplained.push(format!("{said}\nunexplained: {complaints:?}\n{}", case.text));
            }
        }
    }
    let (taken, refused) = (agreed[&true], agreed[&false]);
    println!("{} files: {taken} taken and {refused} refused by both", cases.len());
    assert!(
        unexplained.is_empty(),
        "{} unexplained:\n{}",
        unexplained.len(),
        unexplained.join("\n")
    );
    let unused: Vec<_> = CLASSES.iter().map(|c| c.says).filter(|s| !used.contains(s)).collect();
    assert!(unused.is_empty(), "differences that are none: {unused:?}");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config-differences.md");
    assert_golden(&page, &classes::page(cases.len(), taken + refused));
}

/// The file holds that text; `ELVS_BLESS=1` writes it.
fn assert_golden(path: &Path, text: &str) {
    if std::env::var_os("ELVS_BLESS").is_some() {
        fs::write(path, text).unwrap();
    }
    let written = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(written, text, "{}: ELVS_BLESS=1 rewrites it", path.display());
}

/// Comments, quotes, conditions, parameters, sequences and lists give the same words.
#[test]
fn keepalived_and_elvs_read_the_same_words() {
    elvs_lab::require_root();
    let directory = tempfile::tempdir().unwrap();
    let files: Vec<_> =
        (0..WORDS.len()).map(|n| directory.path().join(format!("words-{n}.conf"))).collect();
    for (text, file) in WORDS.iter().zip(&files) {
        fs::write(file, text).unwrap();
    }
    let theirs = keepalived_verdicts(directory.path(), &files);
    for ((text, file), theirs) in WORDS.iter().zip(&files).zip(&theirs) {
        // keepalived: "Unknown keyword 'X'"; elvs: "unknown-keyword: unknown keyword `X` outside every block".
        let words = |complaints: &[String], before: &str, after: &str| -> BTreeSet<String> {
            let word = |line: &String| {
                let rest = line.split_once(before)?.1;
                rest.split_once(after).map(|(word, _)| word.to_owned())
            };
            complaints.iter().filter_map(word).collect()
        };
        let ours = words(&elvs_verdict(file).complaints, "unknown keyword `", "` outside");
        let theirs = words(&theirs.complaints, "Unknown keyword '", "'");
        assert!(!theirs.is_empty(), "{text}");
        assert_eq!(ours, theirs, "{text}");
    }
}

/// Every sample of the package means what its author meant, and no sample is passed over.
#[test]
fn samples_mean_what_their_authors_meant() {
    let mut found: Vec<_> = fs::read_dir(samples::DIRECTORY)
        .expect("Debian's package keepalived")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("keepalived.conf"))
        .collect();
    found.push(samples::MAIN.into());
    found.sort();
    let described: Vec<String> =
        found.iter().map(|path| samples::describe(&elvs_report(path), path)).collect();
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peer_keepalived_config/samples.txt");
    assert_golden(&path, &described.join(""));
}

use elvs_model::Protocol;

use super::super::option::{Kind, Verb};
use super::*;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Every option with its value, and the words left over.
type Scanned = (Vec<(Meaning, Option<String>)>, Vec<String>);

fn scan(line: &[&str]) -> Result<Scanned, ScanError> {
    let words = words(line);
    let mut scanner = Scanner::new(&words);
    let mut options = Vec::new();
    while let Some((meaning, value)) = scanner.option()? {
        options.push((meaning, value.map(str::to_owned)));
    }
    let left = scanner.into_arguments().into_iter().map(str::to_owned).collect();
    Ok((options, left))
}

#[test]
fn every_way_to_write_an_option_means_the_same() {
    let expected = vec![
        (Meaning::Verb(Verb::AddService), None),
        (Meaning::Address(Protocol::Tcp), Some("10.0.0.100:80".to_owned())),
        (Meaning::Kind(Kind::Scheduler), Some("rr".to_owned())),
    ];
    let lines: [&[&str]; 6] = [
        &["-A", "-t", "10.0.0.100:80", "-s", "rr"],
        &["-At", "10.0.0.100:80", "-srr"],
        &["-At10.0.0.100:80", "-s=rr"],
        &["-A", "-t=10.0.0.100:80", "--scheduler=rr"],
        &["--add-service", "--tcp-service", "10.0.0.100:80", "--scheduler", "rr"],
        &["--add-service", "--tcp-service=10.0.0.100:80", "-s", "rr"],
    ];
    for line in lines {
        assert_eq!(scan(line), Ok((expected.clone(), vec![])), "{line:?}");
    }
}

#[test]
fn a_required_value_may_start_with_a_dash_and_an_optional_one_may_not() {
    let weight = (Meaning::Kind(Kind::Weight), Some("-1".to_owned()));
    assert_eq!(scan(&["-w", "-1"]), Ok((vec![weight], vec![])));
    let persistent = Meaning::Kind(Kind::Persistent);
    let numeric = (Meaning::Kind(Kind::Numeric), None);
    assert_eq!(scan(&["-p", "-n"]), Ok((vec![(persistent, None), numeric], vec![])));
    assert_eq!(scan(&["-p", "5"]), Ok((vec![(persistent, Some("5".to_owned()))], vec![])));
    assert_eq!(scan(&["-p"]), Ok((vec![(persistent, None)], vec![])));
}

#[test]
fn words_that_are_no_options_are_left_over() {
    let list = (Meaning::Verb(Verb::List), None);
    let numeric = (Meaning::Kind(Kind::Numeric), None);
    let left = ["foo", "-", "", "-n", "--"].map(str::to_owned).to_vec();
    let line = ["-L", "foo", "-n", "-", "", "--", "-n", "--"];
    assert_eq!(scan(&line), Ok((vec![list, numeric], left)));
}

#[test]
fn names_the_word_it_cannot_read() {
    let cases: [(&[&str], &str, &str); 6] = [
        (&["-L", "--bogus=1"], "--bogus=1", "unknown option"),
        (&["-LnQ"], "-LnQ", "unknown option"),
        (&["--num"], "--num", "unknown option"),
        (&["-At"], "-At", "missing argument"),
        (&["--numeric=1"], "--numeric=1", "option does not take an argument"),
        (&["-Ln=3"], "-Ln=3", "option does not take an argument"),
    ];
    for (line, word, problem) in cases {
        let word = word.to_owned();
        assert_eq!(scan(line), Err(ScanError { word, problem }), "{line:?}");
    }
}

use super::*;

fn rule(pattern: &str, options: &[&str]) -> RegexRule {
    RegexRule {
        pattern: pattern.to_owned(),
        must_not_match: false,
        options: options.iter().map(|&option| option.to_owned()).collect(),
        min_offset: 0,
        max_offset: 0,
    }
}

#[test]
fn finds_what_perl_would_find() {
    for (pattern, options, text, start, found) in [
        ("b+", &[][..], "abbb", 0, Some(1)),
        ("b+", &[], "abbb", 2, Some(2)),
        ("b+", &[], "ab", 2, None),
        ("B", &["caseless"], "ab", 0, Some(1)),
        ("^b", &[], "a\nb", 0, None),
        ("^b", &["multiline"], "a\nb", 0, Some(2)),
        ("a.b", &["dotall"], "a\nb", 0, Some(0)),
        ("b", &["firstline"], "a\nb", 0, None),
        // Neither look-behind nor back reference is known to the `regex` crate.
        ("(?<=a)b", &[], "bab", 1, Some(2)),
        (r"(.)\1", &[], "abcc", 0, Some(2)),
        ("", &[], "", 0, Some(0)),
        ("a", &[], "a", 9, None),
    ] {
        let regex = Regex::new(&rule(pattern, options)).unwrap();
        assert_eq!(regex.find(text.as_bytes(), start), Ok(found), "{pattern} {options:?} {text:?}");
    }
}

#[test]
fn refuses_by_name() {
    let unknown = Regex::new(&rule("a", &["sticky"])).unwrap_err();
    assert_eq!(unknown, RegexError::Option("sticky".to_owned()));
    let invalid = Regex::new(&rule("a(b", &[])).unwrap_err();
    assert_eq!(invalid.to_string(), "invalid regex at byte 3: missing closing parenthesis");
}

#[test]
fn gives_up_an_expression_that_runs_away() {
    let regex = Regex::new(&rule("(a+)+$", &["no_auto_possess", "no_start_optimize"])).unwrap();
    let text = [&[b'a'; 40][..], b"b"].concat();
    assert_eq!(regex.find(&text, 0), Err(RegexError::Search("match limit exceeded".to_owned())));
}

#[test]
fn says_that_a_text_is_not_utf_8() {
    let regex = Regex::new(&rule("a", &["utf"])).unwrap();
    assert!(matches!(regex.find(b"\xff\xfe", 0), Err(RegexError::Search(_))));
}

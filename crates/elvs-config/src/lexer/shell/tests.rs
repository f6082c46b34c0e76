use super::super::{Reporter, tokenise};
use super::*;
use crate::sources::Sources;

/// Words of a line after its keyword, and the findings.
fn words(text: &str) -> (Vec<String>, Vec<String>) {
    let mut sources = Sources::default();
    let file = sources.add("f", text.to_owned()).unwrap();
    let mut reporter = Reporter::default();
    let mut tokens = Vec::new();
    tokenise(&Mapped::written(text, file, 0), &mut reporter, &mut tokens);
    let word = |t: &Token| if let Token::Word(w) = t { Some(w.text.clone()) } else { None };
    let words = tokens.iter().filter_map(word).skip(1).collect();
    (words, reporter.finish(&sources).iter().map(ToString::to_string).collect())
}

#[test]
fn keepalived_conf_quoted_strings() {
    let cases: &[(&str, &[&str])] = &[
        (r#"notify abcd" efg h jkl "mnop"#, &["abcd efg h jkl mnop"]),
        (r#"notify abcd "efg h jkl" mnop"#, &["abcd", "efg h jkl", "mnop"]),
        (r#"misc_path "/bin/check 'a b' c" user"#, &["/bin/check 'a b' c", "user"]),
        (r#"misc_path '/bin/say "hi"'"#, &[r#"/bin/say "hi""#]),
        (r#"notify_up a\ b \"c\'"#, &["a b", "\"c'"]),
        (r#"script "\a\b\E\f\n\r\t\v\\""#, &["\u{7}\u{8}\u{1b}\u{c}\n\r\t\u{b}\\"]),
        (r#"regex "\x41\x4a4B\103\7z\cA\0""#, &["AK\u{43}\u{7}z\u{1}\0"]),
        (r"regex \\d+\(x\)", &[r"\d+(x)"]),
        (r#"quorum_up """#, &[""]),
        (r#"regex "a { b }" {"#, &["a { b }"]),
        (r"regex end\", &["end\\"]),
        (r#"path "a\\b" c\nd"#, &[r"a\b", r"c\nd"]),
    ];
    for (line, want) in cases {
        let (words, findings) = words(line);
        assert_eq!(words, *want, "{line}");
        assert_eq!(findings, Vec::<String>::new(), "{line}");
    }
}

#[test]
fn what_is_wrong_with_a_command_is_said() {
    let cases = [
        (r"regex \d", r"f:1:7: warning: `\d` is read as `d`, as in keepalived"),
        ("notify 'a b", "f:1:8: error: quote is not closed on this line"),
        ("notify a${B}c", "f:1:9: warning: parameter `${B}` is not defined and stays as it is"),
    ];
    for (line, want) in cases {
        assert_eq!(words(line).1, [want], "{line}");
    }
}

#[test]
fn only_the_keyword_of_its_own_statement_counts() {
    assert_eq!(words("a { regex 'x y' } b 'x y'").0, ["regex", "x y", "b", "'x", "y'"]);
    assert_eq!(words("a regex 'x y'").0, ["regex", "'x", "y'"]);
    assert_eq!(words("\"regex\" 'x y'").0, ["'x", "y'"]);
}

use super::*;
use crate::sources::Sources;

fn lex(text: &str) -> (String, usize) {
    let mut sources = Sources::default();
    let file = sources.add("f", text.to_owned()).unwrap();
    let mut reporter = Reporter::default();
    let mut tokens = Vec::new();
    tokenise(&Mapped::written(text, file, 0), &mut reporter, &mut tokens);
    let show = |t: &Token| match t {
        Token::Word(w) if w.quoted => format!("<{}>", w.text),
        Token::Word(w) => w.text.clone(),
        Token::Open(_) => "{".to_owned(),
        Token::Close(_) => "}".to_owned(),
        Token::End => ".".to_owned(),
    };
    let shown: Vec<_> = tokens.iter().map(show).collect();
    (shown.join(" "), reporter.finish(&sources).len())
}

#[test]
fn lines_become_words_strings_and_braces() {
    let cases: &[(&str, &str, usize)] = &[
        ("", ".", 0),
        ("  a\tb ", "a b .", 0),
        ("virtual_server 10.0.0.1 80 {", "virtual_server 10.0.0.1 80 { .", 0),
        ("url{path /}", "url { path / } .", 0),
        ("} }", "} } .", 0),
        (r#"script "a b" c"#, "script <a b> c .", 0),
        (r#""say \"hi\" \\ \d""#, r#"<say "hi" \ \d> ."#, 0),
        (r#"a"b"c"#, "a <b> c .", 0),
        (r#"s "a { b } # !""#, "s <a { b } # !> .", 0),
        (r#"""  x"#, "<> x .", 0),
        (r"a\#b\!c\d", r"a#b!c\d .", 0),
        (r"end\", r"end\ .", 0),
        (r#"open "x y"#, "open <x y> .", 1),
        (r#"open "x\"#, r"open <x\> .", 1),
        ("a${B}c", "a${B}c .", 1),
        ("a${B} ${C}", "a${B} ${C} .", 2),
        ("a${", "a$ { .", 0),
        ("$B pa$$w", "$B pa$$w .", 0),
        ("ö\u{a0}ü", "ö ü .", 0),
    ];
    for (text, want, findings) in cases {
        assert_eq!(lex(text), ((*want).to_owned(), *findings), "{text}");
    }
}

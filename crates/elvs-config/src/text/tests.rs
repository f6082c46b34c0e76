use super::*;

#[test]
fn words_cannot_steer_the_terminal() {
    assert_eq!(quote("a\"b'c"), "`a\"b'c`");
    assert_eq!(quote("\u{1b}[2J\n"), "`\\u{1b}[2J\\n`");
    let long = quote(&"x".repeat(70));
    assert_eq!(long, format!("`{}...`", "x".repeat(64)));
}

#[test]
fn lists_read_like_sentences() {
    assert_eq!(one_of(&[]), "");
    assert_eq!(one_of(&["a"]), "`a`");
    assert_eq!(one_of(&["a", "b"]), "`a` or `b`");
    assert_eq!(all_of(&["a", "b", "c"]), "`a`, `b` and `c`");
    assert_eq!((count(1, "place").as_str(), count(2, "place").as_str()), ("1 place", "2 places"));
}

#[test]
fn nearest_word_is_near() {
    let known = ["lb_algo", "lb_kind", "weight", "rr", "wrr"];
    let cases: &[(&str, Option<&str>)] = &[
        ("lb_alog", Some("lb_algo")),
        ("lb_algorithm", None),
        ("wieght", Some("weight")),
        ("WEIGHT", Some("weight")),
        ("wwrr", Some("wrr")),
        ("completely_else", None),
        ("", None),
    ];
    for (word, want) in cases {
        assert_eq!(nearest(word, known), *want, "{word}");
    }
    assert_eq!(nearest(&"x".repeat(5000), known), None);
}

#[test]
fn control_characters_are_escaped_and_nothing_else() {
    assert_eq!(printable("a \"ö\" \u{1b}[2J\u{9b}"), "a \"ö\" \\u{1b}[2J\\u{9b}");
    assert_eq!(printable("plain"), "plain");
}

use super::*;
use crate::lexer::tokenise;
use crate::mapped::Mapped;
use crate::sources::Sources;

/// The tree as text, `;` after a statement, and the messages of its findings.
fn tree(text: &str) -> (String, Vec<String>) {
    let mut sources = Sources::default();
    let file = sources.add("f", text.to_owned()).unwrap();
    let mut reporter = Reporter::default();
    let mut tokens = Vec::new();
    let mut start = 0;
    for line in text.split('\n') {
        tokenise(&Mapped::written(line, file, start), &mut reporter, &mut tokens);
        start += line.len() + 1;
    }
    let items = build(tokens, &mut reporter);
    let messages = reporter.finish(&sources).into_iter().map(|d| d.to_string()).collect();
    (show(&items), messages)
}

fn show(items: &[Item]) -> String {
    let show_item = |item: &Item| {
        let words: Vec<_> = item.arguments.iter().map(|a| format!(" {}", a.text)).collect();
        let block = item.block.as_ref().map(|b| format!("{{{}}}", show(&b.items)));
        format!("{}{}{};", item.keyword.text, words.concat(), block.unwrap_or_default())
    };
    items.iter().map(show_item).collect()
}

#[test]
fn statements_and_blocks() {
    let cases: &[(&str, &str, &str)] = &[
        ("empty", "", ""),
        ("flat", "a b c\nd", "a b c;d;"),
        ("block", "a b {\n c d\n e\n}\nf", "a b{c d;e;};f;"),
        ("on one line", "a { b c }\nd", "a{b c;};d;"),
        ("brace on the next line", "a b\n\n{\nc\n}", "a b{c;};"),
        ("empty block", "a {\n}\nb{}", "a{};b{};"),
        ("nested", "a{\nb {\nc\n}\nd\n}", "a{b{c;};d;};"),
        ("text after a brace", "a { b\n c } d", "a{b;c;};d;"),
    ];
    for (name, text, want) in cases {
        assert_eq!(tree(text), ((*want).to_owned(), vec![]), "{name}");
    }
}

#[test]
fn unbalanced_braces_are_reported_where_they_stand() {
    let cases: &[(&str, &str, &str, &[&str])] = &[
        ("extra", "a\n}\nb", "a;b;", &["f:2:1: error: `}` closes nothing"]),
        ("open", "a {\nb", "a{b;};", &["f:1:3: error: block `a` is never closed"]),
        (
            "two open",
            "a {\nb {\n",
            "a{b{};};",
            &["f:1:3: error: block `a` is never closed", "f:2:3: error: block `b` is never closed"],
        ),
        ("bare block", "{\na\n}\nb", "b;", &["f:1:1: error: `{` without a keyword before it"]),
        (
            "bare block after a block",
            "a {\n}\n{ x { y } }\nb",
            "a{};b;",
            &["f:3:1: error: `{` without a keyword before it"],
        ),
        (
            "next service begins before the last one ends",
            "virtual_server 192.0.2.1 80 {\nreal_server 192.0.2.2 80 {\nweight 1\n}\nvirtual_server 192.0.2.1 81 {\n}\n",
            "virtual_server 192.0.2.1 80{real_server 192.0.2.2 80{weight 1;};};virtual_server 192.0.2.1 81{};",
            &["f:1:1: error: block `virtual_server` is not closed before `virtual_server`"],
        ),
    ];
    for (name, text, want, messages) in cases {
        let (shown, found) = tree(text);
        assert_eq!((shown.as_str(), found), (*want, messages.map_strings()), "{name}");
    }
}

trait MapStrings {
    fn map_strings(&self) -> Vec<String>;
}

impl MapStrings for &[&str] {
    fn map_strings(&self) -> Vec<String> {
        self.iter().map(|s| (*s).to_owned()).collect()
    }
}

#[test]
fn depth_is_bounded() {
    let fits = "a{".repeat(MAX_DEPTH) + &"}".repeat(MAX_DEPTH);
    assert_eq!(tree(&fits).1, Vec::<String>::new());
    let deep = "a{".repeat(MAX_DEPTH + 1) + "x{y}" + &"}".repeat(MAX_DEPTH + 1) + "\nb";
    let (shown, messages) = tree(&deep);
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0].contains("nested more than 16 deep"), "{messages:?}");
    assert!(shown.ends_with("b;"), "reading goes on after the block: {shown}");
    assert_eq!(tree(&"a{".repeat(100_000)).1.len(), MAX_DEPTH + 1);
}

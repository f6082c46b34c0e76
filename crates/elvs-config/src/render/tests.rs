use crate::{MapSource, Options, read, render};

fn shown(text: &str, colour: bool) -> String {
    let outcome = read(&MapSource::single("web.conf", text), "web.conf", &Options::default());
    render(&outcome.diagnostics, &outcome.sources, colour)
}

#[test]
fn plain_text_starts_with_the_place() {
    let text = "data_plane {\n  connections 7 # few\n}\nglobal_defs {\n\tvrrp_version 3\n}\n";
    let want = "\
web.conf:2:15: error: connections 7 is below 1024
  |
2 |   connections 7 # few
  |               ^
  |
  = help: write a number from 1024 to 268435456
web.conf:5:2: note: `vrrp_version` is not yet in effect
";
    assert_eq!(shown(text, false), want);
}

#[test]
fn related_places_are_shown() {
    let text = "virtual_server 192.0.2.1 80 {\nprotocol TCP\nprotocol UDP\nlb_algo rr\n}\n";
    let want = "\
web.conf:3:1: warning: `protocol` is given again; this one counts
  |
3 | protocol UDP
  | ^^^^^^^^^^^^
  |
 ::: web.conf:2:1
  |
2 | protocol TCP
  | ------------ first given here
  |
  = help: remove the one that is not meant
";
    assert!(shown(text, false).contains(want), "{}", shown(text, false));
}

#[test]
fn colour_changes_nothing_but_colour() {
    let text = "data_plane {\n  connections 7\n}\n";
    let coloured = shown(text, true);
    assert!(coloured.contains("\u{1b}["));
    let mut plain = String::new();
    let mut escape = false;
    for c in coloured.chars() {
        match (escape, c) {
            (false, '\u{1b}') => escape = true,
            (true, 'm') => escape = false,
            (true, _) => {}
            (false, c) => plain.push(c),
        }
    }
    assert_eq!(plain, shown(text, false));
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let out = shown("\u{1b}[31mred\u{7}\n", false);
    assert!(!out.contains('\u{1b}') && !out.contains('\u{7}'), "{out:?}");
    let name = "evil\u{1b}[2J.conf";
    let outcome = read(&MapSource::single(name, "x"), name, &Options::default());
    let out = render(&outcome.diagnostics, &outcome.sources, false);
    assert!(!out.contains('\u{1b}'), "{out:?}");
}

#[test]
fn long_lines_are_not_repeated() {
    let out = shown(&format!("unknown_word {}\n", "x".repeat(2000)), false);
    assert!(out.starts_with("web.conf:1:1: error: unknown keyword `unknown_word`"));
    assert!(out.len() < 200, "{out}");
}

use super::*;

#[test]
fn span_counts_lines_and_columns_in_characters() {
    let mut sources = Sources::default();
    let file = sources.add("a.conf", "one\r\nzwei ö drei\n\nend".to_owned()).unwrap();
    let at = |start, end| {
        let s = sources.span(Extent { file, start, end });
        (s.line, s.column, s.length)
    };
    assert_eq!(at(0, 3), (1, 1, 3));
    assert_eq!(at(5, 9), (2, 1, 4));
    assert_eq!(at(10, 12), (2, 6, 1), "ö is one character of two bytes");
    assert_eq!(at(13, 17), (2, 8, 4));
    assert_eq!(at(18, 18), (3, 1, 1), "an empty line still has a place");
    assert_eq!(at(19, 22), (4, 1, 3));
    assert_eq!(at(0, 22), (1, 1, 3), "cut to the first line");
    assert_eq!(at(900, 901), (4, 4, 1), "past the end stays in the last line");
}

#[test]
fn lines_come_without_their_ends() {
    let mut sources = Sources::default();
    sources.add("a", "x\r\ny\n".to_owned()).unwrap();
    assert_eq!(sources.line("a", 1), Some("x"));
    assert_eq!(sources.line("a", 2), Some("y"));
    assert_eq!(sources.line("a", 3), Some(""));
    assert_eq!(sources.line("a", 4), None);
    assert_eq!(sources.line("a", 0), None);
    assert_eq!(sources.line("b", 1), None);
}

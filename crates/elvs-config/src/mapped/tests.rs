use super::*;
use crate::sources::Sources;

fn line(text: &str) -> Mapped {
    let file = Sources::default().add("f", text.to_owned()).unwrap();
    Mapped::written(text, file, 100)
}

fn places(mapped: &Mapped, range: Range<usize>) -> (u32, u32) {
    let e = mapped.extent(range);
    (e.start, e.end)
}

#[test]
fn replaced_text_points_at_what_was_written() {
    let before = line("port ${P} end");
    let after = before.replaced(5..9, "8080");
    assert_eq!(after.text(), "port 8080 end");
    assert_eq!(places(&after, 0..4), (100, 104));
    assert_eq!(places(&after, 5..9), (105, 109), "the reference, not the value");
    assert_eq!(places(&after, 6..7), (105, 109));
    assert_eq!(places(&after, 10..13), (110, 113));
}

#[test]
fn empty_value_leaves_the_rest_in_place() {
    let after = line("${A}x").replaced(0..4, "");
    assert_eq!(after.text(), "x");
    assert_eq!(places(&after, 0..1), (104, 105));
    let nothing = line("${A}").replaced(0..4, "");
    assert_eq!(nothing.text(), "");
    assert_eq!(nothing.whole().start, 100);
}

#[test]
fn slices_keep_their_origin() {
    let after = line("a $B c").replaced(2..4, "long value");
    let tail = after.slice(7..14);
    assert_eq!(tail.text(), "value c");
    assert_eq!(places(&tail, 0..5), (102, 104));
    assert_eq!(places(&tail, 6..7), (105, 106));
    assert_eq!(places(&after.slice(0..0), 0..0).0, 100);
}

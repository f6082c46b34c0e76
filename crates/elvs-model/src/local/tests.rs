use super::{LocalRange, LocalRangeError};

fn ends(text: &str) -> (String, u32) {
    let range: LocalRange = text.parse().unwrap();
    assert_eq!(range.addresses().count(), usize::try_from(range.count()).unwrap(), "{text}");
    (range.to_string(), range.count())
}

#[test]
fn ranges_are_read_in_every_form() {
    let rows = [
        ("10.0.0.9", "10.0.0.9", 1),
        ("10.0.0.9-10.0.1.1", "10.0.0.9-10.0.1.1", 249),
        ("10.0.0.9-12", "10.0.0.9-10.0.0.12", 4),
        ("10.0.0.9/29", "10.0.0.9-10.0.0.14", 6),
        ("10.0.0.9/31", "10.0.0.8-10.0.0.9", 2),
        ("10.0.0.9/32", "10.0.0.9", 1),
        ("fd00::1", "fd00::1", 1),
        ("fd00::1-ff", "fd00::1-fd00::ff", 255),
        ("fd00::1-fd00::3", "fd00::1-fd00::3", 3),
        ("fd00::/126", "fd00::-fd00::3", 4),
    ];
    for (text, shown, count) in rows {
        assert_eq!(ends(text), (shown.to_owned(), count), "{text}");
    }
}

#[test]
fn what_is_no_range_is_refused_by_its_fault() {
    let fault = |text: &str| text.parse::<LocalRange>().unwrap_err();
    for text in ["", "10.0.0", "10.0.0.1-", "10.0.0.1-256", "10.0.0.1/33", "fd00::1/129", "a-b"] {
        assert_eq!(fault(text), LocalRangeError::Syntax(text.to_owned()), "{text}");
    }
    assert_eq!(fault("10.0.0.9-8"), LocalRangeError::Order("10.0.0.9-8".to_owned()));
    assert_eq!(fault("10.0.0.9-fd00::1"), LocalRangeError::Mixed("10.0.0.9-fd00::1".to_owned()));
    let count = 65_536 * 2 - 2;
    let long = LocalRangeError::TooLong { text: "10.0.0.0/15".to_owned(), count };
    assert_eq!(fault("10.0.0.0/15"), long);
    assert!(matches!(fault("fd00::/0"), LocalRangeError::TooLong { .. }));
}

use super::*;

#[test]
fn reads_numbers_as_strtol_does() {
    let cases = [
        ("80", Some(80)),
        ("+80", Some(80)),
        (" 80", Some(80)),
        ("-0", Some(0)),
        ("080", Some(80)),
        ("", None),
        ("-1", None),
        ("80 ", None),
        ("0x50", None),
        ("65536", None),
        ("99999999999999999999", None),
        ("+", None),
        ("+-1", None),
    ];
    for (text, expected) in cases {
        assert_eq!(number(text, 0..=65_535), expected, "{text:?}");
    }
}

#[test]
fn reads_addresses_as_inet_aton_does() {
    let cases = [
        ("10.0.0.100", Some([10, 0, 0, 100])),
        ("010.0.0.100", Some([8, 0, 0, 100])),
        ("0x7f.1", Some([127, 0, 0, 1])),
        ("1.2.3", Some([1, 2, 0, 3])),
        ("24", Some([0, 0, 0, 24])),
        ("4294967295", Some([255; 4])),
        ("1.2.65535", Some([1, 2, 255, 255])),
        ("1.2.3.4 tail", Some([1, 2, 3, 4])),
        ("1.2.3.4.5", None),
        ("1.2.65536", None),
        ("256.1.1.1", None),
        ("4294967296", None),
        ("08.1.1.1", None),
        ("0x.1", None),
        ("1..2", None),
        ("1.2.3.", None),
        ("+1.2.3.4", None),
        ("", None),
    ];
    for (text, expected) in cases {
        assert_eq!(inet_aton(text), expected.map(Ipv4Addr::from), "{text:?}");
    }
}

#[test]
fn reads_the_number_a_text_starts_with() {
    let cases = [("64", 64), (" 12x", 12), ("x", 0), ("", 0), ("-3", -3)];
    for (text, expected) in cases {
        assert_eq!(leading_number(text), expected, "{text:?}");
    }
}

use super::*;

#[test]
fn words_are_divided_as_a_shell_would() {
    let cases: &[(&str, Option<&[&str]>)] = &[
        ("-A X  -j MARK", Some(&["-A", "X", "-j", "MARK"])),
        (r#"--comment "a b" -j"#, Some(&["--comment", "a b", "-j"])),
        (r#"--comment "say \"hi\"""#, Some(&["--comment", r#"say "hi""#])),
        (r#"--comment """#, Some(&["--comment", ""])),
        (r#"a"b c"d"#, Some(&["ab cd"])),
        (r#"--comment "open"#, None),
        ("", Some(&[])),
    ];
    for (line, expected) in cases {
        let expected = expected.map(|w| w.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(words(line), expected, "{line}");
    }
}

#[test]
fn ranges_become_as_few_prefixes_as_can_be() {
    let shown = |first, last| -> Result<Vec<String>, String> {
        Ok(between(first, last)?.iter().map(ToString::to_string).collect())
    };
    assert_eq!(shown("10.0.0.1", "10.0.0.1").unwrap(), ["10.0.0.1/32"]);
    assert_eq!(shown("10.0.0.0", "10.0.0.255").unwrap(), ["10.0.0.0/24"]);
    assert_eq!(
        shown("10.0.0.1", "10.0.0.6").unwrap(),
        ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/31", "10.0.0.6/32"]
    );
    assert_eq!(shown("0.0.0.0", "255.255.255.255").unwrap(), ["0.0.0.0/0"]);
    assert_eq!(shown("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").unwrap(), ["::/0"]);
    assert_eq!(
        shown("2001:db8::1", "2001:db8::2").unwrap(),
        ["2001:db8::1/128", "2001:db8::2/128"]
    );
    for (first, last) in [("10.0.0.2", "10.0.0.1"), ("10.0.0.1", "::1"), ("x", "y")] {
        assert!(between(first, last).is_err(), "{first}-{last}");
    }
}

#[test]
fn masks_have_a_length_unless_they_have_holes() {
    let length = |mask: &str| mask_length(mask.parse().unwrap());
    assert_eq!(length("255.255.255.0"), Some(24));
    assert_eq!(length("0.0.0.0"), Some(0));
    assert_eq!(length("255.255.255.255"), Some(32));
    assert_eq!(length("255.0.255.0"), None);
    assert_eq!(length("ffff:ffff::"), Some(32));
}

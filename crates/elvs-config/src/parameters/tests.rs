use super::*;

#[test]
fn definitions_start_the_line_and_have_no_blank_before_the_equals_sign() {
    let cases: &[(&str, Option<(&str, &str)>)] = &[
        ("$A=1", Some(("A", "1"))),
        ("$A_b9=  x y ", Some(("A_b9", "x y "))),
        ("$_X=", Some(("_X", ""))),
        ("$A=b=c", Some(("A", "b=c"))),
        ("$A =1", None),
        ("$9=1", None),
        ("$=1", None),
        ("${A}=1", None),
        ("A=1", None),
        ("$A", None),
    ];
    for (text, want) in cases {
        assert_eq!(definition(text), *want, "{text}");
    }
}

#[test]
fn references_are_found_where_keepalived_finds_them() {
    type Found<'a> = Option<(&'a str, &'a str, &'a str)>;
    let cases: &[(&str, Found<'_>)] = &[
        ("a $B c", Some(("$B", "B", ""))),
        ("$B", Some(("$B", "B", ""))),
        ("x${B}y", Some(("${B}", "B", ""))),
        ("${_ENV HOME}", Some(("${_ENV HOME}", "_ENV", "HOME"))),
        ("${_RANDOM 1 2}", Some(("${_RANDOM 1 2}", "_RANDOM", "1 2"))),
        ("$B.c", None),
        ("pa$$word", Some(("$word", "word", ""))),
        ("$1 $", None),
        ("${9}", None),
        ("${", None),
        ("$B/x ${C}", Some(("${C}", "C", ""))),
        ("f($A,$B)", Some(("$A", "A", ""))),
    ];
    for (line, want) in cases {
        let got = reference(line, 0);
        let got = got.map(|r| (&line[r.range], r.name, r.arguments));
        assert_eq!(got, *want, "{line}");
    }
    assert_eq!(reference("$A $B", 1).unwrap().name, "B");
}

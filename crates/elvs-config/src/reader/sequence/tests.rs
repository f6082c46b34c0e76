use super::*;

fn rounds(line: &str) -> Result<Vec<String>, String> {
    let (sequence, rest) = parse(line)?;
    assert_eq!(line.get(rest..), Some("rest"), "{line}");
    Ok(sequence.map(|values| values.join("/")).collect())
}

#[track_caller]
fn assert_rounds(head: &str, want: &[&str]) {
    let want = want.iter().map(|w| (*w).to_owned()).collect();
    assert_eq!(rounds(&format!("{head} rest")), Ok(want), "{head}");
}

#[test]
fn keepalived_conf_sequences() {
    assert_rounds("~SEQ(SUBNET, 0, 3)", &["0", "1", "2", "3"]);
    assert_rounds("~SEQ( I ,3,1 )", &["3", "2", "1"]);
    assert_rounds("~SEQ (I,2)", &["1", "2"]);
    assert_rounds("~SEQ(I,-3)", &["-1", "-2", "-3"]);
    assert_rounds("~SEQ(I,0)", &["1", "0"]);
    assert_rounds("~SEQ(I,168,2,173)", &["168", "170", "172"]);
    assert_rounds("~SEQ(I,010,9)", &["8", "9"]);
    assert_rounds("~SEQx(I, 144, 16, 192)", &["90", "a0", "b0", "c0"]);
    assert_rounds("~SEQx(I, 0x12, -1, 0x10)", &["12", "11", "10"]);
    assert_rounds(
        "~SEQ(I,9223372036854775806,9223372036854775807)",
        &["9223372036854775806", "9223372036854775807"],
    );
}

#[test]
fn keepalived_conf_lists() {
    assert_rounds("~LST(IP, 1,b , c/d)", &["1", "b", "c/d"]);
    assert_rounds("~LST({IP, IP1}, {10,1},{20,4}, {5} , 6)", &["10/1", "20/4", "5/", "6/"]);
    assert_rounds("~LST(A,,x)", &["", "x"]);
}

#[test]
fn malformed_heads_say_what_is_wrong() {
    let cases = [
        ("~SEQ", "`(` is missing after `~SEQ`"),
        ("~SEQy(I,1)", "`(` is missing after `~SEQ`"),
        ("~SEQ(I,1", "`)` is missing"),
        ("~SEQ()", "the name is missing"),
        ("~SEQ(1a,1)", "`1a` is no name of a parameter"),
        ("~SEQ(I)", "the last number is missing"),
        ("~SEQ(I,1,,3)", "`` is no whole number"),
        ("~SEQ(I,--1)", "`--1` is no whole number"),
        ("~SEQ(I,9223372036854775808)", "`9223372036854775808` is no whole number"),
        ("~SEQ(I,1,2,3,4)", "there are more than three numbers"),
        ("~SEQ(I,1,0,3)", "steps of 0 never lead from 1 to 3"),
        ("~SEQ(I,1,-1,3)", "steps of -1 never lead from 1 to 3"),
        ("~SEQx(I,-3)", "`~SEQx` has no negative numbers"),
        ("~LST", "`(` is missing after `~LST`"),
        ("~LST(A)", "there are no values"),
        ("~LST(A,b c)", "`,` is missing in `b c`"),
        ("~LST({A,B,b)", "`}` is missing"),
        ("~LST(A,{b,c})", "a round has 2 values for 1 names"),
        ("~LST(A,b} x)", "`,` or `)` is missing"),
    ];
    for (line, want) in cases {
        assert_eq!(parse(line).map(|_| ()), Err(want.to_owned()), "{line}");
    }
}

use super::*;
use crate::source::MapSource;

/// Words read, `.` for a line's end, and the findings.
fn read(source: &MapSource, id: &str) -> (String, Vec<String>) {
    let mut reader = Reader::new(source, id);
    reader.read_entry("d/main.conf");
    let show = |t: &Token| match t {
        Token::Word(w) => w.text.clone(),
        Token::Open(_) => "{".to_owned(),
        Token::Close(_) => "}".to_owned(),
        Token::End => ".".to_owned(),
    };
    let words: Vec<_> = reader.tokens.iter().map(show).collect();
    let Reader { reporter, sources, .. } = reader;
    let findings = reporter.finish(&sources).iter().map(ToString::to_string).collect();
    (words.join(" "), findings)
}

fn read_text(text: &str) -> (String, Vec<String>) {
    read(&MapSource::single("d/main.conf", text).with_environment("HOME", "/root"), "main")
}

#[track_caller]
fn assert_reads(text: &str, want: &str) {
    assert_eq!(read_text(text), (want.to_owned(), vec![]), "{text}");
}

#[test]
fn keepalived_conf_comments() {
    assert_reads("a # b\n! c\n  # d\ne!f\n", "a . e .");
    assert_reads("a \"# ! b\" c # d", "a # ! b c .");
    assert_reads(r"a \# b \! c # d", "a # b ! c .");
    assert_reads("# only \"one quote\na\r\nb\r\n", "a . b .");
    assert_reads("\u{feff}a", "a .");
}

#[test]
fn keepalived_conf_conditions() {
    let text = "@main a\n@back b\n@^main c\n@^back d\n@main\n  @main  e {\n}\n@back x \"y\n";
    let (words, findings) = read_text(text);
    assert_eq!(words, "a . d . e { . } .");
    assert_eq!(findings, Vec::<String>::new());
}

#[test]
fn keepalived_conf_parameters_are_replaced_when_used() {
    let text = "$BASE=10.2.${SUB}\n$SUB=0\n${BASE}.100/32\n$SUB=10\n${BASE}.100/32\n";
    assert_reads(text, "10.2.0.100/32 . 10.2.10.100/32 .");
    assert_reads("@main $P=240\n@back $P=200\npriority $P\n", "priority 240 .");
    assert_reads("$IF=@main\n$IF a\n$IF=@back\n$IF b\n", "a .");
    assert_reads("$E=\na $E b${E}c\n", "a bc .");
    assert_reads("pa$$word $5 $", "pa$$word $5 $ .");
    assert_reads("a \"${NOT_DEFINED}\"", "a ${NOT_DEFINED} .");
    assert_reads("${_HASH}a${_BANG} ${_INSTANCE} ${_PWD} ${_ENV HOME}", "#a! main d /root .");
}

#[test]
fn keepalived_conf_multi_line_parameters() {
    let text = "\
$RS= \\
  real_server 192.0.2.${N} 80 { \\
    weight 1 \\
    # a comment \\
  }

$VS= \\
  virtual_server 192.0.2.1 $PORT { \\
    $N=7 \\
    $RS \\
    $N=8 \\
    $RS \\
  }
$PORT=80
$VS
$PORT=81
  $VS
end
";
    let one =
        "real_server 192.0.2.7 80 { . weight 1 . } . real_server 192.0.2.8 80 { . weight 1 . } .";
    let want = format!(
        "virtual_server 192.0.2.1 80 {{ . {one} }} . virtual_server 192.0.2.1 81 {{ . {one} }} . end ."
    );
    assert_reads(text, &want);
}

#[test]
fn multi_line_parameters_end_with_their_file_or_an_empty_line() {
    assert_reads("$A= \\\nb \\\n\nc\n$A", "c . b .");
    assert_reads("$A=x \\\ny \\", "");
    assert_reads("@main $A= \\\n b\n@back $A= \\\n c\n$A", "b .");
    assert_reads("$A=x\n@^main $A= \\\n b \\\n c\n$A", "x .");
    let (words, _) = read_text("$A= \\\n b\n$A c\n");
    assert_eq!(words, "$A c .", "only at the end of a line, as in keepalived");
}

#[test]
fn keepalived_conf_sequences_and_lists() {
    assert_reads("~SEQ(N, 0, 2) ip 10.0.${N}.1\n", "ip 10.0.0.1 . ip 10.0.1.1 . ip 10.0.2.1 .");
    assert_reads(
        "~LST({IP, IP1}, {10,1},{20,4}) ~SEQ(IP2,168,2,170) 192.${IP2}.${IP}.${IP1}",
        "192.168.10.1 . 192.170.10.1 . 192.168.20.4 . 192.170.20.4 .",
    );
    assert_reads("$N=2\n~SEQ(I,1,$N) ~SEQ(J,$I,${N}) a$I b${J}$", "a1 b1$ . a1 b2$ . a2 b2$ .");
    assert_reads(
        "@main ~SEQ(I,1,2) @main a$I\n@back ~SEQ(I,1,2) b\n~SEQ(I,1,2) @back c",
        "a1 . a2 .",
    );
    assert_reads(
        "$LOOP=~SEQ(I,1,2)\n$LOOP b\n$V= \\\nw$I { \\\nx \\\n}\n$LOOP $V\n",
        "b . b . w1 { . x . } . w2 { . x . } .",
    );
    assert_reads("~LST(A,$B,x) $B=1$A\n$A $B", "x 1x .");
    assert_reads("~foo ~SEQ(I,1,2)", "~foo ~SEQ(I,1,2) .");
}

#[test]
fn random_numbers_are_the_same_every_time() {
    let (words, findings) = read_text("~SEQ(I,1,200) ${_RANDOM 3 5}");
    assert_eq!(findings, Vec::<String>::new());
    let numbers: Vec<_> = words.split(" . ").map(|w| w.trim_end_matches(" .")).collect();
    assert_eq!(numbers.len(), 200);
    for wanted in ["3", "4", "5"] {
        assert!(numbers.contains(&wanted), "{numbers:?}");
    }
    assert!(numbers.iter().all(|n| ["3", "4", "5"].contains(n)), "{numbers:?}");
    assert_eq!(read_text("~SEQ(I,1,200) ${_RANDOM 3 5}").0, words);
    let other = read(&MapSource::single("d/main.conf", "~SEQ(I,1,200) ${_RANDOM 3 5}"), "back").0;
    assert_ne!(other, words, "another node has other numbers");
    let plain: u32 = read_text("$_RANDOM").0.trim_end_matches(" .").parse().unwrap();
    assert!(plain <= 32_767);
    assert_reads("${_RANDOM 7 7}", "7 .");
}

#[test]
fn include_check_holds_below_it_and_in_its_file() {
    let kinds = |text: &str| {
        let source = MapSource::single("d/main.conf", text)
            .with_file("d/strict", "include_check\ninclude none\n")
            .with_file("d/plain", "include none\n");
        let (_, findings) = read(&source, "");
        findings.iter().map(|f| f.split(": ").nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kinds("include none\ninclude_check\ninclude none"), ["warning", "error"]);
    assert_eq!(kinds("include strict\ninclude none"), ["warning", "error"]);
    assert_eq!(kinds("include_check match\ninclude plain\ninclude none/*"), ["error", "note"]);
    assert_eq!(
        kinds("include_check +wildcard_match\ninclude none/*\ninclude none"),
        ["error", "warning"]
    );
    assert_eq!(kinds("include_check\ninclude_check -match\ninclude none"), ["warning"]);
    assert_eq!(kinds("include_check match brace_match\ninclude {plain,none}"), ["error", "error"]);
    assert_eq!(kinds("include_checks\ninclude none"), ["warning"]);
}

#[test]
fn what_is_not_supported_is_said() {
    let cases: &[(&str, &str)] = &[
        (
            "~SEQ(I, 1, 2, x) a $I",
            "1:1: error: `~SEQ(I, 1, 2, x) a $I` is malformed: `x` is no whole number",
        ),
        ("x\n  ~LST(V) c", "2:3: error: `~LST(V) c` is malformed: there are no values"),
        ("a ${_RANDOM 9 1}", "1:3: error: `9 1` is no range of `_RANDOM`"),
        ("a ${_RANDOM 1 2 3}", "1:3: error: `1 2 3` is no range of `_RANDOM`"),
        ("$N=~SEQ(I,1,2) $N\n$N", "2:1: error: parameters expand to more than the limit"),
        ("~SEQ(I,1,999999999999) a$I", "1:25: error: parameters expand to more than the limit"),
        (
            "~SEQ(I,1,999999999999) a b c d e f g h i j k l m",
            "1:24: error: the configuration has more than 4194304 words",
        ),
        ("include_check all", "1:15: error: unknown include check `all`"),
        ("a ${_ENV NONE}", "1:3: error: environment variable `NONE` is not set"),
        ("a \\\nb", "1:3: error: `\\` at the end of a line continues nothing here"),
        ("a\0b", "1:2: error: NUL byte in the line"),
        ("$A=$A x\n$A", "2:1: error: parameters expand to more than the limit"),
        ("$A= \\\n$A\n$A", "2:1: error: parameters expand to more than the limit"),
        ("a ${B} c", "1:3: warning: parameter `${B}` is not defined and stays as it is"),
        (
            "$I=include x\n$I",
            "2:1: error: `include` cannot be conditional or come from a parameter",
        ),
        ("@main include x", "1:7: error: `include` cannot be conditional or come from a parameter"),
    ];
    for (text, want) in cases {
        let (_, findings) = read_text(text);
        assert_eq!(findings, [format!("d/main.conf:{want}")], "{text}");
    }
}

#[test]
fn sizes_are_bounded() {
    let long = format!("a\n{}\nb", "x".repeat(MAX_LINE_BYTES + 1));
    let (words, findings) = read_text(&long);
    assert_eq!(words, "a . b .");
    assert!(findings[0].contains("line has 65537 bytes, more than 65536"), "{findings:?}");

    let (words, findings) = read_text(&" ".repeat(MAX_FILE_BYTES + 1));
    assert_eq!(words, "");
    assert!(findings[0].contains("more than 8388608 bytes"), "{findings:?}");

    let mut bomb = String::from("$A0=xxxxxxxxxxxxxxxx\n");
    for n in 1..30 {
        let m = n - 1;
        bomb.push_str(&format!("$A{n}=${{A{m}}}${{A{m}}}\n"));
    }
    let (_, findings) = read_text(&(bomb + "a ${A29}"));
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].contains("parameters expand to more than the limit"), "{findings:?}");

    let mut bomb = String::from("$A0= \\\nx\n");
    for n in 1..16 {
        let m = n - 1;
        bomb.push_str(&format!("$A{n}= \\\n$A{m} \\\n$A{m} \\\n$A{m} \\\n$A{m}\n"));
    }
    let (_, findings) = read_text(&(bomb + "$A15"));
    assert_eq!(findings.len(), 1, "{findings:?}");
}

#[test]
fn text_that_is_no_utf8_is_read_with_a_warning() {
    let source = MapSource::single("d/main.conf", *b"a\nb # M\xfcller\nc\n");
    let (words, findings) = read(&source, "");
    assert_eq!(words, "a . b . c .");
    assert_eq!(findings, ["d/main.conf:2:6: warning: the file is not UTF-8 from here on"]);
}

#[test]
fn keepalived_conf_include_is_relative_to_its_file() {
    let source = MapSource::default()
        .with_file("d/main.conf", "a {\ninclude conf.d/*.conf\n}\ninclude /abs.conf # now")
        .with_file("d/conf.d/1.conf", "one\ninclude deep/x.conf\n")
        .with_file("d/conf.d/2.conf", "two")
        .with_file("d/conf.d/deep/x.conf", "deep $IN")
        .with_file("/abs.conf", "include \"d/conf.d/{2,3}.conf\"");
    let (words, findings) = read(&source, "");
    assert_eq!(words, "a { . one . deep $IN . two . } .");
    assert_eq!(
        findings,
        ["/abs.conf:1:1: warning: no file matches `d/conf.d/{2,3}.conf`"]
            .map(str::to_owned)
            .to_vec()
    );
}

#[test]
fn parameters_hold_across_files() {
    let source = MapSource::default()
        .with_file("d/main.conf", "$A=1\ninclude b\nx $B $A")
        .with_file("d/b", "$B=2\ny $A\n$A=3");
    assert_eq!(read(&source, "").0, "y 1 . x 2 3 .");
}

#[test]
fn keepalived_conf_include_kinds_say_what_is_an_error() {
    let cases: &[(&str, &[&str])] = &[
        ("include none", &["warning"]),
        ("include none/*", &["note"]),
        ("includer none", &["warning"]),
        ("includer none/*", &["note"]),
        ("includem none", &["error"]),
        ("includem none/*", &["note"]),
        ("includew none", &["error"]),
        ("includew none/*", &["error"]),
        ("includeb {is,none}", &["error"]),
        ("includeb {no,none}", &["error"]),
        ("include {is,none}", &["note"]),
        ("includea none/*", &["error"]),
        ("includea {is,none}", &["error"]),
        ("includea i*", &[]),
        ("include", &["error"]),
        ("include [", &["error"]),
    ];
    for (line, want) in cases {
        let source =
            MapSource::single("d/main.conf", format!("a\n{line}\n")).with_file("d/is", "is");
        let (_, findings) = read(&source, "");
        let severities: Vec<_> = findings.iter().map(|f| f.split(": ").nth(1).unwrap()).collect();
        assert_eq!(severities, *want, "{line}: {findings:?}");
    }
}

#[test]
fn files_that_include_each_other_are_refused() {
    let source = MapSource::default()
        .with_file("d/main.conf", "include a\nend")
        .with_file("d/a", "a\ninclude b")
        .with_file("d/b", "b\ninclude a\n");
    let (words, findings) = read(&source, "");
    assert_eq!(words, "a . b . end .");
    let want = "d/b:2:1: error: files include each other without end: d/a -> d/b -> d/a";
    assert_eq!(findings, [want]);

    let mut source = MapSource::single("d/main.conf", "include 0");
    for n in 0..30 {
        source = source.with_file(&format!("d/{n}"), format!("w{n}\ninclude {}", n + 1));
    }
    let (_, findings) = read(&source, "");
    assert_eq!(findings, ["d/14:2:1: error: `include` is nested more than 16 deep"]);

    let many = (0..2000).fold(MapSource::single("d/main.conf", "include m/*"), |s, n| {
        s.with_file(&format!("d/m/{n}"), "x")
    });
    let (_, findings) = read(&many, "");
    assert_eq!(findings, ["d/main.conf:1:1: error: more than 1024 files are included"]);
}

#[test]
fn unreadable_files_are_named() {
    let missing = MapSource::default();
    let (_, findings) = read(&missing, "");
    assert_eq!(findings, ["d/main.conf:1:1: error: cannot read the file: no such file"]);

    struct Forbidding;
    impl Source for Forbidding {
        fn read(&self, path: &str) -> Result<Vec<u8>, crate::SourceError> {
            match path {
                "d/main.conf" => Ok(b"include x\nincluder x\n".to_vec()),
                _ => Err(crate::SourceError::PermissionDenied),
            }
        }
        fn matches(&self, pattern: &str) -> Result<Vec<String>, crate::SourceError> {
            Ok(vec![pattern.to_owned()])
        }
        fn environment(&self, _: &str) -> Option<String> {
            None
        }
    }
    let mut reader = Reader::new(&Forbidding, "");
    reader.read_entry("d/main.conf");
    let findings = reader.reporter.finish(&reader.sources);
    let shown: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "d/main.conf:1:1: warning: cannot read d/x: permission denied",
            "d/main.conf:2:1: error: cannot read d/x: permission denied",
        ]
    );
}

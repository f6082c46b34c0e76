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
    let (words, _) = read_text("$A= \\\n b\n$A c\n");
    assert_eq!(words, "$A c .", "only at the end of a line, as in keepalived");
}

#[test]
fn what_is_not_supported_is_said() {
    let cases: &[(&str, &str)] = &[
        ("~SEQ(I, 1, 3) a $I", "1:1: error: `~SEQ` and `~LST` are not supported yet"),
        ("x\n  ~LST(V, a, b) c", "2:3: error: `~SEQ` and `~LST` are not supported yet"),
        ("a ${_RANDOM 1 9}", "1:3: error: `_RANDOM` is not supported"),
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

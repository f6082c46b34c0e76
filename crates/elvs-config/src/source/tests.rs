use super::*;

#[test]
fn braces_expand_as_csh_does() {
    let cases: &[(&str, &[&str])] = &[
        ("a.conf", &["a.conf"]),
        ("{a,b}.conf", &["a.conf", "b.conf"]),
        ("foo/{,cat,dog}/x", &["foo//x", "foo/cat/x", "foo/dog/x"]),
        ("{foo/{,cat},bar}", &["foo/", "foo/cat", "bar"]),
        ("{a,b}{1,2}", &["a1", "a2", "b1", "b2"]),
        ("{open", &["{open"]),
        ("a}b", &["a}b"]),
        ("{one}", &["one"]),
    ];
    for (pattern, want) in cases {
        assert_eq!(
            expand_braces(pattern).as_deref(),
            Some(&want.map_to_strings()[..]),
            "{pattern}"
        );
    }
    assert_eq!(expand_braces(&"{a,b}".repeat(9)), None, "512 expansions are refused");
}

trait MapToStrings {
    fn map_to_strings(&self) -> Vec<String>;
}

impl MapToStrings for &[&str] {
    fn map_to_strings(&self) -> Vec<String> {
        self.iter().map(|s| (*s).to_owned()).collect()
    }
}

#[test]
fn relative_paths_start_at_the_including_file() {
    assert_eq!(resolve("/etc/k/k.conf", "conf.d/*"), "/etc/k/conf.d/*");
    assert_eq!(resolve("/etc/k/k.conf", "/x"), "/x");
    assert_eq!(resolve("k.conf", "x"), "x");
    assert_eq!(resolve("/k.conf", "x"), "/x");
    assert_eq!((directory("/etc/k"), directory("/k"), directory("k")), ("/etc", "/", "."));
}

#[test]
fn map_source_matches_within_one_directory() {
    let source = MapSource::default()
        .with_file("d/a.conf", "")
        .with_file("d/b.conf", "")
        .with_file("d/sub/c.conf", "")
        .with_file("d/.hidden.conf", "");
    assert_eq!(source.matches("d/*.conf").unwrap(), ["d/a.conf", "d/b.conf"]);
    assert_eq!(source.matches("d/a.conf").unwrap(), ["d/a.conf"]);
    assert!(source.matches("e/*").unwrap().is_empty());
    assert!(matches!(source.matches("d/["), Err(SourceError::Pattern(_))));
    assert_eq!(source.read("d/x"), Err(SourceError::NotFound));
}

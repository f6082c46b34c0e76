use super::*;

fn url() -> UrlCheck {
    UrlCheck {
        path: "/".to_owned(),
        virtual_host: None,
        status: Vec::new(),
        digest: None,
        regex: None,
        tls_compliant: false,
    }
}

fn rule(pattern: &str) -> RegexRule {
    RegexRule {
        pattern: pattern.to_owned(),
        must_not_match: false,
        options: Vec::new(),
        min_offset: 0,
        max_offset: 0,
    }
}

fn judge(url: &UrlCheck, status: u16, parts: &[&[u8]]) -> Result<(), Unwanted> {
    let regex = url.regex.as_ref().map(|rule| Arc::new(Regex::new(rule).unwrap()));
    let mut judge = Judge::new(url, regex, status)?;
    for part in parts {
        judge.feed(part)?;
    }
    judge.end()
}

fn words(result: Result<(), Unwanted>) -> String {
    result.map_or_else(|unwanted| unwanted.to_string(), |()| "ok".to_owned())
}

#[test]
fn judges_the_status() {
    let range = |first, last| StatusRange { first, last };
    for (status, wanted, said) in [
        (200, vec![range(200, 299)], "ok"),
        (299, vec![range(200, 299)], "ok"),
        (503, vec![range(200, 299)], "HTTP 503, wanted 200-299"),
        (302, vec![range(200, 299), range(401, 401)], "HTTP 302, wanted 200-299, 401"),
        (401, vec![range(200, 299), range(401, 401)], "ok"),
        (599, vec![], "ok"),
    ] {
        let url = UrlCheck { status: wanted, ..url() };
        assert_eq!(words(judge(&url, status, &[b"x"])), said, "{status}");
    }
}

#[test]
fn judges_the_digest_of_the_whole_body() {
    // echo -n hello | md5sum
    let hello = 0x5d41_402a_bc4b_2a76_b971_9d91_1017_c592_u128.to_be_bytes();
    let url = UrlCheck { digest: Some(hello), ..url() };
    assert_eq!(words(judge(&url, 200, &[b"hel", b"lo"])), "ok");
    assert_eq!(
        words(judge(&url, 200, &[])),
        "digest d41d8cd98f00b204e9800998ecf8427e, wanted 5d41402abc4b2a76b9719d911017c592"
    );
}

#[test]
fn judges_the_regex_with_its_offsets() {
    for (rule, body, said) in [
        (rule("o w"), "hello world", "ok"),
        (rule("x"), "hello", "regex \"x\" matches nothing in the 5 bytes of the body"),
        (
            RegexRule { min_offset: 2, ..rule("h") },
            "hh",
            "regex \"h\" matches nothing in the 2 bytes of the body",
        ),
        (RegexRule { min_offset: 1, ..rule("h") }, "hh", "ok"),
        (
            RegexRule { max_offset: 4, ..rule("o") },
            "hello",
            "regex \"o\" matches nothing in the 5 bytes of the body",
        ),
        (RegexRule { max_offset: 5, ..rule("o") }, "hello", "ok"),
        (
            RegexRule { must_not_match: true, ..rule("ll") },
            "hello",
            "regex \"ll\" matches at byte 2, wanted no match",
        ),
        (RegexRule { must_not_match: true, ..rule("x") }, "hello", "ok"),
    ] {
        let url = UrlCheck { regex: Some(rule.clone()), ..url() };
        let halves = body.split_at(body.len() / 2);
        let result = judge(&url, 200, &[halves.0.as_bytes(), halves.1.as_bytes()]);
        assert_eq!(words(result), said, "{rule:?}");
    }
}

#[test]
fn bounds_what_it_keeps_and_reads() {
    let chunk = vec![b'a'; WINDOW];
    let plain = url();
    let mut judge = Judge::new(&plain, None, 200).unwrap();
    assert_eq!(judge.feed(b"a"), Ok(Rest::Matters));
    assert_eq!(judge.feed(&chunk), Ok(Rest::Ignored));

    let url = UrlCheck { regex: Some(rule("b")), ..url() };
    let regex = Arc::new(Regex::new(&rule("b")).unwrap());
    let mut judge = Judge::new(&url, Some(regex), 200).unwrap();
    assert_eq!(judge.feed(&chunk), Ok(Rest::Ignored));
    assert_eq!(judge.feed(b"b"), Ok(Rest::Ignored));
    assert_eq!(
        words(judge.end()),
        "regex \"b\" matches nothing in the first 1048576 bytes of the body"
    );

    let url = UrlCheck { digest: Some([0; 16]), ..self::url() };
    let mut judge = Judge::new(&url, None, 200).unwrap();
    for _ in 0..DIGESTED / WINDOW {
        assert_eq!(judge.feed(&chunk), Ok(Rest::Matters));
    }
    assert_eq!(judge.feed(b"a"), Err(Unwanted::TooLong));
}

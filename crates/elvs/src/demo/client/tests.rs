use super::*;

#[test]
fn reads_an_answer() {
    let response = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"server\":\"rs1\",\"client\":\"10.0.0.1\"}";
    let answer = parse(response).unwrap();
    assert_eq!(answer, Answer { server: "rs1".to_owned(), client: CLIENT.into() });
}

#[test]
fn refuses_what_no_demo_server_says() {
    const CASES: &[(&[u8], &str)] = &[
        (b"", "no end of its head"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "not that of a demo server"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n{}", "status 502"),
        (b"\r\n\r\n", "no status"),
        (b"\xff\r\n\r\n", "no text"),
    ];
    for (response, expected) in CASES {
        let error = parse(response).unwrap_err().to_string();
        assert!(error.contains(expected), "{response:?}: {error}");
    }
}

#[test]
fn remembers_the_first_failure() {
    let mut outcome = Outcome::default();
    outcome.fail(4, "first");
    outcome.fail(5, "second");
    assert_eq!(outcome.failed, 2);
    assert_eq!(outcome.first_failure.as_deref(), Some("request 5: first"));
}

/// The last request's port is a port.
#[test]
fn has_a_port_for_every_request() {
    assert!(FIRST_PORT.checked_add(50_000 - 1).is_some());
}

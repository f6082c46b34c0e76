use super::*;

#[test]
fn says_times_as_people_do() {
    for (millis, words) in [(3000, "3 s"), (1500, "1.5 s"), (250, "250 ms"), (60_000, "60 s")] {
        assert_eq!(time(Duration::from_millis(millis)), words);
    }
}

#[test]
fn says_errors_without_their_numbers() {
    let refused = io::Error::from_raw_os_error(Errno::ECONNREFUSED as i32);
    assert_eq!(error(&refused), "connection refused");
    assert_eq!(error(&io::Error::other("TLS of old")), "TLS of old");
}

#[test]
fn quotes_any_bytes_in_one_printable_line() {
    for (bytes, words) in [
        (&b"503 busy\r\n"[..], "\"503 busy\"".to_owned()),
        (b"a\"b\x1b[2J\n\0", "\"a\\\"b\\u{1b}[2J\\n\\u{0}\"".to_owned()),
        (b"", "\"\"".to_owned()),
        (&[b'x'; 500], format!("\"{}...\"", "x".repeat(60))),
    ] {
        assert_eq!(quoted(bytes), words);
    }
}

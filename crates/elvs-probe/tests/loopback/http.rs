//! `HTTP_GET`.

use std::net::SocketAddr;
use std::time::Duration;

use elvs_model::health::{
    CheckKind, HttpCheck, HttpVersion, RegexRule, StatusRange, Target, UrlCheck,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{hasty, nowhere, serve, silent, target, words};

pub(super) fn url(path: &str) -> UrlCheck {
    UrlCheck {
        path: path.to_owned(),
        virtual_host: None,
        status: vec![StatusRange { first: 200, last: 299 }],
        digest: None,
        regex: None,
        tls_compliant: false,
    }
}

pub(super) fn get(target: Target, urls: Vec<UrlCheck>) -> HttpCheck {
    HttpCheck {
        target,
        tls: None,
        version: HttpVersion::V1_0,
        virtual_host: None,
        fast_recovery: false,
        urls,
    }
}

async fn http(check: HttpCheck) -> String {
    words(CheckKind::Http(check)).await
}

/// Reads a request up to its empty line.
pub(super) async fn request(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.unwrap() != 0 {}
    String::from_utf8(request).unwrap()
}

/// A server that answers every request with these bytes and closes.
async fn answering(bytes: &'static [u8]) -> SocketAddr {
    serve(move |mut stream| async move {
        request(&mut stream).await;
        // The check may have closed before the end.
        let _ = stream.write_all(bytes).await;
    })
    .await
}

/// The request that a check sends.
async fn sent(listener: TcpListener, check: HttpCheck) -> String {
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        request
    });
    assert_eq!(http(check).await, "+ HTTP 204");
    server.await.unwrap()
}

#[tokio::test]
async fn sends_what_keepalived_sends() {
    let agent = format!("User-Agent: elvs/{}\r\n", env!("CARGO_PKG_VERSION"));
    for (version, line, close) in [
        (HttpVersion::V1_0, "HTTP/1.0", ""),
        (HttpVersion::V1_0Close, "HTTP/1.0", "Connection: close\r\n"),
        (HttpVersion::V1_1, "HTTP/1.1", "Connection: close\r\n"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let check = HttpCheck { version, ..get(target(address), vec![url("/a?b=c")]) };
        let expected = format!("GET /a?b=c {line}\r\n{agent}{close}Host: {address}\r\n\r\n");
        assert_eq!(sent(listener, check).await, expected);
    }
}

#[tokio::test]
async fn keepalived_conf_virtualhost() {
    let host = Some("url.example".to_owned());
    let common = Some("check.example".to_owned());
    for (of_url, of_check, ip, expected) in [
        (host.clone(), common.clone(), "127.0.0.1:0", Some("url.example")),
        (None, common, "127.0.0.1:0", Some("check.example")),
        (None, None, "[::1]:0", None),
    ] {
        let listener = TcpListener::bind(ip).await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = UrlCheck { virtual_host: of_url, ..url("/") };
        let check = HttpCheck { virtual_host: of_check, ..get(target(address), vec![url]) };
        let expected = expected.map_or_else(|| format!("[::1]:{}", address.port()), str::to_owned);
        let request = sent(listener, check).await;
        assert!(request.contains(&format!("\r\nHost: {expected}\r\n")), "{request}");
    }
}

#[tokio::test]
async fn judges_answers() {
    let hello = 0x5d41_402a_bc4b_2a76_b971_9d91_1017_c592_u128.to_be_bytes();
    let digest = UrlCheck { digest: Some(hello), ..url("/") };
    let rule = RegexRule {
        pattern: "^HEL+O$".to_owned(),
        must_not_match: false,
        options: vec!["caseless".to_owned()],
        min_offset: 0,
        max_offset: 0,
    };
    let regex = UrlCheck { regex: Some(rule), ..url("/") };
    let chunked =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
    for (answer, url, said) in [
        (&b"HTTP/1.0 200 OK\r\n\r\nhello"[..], url("/"), "+ HTTP 200"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", url("/"), "+ HTTP 204"),
        (b"HTTP/1.0 503 Busy\r\n\r\n", url("/"), "- HTTP 503, wanted 200-299"),
        // Not followed.
        (b"HTTP/1.0 302 Found\r\nLocation: /ok\r\n\r\n", url("/"), "- HTTP 302, wanted 200-299"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", digest.clone(), "+ HTTP 200"),
        (chunked, digest.clone(), "+ HTTP 200"),
        (
            b"HTTP/1.0 200 OK\r\n\r\nHello",
            digest,
            "- digest 8b1a9953c4611296a827abf8c47804d7, wanted 5d41402abc4b2a76b9719d911017c592",
        ),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", regex.clone(), "+ HTTP 200"),
        (
            b"HTTP/1.0 200 OK\r\n\r\nhi",
            regex,
            "- regex \"^HEL+O$\" matches nothing in the 2 bytes of the body",
        ),
        (b"", url("/"), "- connection closed before the end of the response"),
        (b"HTTP/1.0 200", url("/"), "- connection closed before the end of the response"),
        (
            b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nshort",
            url("/"),
            "- connection closed before the end of the response",
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n", url("/"), "- no HTTP response: invalid HTTP version parsed"),
        (
            b"\x15\x03\x01\x00\x02\x02\x50",
            url("/"),
            "- no HTTP response: invalid HTTP version parsed",
        ),
        (b"HTTP/1.0 abc\r\n\r\n", url("/"), "- no HTTP response: invalid HTTP status-code parsed"),
    ] {
        let address = answering(answer).await;
        let said_of = String::from_utf8_lossy(answer);
        assert_eq!(http(get(target(address), vec![url])).await, said, "{said_of}");
    }
}

#[tokio::test]
async fn says_which_step_came_to_nothing() {
    let check = |target| get(target, vec![url("/")]);
    assert_eq!(http(check(target(nowhere().await))).await, "- connection refused");
    assert_eq!(
        http(check(hasty(silent().await))).await,
        "- response header took longer than 200 ms"
    );
    let reset = serve(|mut stream| async move {
        request(&mut stream).await;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    assert_eq!(http(check(target(reset))).await, "- connection reset by peer");
    let drip = serve(|mut stream| async move {
        request(&mut stream).await;
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").await.unwrap();
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(http(check(hasty(drip))).await, "- response body took longer than 200 ms");
}

/// Sends `bytes` again and again, until the check has closed.
async fn endless(mut stream: TcpStream, head: &'static [u8], bytes: &'static [u8]) {
    request(&mut stream).await;
    stream.write_all(head).await.unwrap();
    while stream.write_all(bytes).await.is_ok() {}
}

#[tokio::test]
async fn bounds_what_it_reads() {
    const HEAD: &[u8] = b"HTTP/1.0 200 OK\r\n\r\n";
    let body = serve(|stream| endless(stream, HEAD, &[b'x'; 65536])).await;
    assert_eq!(http(get(target(body), vec![url("/")])).await, "+ HTTP 200");
    let digest = UrlCheck { digest: Some([0; 16]), ..url("/") };
    assert_eq!(
        http(get(target(body), vec![digest])).await,
        "- body is longer than 16777216 bytes, too long for a digest"
    );
    let header = serve(|stream| endless(stream, b"HTTP/1.0 200 OK\r\n", b"X: y\r\n")).await;
    assert_eq!(
        http(get(target(header), vec![url("/")])).await,
        "- no HTTP response: message head is too large"
    );
}

#[tokio::test]
async fn tries_urls_in_order() {
    let address = serve(|mut stream| async move {
        let request = request(&mut stream).await;
        let status = if request.starts_with("GET /bad") { 500 } else { 200 };
        stream.write_all(format!("HTTP/1.0 {status} X\r\n\r\n").as_bytes()).await.unwrap();
    })
    .await;
    let urls = |paths: &[&str]| paths.iter().map(|path| url(path)).collect();
    let all = http(get(target(address), urls(&["/a", "/b"]))).await;
    assert_eq!(all, "+ 2 URLs answered as wanted");
    let one = http(get(target(address), urls(&["/a", "/bad", "/worse"]))).await;
    assert_eq!(one, "- /bad: HTTP 500, wanted 200-299");
}

#[tokio::test]
async fn says_what_is_wrong_with_the_configuration() {
    let address = answering(b"HTTP/1.0 200 OK\r\n\r\n").await;
    let rule = RegexRule {
        pattern: "(".to_owned(),
        must_not_match: true,
        options: Vec::new(),
        min_offset: 0,
        max_offset: 0,
    };
    let regex = UrlCheck { regex: Some(rule), ..url("/") };
    assert_eq!(
        http(get(target(address), vec![regex])).await,
        "- invalid regex at byte 1: missing closing parenthesis"
    );
    assert_eq!(
        http(get(target(address), vec![url("/a b")])).await,
        "- no request can be made: invalid uri character"
    );
}

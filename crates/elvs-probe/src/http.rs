//! `HTTP_GET` and `SSL_GET`: every URL is answered as wanted.
//!
//! **Invariant:** one connection for each URL, in order, to the first that fails; connecting, the TLS handshake, the
//! header and the body each end within `connect_timeout`. A redirect is a status like any other and is not followed.
//!
//! Called by [`crate::Prober`]. What `fast_recovery` asks for is a matter of when runs happen, not of a run.

mod judge;
mod stream;

use std::io::{self, ErrorKind};
use std::pin::pin;
use std::time::Duration;

use elvs_model::health::{Finding, HttpCheck, HttpVersion, TlsClient, UrlCheck};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response, Version};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use self::judge::{Judge, Rest, Unwanted};
use self::stream::Lenient;
use crate::connect::{self, ConnectError};
use crate::regex::RegexError;
use crate::tls::{self, TlsError};
use crate::{Prober, words};

/// Runs the check once.
pub(crate) async fn run(prober: &Prober, check: &HttpCheck) -> Finding {
    let mut last = 0;
    for url in &check.urls {
        match fetch(prober, check, url).await {
            Ok(status) => last = status,
            Err(error) if check.urls.len() > 1 => {
                return Finding::failed(format!("{}: {error}", url.path));
            }
            Err(error) => return Finding::failed(error.to_string()),
        }
    }
    Finding::passed(match check.urls.len() {
        1 => format!("HTTP {last}"),
        several => format!("{several} URLs answered as wanted"),
    })
}

/// Why a URL has failed.
#[derive(Debug, Error)]
enum UrlError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    #[error("TLS handshake: {}", words::error(.0))]
    Handshake(#[source] io::Error),
    #[error("{step} took longer than {}", words::time(*.after))]
    Slow { step: &'static str, after: Duration },
    #[error("no request can be made: {0}")]
    Request(#[source] hyper::http::Error),
    #[error("{}", response_words(.0))]
    Response(#[source] hyper::Error),
    #[error(transparent)]
    Regex(#[from] RegexError),
    #[error(transparent)]
    Unwanted(#[from] Unwanted),
}

/// Gets one URL and judges the answer, whose status is returned.
async fn fetch(prober: &Prober, check: &HttpCheck, url: &UrlCheck) -> Result<u16, UrlError> {
    let request = request(check, url).map_err(UrlError::Request)?;
    let tcp = connect::tcp(&check.target).await?;
    match &check.tls {
        None => exchange(prober, check, url, request, tcp).await,
        Some(tls) => {
            let compliant = tls.compliant || url.tls_compliant;
            let stream = Lenient::new(secure(prober, check, tls, tcp).await?, compliant);
            exchange(prober, check, url, request, stream).await
        }
    }
}

/// Makes the connection a TLS one.
async fn secure(
    prober: &Prober,
    check: &HttpCheck,
    tls: &TlsClient,
    tcp: tokio::net::TcpStream,
) -> Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>, UrlError> {
    let connector = TlsConnector::from(prober.tls(tls)?);
    let name = tls::name(tls, check.target.address.ip())?;
    step(check, "TLS handshake", connector.connect(name, tcp)).await?.map_err(UrlError::Handshake)
}

/// Sends the request and judges what comes back.
async fn exchange<S>(
    prober: &Prober,
    check: &HttpCheck,
    url: &UrlCheck,
    request: Request<Empty<Bytes>>,
    stream: S,
) -> Result<u16, UrlError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sender, connection) = http1::Builder::new()
        .title_case_headers(true)
        .ignore_invalid_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(UrlError::Response)?;
    let mut answer = pin!(answer(prober, check, url, request, sender));
    let mut connection = pin!(connection);
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            judged = &mut answer => return judged,
            // Its errors reach the answer, too.
            _ = &mut connection, if open => open = false,
        }
    }
}

async fn answer(
    prober: &Prober,
    check: &HttpCheck,
    url: &UrlCheck,
    request: Request<Empty<Bytes>>,
    mut sender: SendRequest<Empty<Bytes>>,
) -> Result<u16, UrlError> {
    let regex = url.regex.as_ref().map(|rule| prober.regex(rule)).transpose()?;
    let response = step(check, "response header", sender.send_request(request)).await?;
    let response = response.map_err(UrlError::Response)?;
    let status = response.status().as_u16();
    let mut judge = Judge::new(url, regex, status)?;
    step(check, "response body", body(response, &mut judge)).await??;
    judge.end()?;
    Ok(status)
}

/// Feeds the body to the judge, as far as it matters.
async fn body(response: Response<Incoming>, judge: &mut Judge<'_>) -> Result<(), UrlError> {
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(UrlError::Response)?;
        let Some(part) = frame.data_ref() else { continue };
        if judge.feed(part)? == Rest::Ignored {
            break;
        }
    }
    Ok(())
}

/// Waits for one step of the check.
async fn step<T>(
    check: &HttpCheck,
    step: &'static str,
    future: impl Future<Output = T>,
) -> Result<T, UrlError> {
    let after = check.target.timeout;
    timeout(after, future).await.map_err(|_elapsed| UrlError::Slow { step, after })
}

/// The request: what keepalived sends, under a name of our own.
fn request(check: &HttpCheck, url: &UrlCheck) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    let (version, close) = match check.version {
        HttpVersion::V1_0 => (Version::HTTP_10, false),
        HttpVersion::V1_0Close => (Version::HTTP_10, true),
        // keepalived reads to the end of the connection and so always asks for it with this version.
        HttpVersion::V1_1 | HttpVersion::V1_1Close => (Version::HTTP_11, true),
    };
    let host = url.virtual_host.as_ref().or(check.virtual_host.as_ref());
    let host = host.cloned().unwrap_or_else(|| check.target.address.to_string());
    let mut request = Request::get(url.path.as_str()).version(version).header(USER_AGENT, AGENT);
    if close {
        request = request.header(CONNECTION, "close");
    }
    request.header(HOST, host).body(Empty::new())
}

/// What went wrong between request and response.
fn response_words(error: &hyper::Error) -> String {
    let system: Option<&io::Error> =
        std::error::Error::source(error).and_then(|cause| cause.downcast_ref());
    let early = system.is_some_and(|cause| cause.kind() == ErrorKind::UnexpectedEof);
    if error.is_incomplete_message() || early {
        "connection closed before the end of the response".to_owned()
    } else if error.is_parse() {
        format!("no HTTP response: {error}")
    } else if let Some(cause) = system {
        words::error(cause)
    } else {
        error.to_string()
    }
}

/// Name in `User-Agent`.
const AGENT: &str = concat!("elvs/", env!("CARGO_PKG_VERSION"));

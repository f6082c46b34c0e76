//! `SSL_GET`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use elvs_model::health::{CheckKind, HttpCheck, TlsClient};
use pkcs8::pkcs5::pbes2::Parameters;
use pkcs8::{LineEnding, PrivateKeyInfoRef};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsAcceptor;

use super::http::{get, request, url};
use super::{hasty, serve, silent, target, words};

/// An authority, and the directory of files.
struct Pki {
    authority: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

impl Pki {
    fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(parameters, key).unwrap();
        Self { authority, directory: tempfile::tempdir().unwrap() }
    }

    /// Writes a file.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn ca(&self) -> PathBuf {
        self.file("ca.pem", &self.authority.pem())
    }

    /// A certificate for this name, which this authority has signed, and its key.
    fn sign(&self, name: &str, until: i32) -> (rcgen::Certificate, KeyPair) {
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        (parameters.signed_by(&key, &self.authority).unwrap(), key)
    }

    /// A server with a certificate for this name; `clients`: it wants one from its clients, too.
    fn server(&self, name: &str, until: i32, clients: bool) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if clients {
            let mut roots = RootCertStore::empty();
            roots.add(self.authority.der().clone()).unwrap();
            let roots = Arc::new(roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = self.sign(name, until);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap())
    }
}

/// A server that answers 200, says goodbye or not, and notes which names it was called by.
async fn secure(
    config: Arc<ServerConfig>,
    goodbye: bool,
) -> (SocketAddr, Arc<Mutex<Vec<Option<String>>>>) {
    let names = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&names);
    let address = serve(move |stream| {
        let (acceptor, noted) = (TlsAcceptor::from(Arc::clone(&config)), Arc::clone(&noted));
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            noted.lock().unwrap().push(stream.get_ref().1.server_name().map(str::to_owned));
            request(&mut stream).await;
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello").await.unwrap();
            stream.flush().await.unwrap();
            if goodbye {
                stream.shutdown().await.unwrap();
            }
        }
    })
    .await;
    (address, names)
}

async fn ssl(address: SocketAddr, tls: TlsClient) -> String {
    let check = get(target(address), vec![url("/")]);
    words(CheckKind::Http(HttpCheck { tls: Some(tls), ..check })).await
}

fn named(name: &str) -> Option<String> {
    Some(name.to_owned())
}

#[tokio::test]
async fn takes_any_certificate_without_a_ca() {
    let pki = Pki::new();
    let (address, names) = secure(pki.server("a.example", 1990, false), true).await;
    assert_eq!(ssl(address, TlsClient::default()).await, "+ HTTP 200");
    let tls = TlsClient { server_name: named("b.example"), ..TlsClient::default() };
    assert_eq!(ssl(address, tls).await, "+ HTTP 200");
    assert_eq!(*names.lock().unwrap(), [None, named("b.example")]);
}

#[tokio::test]
async fn judges_certificates_with_a_ca() {
    let (pki, other) = (Pki::new(), Pki::new());
    let (good, _) = secure(pki.server("a.example", 2999, false), true).await;
    let (expired, _) = secure(pki.server("a.example", 1990, false), true).await;
    let ca = Some(pki.ca());
    let anonymous = TlsClient { ca: ca.clone(), ..TlsClient::default() };
    let right = TlsClient { server_name: named("a.example"), ..anonymous.clone() };
    let wrong = TlsClient { server_name: named("b.example"), ..anonymous.clone() };
    let foreign = TlsClient { ca: Some(other.ca()), ..TlsClient::default() };
    for (address, tls, said) in [
        (good, anonymous.clone(), "+ HTTP 200"),
        (good, right, "+ HTTP 200"),
        (
            good,
            wrong,
            "- TLS handshake: invalid peer certificate: certificate not valid for name \"b.example\"",
        ),
        (good, foreign, "- TLS handshake: invalid peer certificate: "),
        (expired, anonymous, "- TLS handshake: invalid peer certificate: certificate expired"),
    ] {
        let words = ssl(address, tls.clone()).await;
        assert!(words.starts_with(said), "{words} for {tls:?}");
    }
}

#[tokio::test]
async fn keepalived_conf_ssl_certificate_and_key() {
    let pki = Pki::new();
    let (address, _) = secure(pki.server("a.example", 2999, true), true).await;
    let (certificate, key) = pki.sign("director.example", 2999);
    let tls = TlsClient {
        certificate: Some(pki.file("cert.pem", &certificate.pem())),
        key: Some(pki.file("key.pem", &key.serialize_pem())),
        ..TlsClient::default()
    };
    assert_eq!(ssl(address, tls.clone()).await, "+ HTTP 200");
    let none = ssl(address, TlsClient::default()).await;
    assert!(none.contains("CertificateRequired"), "{none}");
    let half = ssl(address, TlsClient { key: None, ..tls }).await;
    assert_eq!(
        half,
        "- TLS: certificate and key of the SSL block go together, and only one is given"
    );
}

#[tokio::test]
async fn keepalived_conf_ssl_password() {
    let pki = Pki::new();
    let (address, _) = secure(pki.server("a.example", 2999, true), true).await;
    let (certificate, key) = pki.sign("director.example", 2999);
    // What `openssl pkcs8 -topk8` takes by default.
    let cipher = Parameters::generate_pbkdf2_sha256_aes256cbc(2048, b"saltsalt", [7; 16]).unwrap();
    let plain = key.serialize_der();
    let encrypted = PrivateKeyInfoRef::try_from(plain.as_slice())
        .unwrap()
        .encrypt_with_params(cipher, "secret")
        .unwrap()
        .to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF)
        .unwrap();
    // One file for both, as many have it.
    let file = pki.file("both.pem", &format!("{}{}\n", certificate.pem(), *encrypted));
    let path = file.display().to_string();
    for (password, said) in [
        (Some("secret"), "+ HTTP 200".to_owned()),
        (
            Some("guess"),
            format!("- TLS: key {path} cannot be decrypted with the password of the SSL block: "),
        ),
        (None, format!("- TLS: key {path} is encrypted, and the SSL block has no password")),
    ] {
        let tls = TlsClient {
            certificate: Some(file.clone()),
            key: Some(file.clone()),
            password: password.map(str::to_owned),
            ..TlsClient::default()
        };
        let words = ssl(address, tls).await;
        assert!(words.starts_with(&said), "{words}");
    }
}

#[tokio::test]
async fn says_which_file_is_wrong() {
    let pki = Pki::new();
    let address = silent().await;
    let empty = pki.file("empty.pem", "nothing\n");
    let (certificate, _) = pki.sign("director.example", 2999);
    let certificate = Some(pki.file("cert.pem", &certificate.pem()));
    let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let older = pki.file("older.pem", older);
    let shown = |path: &Path| path.display().to_string();
    let missing = PathBuf::from("/nonexistent/ca.pem");
    let ca = ssl(address, TlsClient { ca: Some(missing), ..TlsClient::default() }).await;
    assert!(ca.starts_with("- TLS: ca /nonexistent/ca.pem: "), "{ca}");
    let ca = ssl(address, TlsClient { ca: Some(empty.clone()), ..TlsClient::default() }).await;
    assert_eq!(ca, format!("- TLS: ca {} has no ca in PEM format", shown(&empty)));
    let said = format!("- TLS: key {} is encrypted in OpenSSL's old format; ", shown(&older));
    let tls = TlsClient { certificate, key: Some(older), ..TlsClient::default() };
    let words = ssl(address, tls).await;
    assert!(words.starts_with(&said), "{words}");
    let tls = TlsClient { server_name: named("a b"), ..TlsClient::default() };
    assert_eq!(ssl(address, tls).await, "- TLS: \"a b\" is no name for a server name indication");
}

#[tokio::test]
async fn keepalived_conf_tls_compliant() {
    let pki = Pki::new();
    let (rude, _) = secure(pki.server("a.example", 2999, false), false).await;
    let (polite, _) = secure(pki.server("a.example", 2999, false), true).await;
    let compliant = TlsClient { compliant: true, ..TlsClient::default() };
    assert_eq!(ssl(rude, TlsClient::default()).await, "+ HTTP 200");
    assert_eq!(ssl(polite, compliant.clone()).await, "+ HTTP 200");
    assert_eq!(ssl(rude, compliant).await, "- connection closed without TLS close_notify");
}

#[tokio::test]
async fn says_which_step_came_to_nothing() {
    let check = |target| {
        let tls = Some(TlsClient::default());
        CheckKind::Http(HttpCheck { tls, ..get(target, vec![url("/")]) })
    };
    assert_eq!(
        words(check(hasty(silent().await))).await,
        "- TLS handshake took longer than 200 ms"
    );
    let plain = serve(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
        let mut rest = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await;
    })
    .await;
    let words_of_plain = words(check(target(plain))).await;
    assert!(
        words_of_plain.starts_with("- TLS handshake: received corrupt message"),
        "{words_of_plain}"
    );
    let closing = serve(|stream| async move {
        let mut stream = stream;
        let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4096]).await;
    })
    .await;
    assert_eq!(words(check(target(closing))).await, "- TLS handshake: tls handshake eof");
}

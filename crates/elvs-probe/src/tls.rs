//! TLS of `SSL_GET`: configurations, made once for each set of files.
//!
//! **Invariant:** as in keepalived a certificate is not judged unless a `ca` is given; with one, the chain must lead to
//! it, and the name is judged only where one is configured (a real server is reached by its address).
//!
//! Called by the driver of `HTTP_GET` and `SSL_GET`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use elvs_model::health::TlsClient;
use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::VerifierBuilderError;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use thiserror::Error as ThisError;

/// Why there is no TLS.
#[derive(Debug, ThisError)]
pub(crate) enum TlsError {
    /// A file of the `SSL` block.
    #[error("{what} {}: {source}", .path.display())]
    File { what: &'static str, path: PathBuf, source: pem::Error },
    /// A file without what it should have.
    #[error("{what} {} has no {what} in PEM format", .path.display())]
    Empty { what: &'static str, path: PathBuf },
    /// An encrypted key without a `password`.
    #[error("key {} is encrypted, and the SSL block has no password", .0.display())]
    NoPassword(PathBuf),
    /// Not this key's `password`, or a cipher that is not known.
    #[error("key {} cannot be decrypted with the password of the SSL block: {source}", .path.display())]
    Decrypt { path: PathBuf, source: pkcs8::Error },
    /// A key that is encrypted as OpenSSL did before PKCS#8.
    #[error(
        "key {} is encrypted in OpenSSL's old format; convert it with: openssl pkcs8 -topk8 -in {} -out NEW",
        .0.display(), .0.display()
    )]
    OldFormat(PathBuf),
    /// A `certificate` without `key`, or the other way round.
    #[error("certificate and key of the SSL block go together, and only one is given")]
    Half,
    /// The `ca` cannot be used.
    #[error("ca: {0}")]
    Ca(#[source] VerifierBuilderError),
    /// The library refused.
    #[error("{0}")]
    Config(#[source] Error),
    /// Not a host name.
    #[error("{0:?} is no name for a server name indication")]
    Name(String),
}

/// The configuration for these settings. Reads the files that they name.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn config(tls: &TlsClient) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let verifier: Arc<dyn ServerCertVerifier> = match &tls.ca {
        None => Arc::new(Anything { schemes }),
        Some(path) => {
            Arc::new(Chain { inner: authority(path, &provider)?, named: tls.server_name.is_some() })
        }
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Config)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match (&tls.certificate, &tls.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(path)) => builder
            .with_client_auth_cert(
                certificates("certificate", certificate)?,
                key(path, tls.password.as_deref())?,
            )
            .map_err(TlsError::Config)?,
        (Some(_), None) | (None, Some(_)) => return Err(TlsError::Half),
    };
    config.enable_sni = tls.server_name.is_some();
    Ok(config)
}

/// The name that the library is told; an address is never sent.
///
/// # Errors
/// What is configured is no host name.
pub(crate) fn name(
    tls: &TlsClient,
    address: std::net::IpAddr,
) -> Result<ServerName<'static>, TlsError> {
    match &tls.server_name {
        None => Ok(ServerName::from(address)),
        Some(name) => {
            ServerName::try_from(name.clone()).map_err(|_invalid| TlsError::Name(name.clone()))
        }
    }
}

fn authority(
    path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca", path)? {
        roots.add(certificate).map_err(TlsError::Config)?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(TlsError::Ca)
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = |source| TlsError::File { what, path: path.to_owned(), source };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(file)?
        .collect::<Result<_, _>>()
        .map_err(file)?;
    if found.is_empty() {
        return Err(TlsError::Empty { what, path: path.to_owned() });
    }
    Ok(found)
}

fn key(path: &Path, password: Option<&str>) -> Result<PrivateKeyDer<'static>, TlsError> {
    let what = "key";
    let fault = match PrivateKeyDer::from_pem_file(path) {
        Ok(key) => return Ok(key),
        Err(fault) => fault,
    };
    let text = std::fs::read_to_string(path).unwrap_or_default();
    match encrypted(&text) {
        Some(block) => {
            let password = password.ok_or_else(|| TlsError::NoPassword(path.to_owned()))?;
            decrypt(block, password)
                .map_err(|source| TlsError::Decrypt { path: path.to_owned(), source })
        }
        None if text.contains(OLD_ENCRYPTED) => Err(TlsError::OldFormat(path.to_owned())),
        None if matches!(fault, pem::Error::NoItemsFound) => {
            Err(TlsError::Empty { what, path: path.to_owned() })
        }
        None => Err(TlsError::File { what, path: path.to_owned(), source: fault }),
    }
}

/// The encrypted key of a file, which may hold certificates, too (RFC 7468, 11).
fn encrypted(text: &str) -> Option<&str> {
    let block = text.get(text.find(BEGIN)?..)?;
    block.get(..block.find(END)? + END.len())
}

fn decrypt(text: &str, password: &str) -> pkcs8::Result<PrivateKeyDer<'static>> {
    let (_, document) = SecretDocument::from_pem(text)?;
    let key = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes())?.decrypt(password)?;
    Ok(PrivateKeyDer::Pkcs8(key.as_bytes().to_vec().into()))
}

const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
const OLD_ENCRYPTED: &str = "Proc-Type: 4,ENCRYPTED";

/// Takes any certificate.
#[derive(Debug)]
struct Anything {
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// Takes a certificate whose chain leads to the `ca`.
#[derive(Debug)]
struct Chain {
    inner: Arc<WebPkiServerVerifier>,
    /// Whether its name matters.
    named: bool,
}

impl ServerCertVerifier for Chain {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verdict {
            // The name is judged last, so the chain was found good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.named => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

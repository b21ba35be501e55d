//! TLS of the server's own: the files are read at the start, and again when they change, so that a certificate is
//! renewed without a restart.

mod subject;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

pub(crate) use subject::subject_of;

use crate::watched::{Source, Watched};

/// Where certificate, key and the CAs of clients are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The CAs of client certificates; without them clients are asked for none.
    pub client_ca: Option<PathBuf>,
    /// Their revocation lists; without them no certificate is revoked.
    pub client_crl: Option<PathBuf>,
}

/// Files that cannot be used. Their content is never repeated.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It cannot be read.
    #[error("the {what} {path}")]
    Read {
        /// What it holds.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not PEM of what it should hold.
    #[error("the {what} {path} {problem}")]
    Content {
        /// What it should hold.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// Certificate and key do not make a pair, or the certificate is none for a server.
    #[error("the TLS certificate and key")]
    Pair(#[source] rustls::Error),
}

/// What the files held.
#[derive(PartialEq, Eq)]
pub struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
    client_crl: Option<Vec<u8>>,
}

/// What new connections are served with.
pub type Tls = Watched<TlsFiles>;

impl Source for TlsFiles {
    type Contents = Contents;
    type Made = ServerConfig;
    type Error = TlsError;
    const WHAT: &'static str = "TLS files";

    fn read(&self) -> Result<Contents, TlsError> {
        read(self)
    }

    fn make(&self, contents: &Contents) -> Result<ServerConfig, TlsError> {
        config(self, contents)
    }
}

fn read(files: &TlsFiles) -> Result<Contents, TlsError> {
    let read = |what, path: &PathBuf| {
        std::fs::read(path).map_err(|source| TlsError::Read { what, path: path.clone(), source })
    };
    Ok(Contents {
        certificate: read("TLS certificate", &files.certificate)?,
        key: read("TLS key", &files.key)?,
        client_ca: files.client_ca.as_ref().map(|path| read("client CA", path)).transpose()?,
        client_crl: files.client_crl.as_ref().map(|path| read("client CRL", path)).transpose()?,
    })
}

fn config(files: &TlsFiles, contents: &Contents) -> Result<ServerConfig, TlsError> {
    let chain = certificates("TLS certificate", &files.certificate, &contents.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|_| TlsError::Content {
        what: "TLS key",
        path: files.key.clone(),
        problem: "holds no private key in PEM".to_owned(),
    })?;
    let builder = ServerConfig::builder();
    let builder = match (&files.client_ca, &contents.client_ca) {
        (Some(path), Some(pem)) => {
            let problem =
                |problem: String| TlsError::Content { what: "client CA", path: path.clone(), problem };
            let mut roots = RootCertStore::empty();
            for certificate in certificates("client CA", path, pem)? {
                roots.add(certificate).map_err(|error| problem(error.to_string()))?;
            }
            // Without a certificate one may come too, and prove oneself by a token, or read.
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated();
            let verifier = verifier.with_crls(revoked(files, contents)?).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| problem(error.to_string()))?)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
    if files.client_ca.is_some() {
        // A session that is resumed brings the client's certificate along, and nobody looks whether it is over.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The revocation lists of clients. With any, a certificate counts only where its CA has one.
fn revoked(
    files: &TlsFiles,
    contents: &Contents,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let (Some(path), Some(pem)) = (&files.client_crl, &contents.client_crl) else { return Ok(Vec::new()) };
    let all: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => {
            let problem = "holds no revocation list in PEM".to_owned();
            Err(TlsError::Content { what: "client CRL", path: path.clone(), problem })
        }
    }
}

fn certificates(
    what: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let problem =
        |problem: &str| TlsError::Content { what, path: path.to_path_buf(), problem: problem.to_owned() };
    let all: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| problem("is not PEM"))?;
    if all.is_empty() { Err(problem("holds no certificate")) } else { Ok(all) }
}

//! TLS as VDSM has it: its certificate, and clients that show one of the same authority.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;

/// Where the PEM files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our certificate, and those between it and the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities that client certificates are of.
    pub authorities: PathBuf,
}

/// Why there can be no TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file that is not there, or not for us.
    #[error("{}: cannot be read: {error}{}", .path.display(), cure(.error, .key))]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// The key that names it.
        key: &'static str,
        /// Why.
        error: io::Error,
    },
    /// A file without what it is for.
    #[error("{}: holds no {wanted}; vdsm.{key} names a PEM file with one", .path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
        /// The key that names it.
        key: &'static str,
        /// What it should hold.
        wanted: &'static str,
    },
    /// A file that is damaged.
    #[error("{}: {error}; vdsm.{key} names a PEM file", .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// The key that names it.
        key: &'static str,
        /// Why.
        error: pem::Error,
    },
    /// Files that do not go together, or that cannot be used.
    #[error("{}: {reason}", .path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why, and the cure.
        reason: String,
    },
}

fn cure(error: &io::Error, key: &str) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!(
                "; addresses other than loopback need TLS: name an existing file in vdsm.{key}, or listen on loopback only"
            )
        }
        io::ErrorKind::PermissionDenied => {
            "; let the user that runs virtstatd read it (setfacl -m u:virtstatd:r)".to_owned()
        }
        _ => String::new(),
    }
}

impl TlsFiles {
    /// Can TLS be spoken with these?
    ///
    /// # Errors
    /// [`TlsError`], which names the file.
    pub fn check(&self) -> Result<(), TlsError> {
        self.load().map(drop)
    }

    /// Reads them, as they are now.
    pub(super) fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let chain = certificates(&self.certificate, "tls-certificate")?;
        let key = private_key(&self.key)?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.authorities, "tls-ca")? {
            roots.add(certificate).map_err(|error| TlsError::Unusable {
                path: self.authorities.clone(),
                reason: format!("cannot be an authority: {error}"),
            })?;
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| TlsError::Unusable { path: self.authorities.clone(), reason: error.to_string() })?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Unusable { path: self.certificate.clone(), reason: error.to_string() })?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| self.unusable(&error))?;
        Ok(Arc::new(config))
    }

    fn unusable(&self, error: &rustls::Error) -> TlsError {
        let certificate = self.certificate.display();
        let (path, reason) = match error {
            rustls::Error::InconsistentKeys(_) => (
                &self.key,
                format!(
                    "is not the key of the certificate in {certificate}; vdsm.tls-key names that of vdsm.tls-certificate"
                ),
            ),
            rustls::Error::InvalidCertificate(error) => (&self.certificate, format!("cannot be used: {error}")),
            error => (&self.key, format!("cannot be used: {error}")),
        };
        TlsError::Unusable { path: path.clone(), reason }
    }
}

fn read(path: &Path, key: &'static str) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Unreadable { path: path.to_owned(), key, error })
}

fn certificates(path: &Path, key: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path, key)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| TlsError::Damaged { path: path.to_owned(), key, error })?;
    if all.is_empty() { Err(TlsError::Empty { path: path.to_owned(), key, wanted: "certificate" }) } else { Ok(all) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let key = "tls-key";
    PrivateKeyDer::from_pem_slice(&read(path, key)?).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::Empty { path: path.to_owned(), key, wanted: "private key" },
        error => TlsError::Damaged { path: path.to_owned(), key, error },
    })
}

#[cfg(test)]
mod tests;

//! The certificate of the listener: read, checked, and read again when its files change.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use metrics::{counter, gauge};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::Notify;
use tracing::{error, info};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::auth::way::EndPoint;
use crate::causes::with_causes;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{} cannot be read", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate file holds no certificate chain in PEM.
    #[error("{} holds no certificate in PEM", .path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        source: Option<pem::Error>,
    },
    /// The key file holds no private key in PEM.
    #[error("{} holds no private key in PEM", .path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        source: pem::Error,
    },
    /// Certificate and key cannot be used, or not together.
    #[error("{} and {} are no usable pair", .certificate.display(), .key.display())]
    NoPair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
}

/// The two files of a certificate.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// A pair in use.
pub(super) struct InUse {
    /// How TLS is spoken with it.
    pub(super) config: Arc<ServerConfig>,
    /// What tokens are bound to on its connections.
    pub(super) end_point: Option<EndPoint>,
}

/// The pair that new connections are served with. Clones are the same.
#[derive(Clone)]
pub(super) struct Served(Arc<RwLock<Arc<InUse>>>);

impl Served {
    pub(super) fn new(pair: Arc<InUse>) -> Self {
        Self(Arc::new(RwLock::new(pair)))
    }

    /// The pair of the next connection.
    pub(super) fn in_use(&self) -> Arc<InUse> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn renew(&self, pair: Arc<InUse>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = pair;
    }
}

/// What can be seen of both files, certificate first; nothing of one that cannot be seen.
pub(super) type Looks = [Option<Look>; 2];

/// What reading a pair again has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Another pair than before is served now.
    Renewed,
    /// The files are those whose pair was served already.
    Unchanged,
    /// The files are no pair; the old one is served.
    Unusable,
}

/// What can be seen of a file without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    modified: Option<SystemTime>,
    size: u64,
    inode: u64,
}

impl Pair {
    /// TLS 1.2 or newer with this pair, HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// When a file cannot be read, or they are no pair.
    pub(super) async fn load(&self) -> Result<Arc<InUse>, CertificateError> {
        let chain = read(&self.certificate).await?;
        let key = zeroize::Zeroizing::new(read(&self.key).await?);
        let chain = self.chain(&chain)?;
        let no_key = |source| CertificateError::NoKey { path: self.key.clone(), source };
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(no_key)?;
        let ends_at = chain.first().and_then(|own| ends_at(own));
        let end_point = chain.first().and_then(|own| EndPoint::of_certificate(own));
        let config = Arc::new(self.config(chain, key)?);
        if let Some(ends_at) = ends_at {
            gauge!("pgbridge_certificate_expires_seconds").set(ends_at);
        }
        Ok(Arc::new(InUse { config, end_point }))
    }

    fn chain(&self, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
        let none =
            |source| CertificateError::NoCertificate { path: self.certificate.clone(), source };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
        let chain = chain.map_err(|error| none(Some(error)))?;
        if chain.is_empty() { Err(none(None)) } else { Ok(chain) }
    }

    fn config(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<ServerConfig, CertificateError> {
        let no_pair = |source| CertificateError::NoPair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(no_pair)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(no_pair)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    pub(super) async fn look(&self) -> Looks {
        let (certificate, key) =
            tokio::join!(tokio::fs::metadata(&self.certificate), tokio::fs::metadata(&self.key));
        [certificate, key].map(|metadata| metadata.ok().as_ref().map(Look::of))
    }

    /// Gives `served` the pair anew whenever a file changes, or `now` is told to. A pair that
    /// cannot be used is logged, and the one in use stays.
    pub(super) async fn renew_for_ever(self, served: Served, now: Arc<Notify>) {
        let mut used = self.look().await;
        let mut seen = used.clone();
        loop {
            let told = tokio::select! {
                () = now.notified() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            let look = self.look().await;
            if !told && look == seen {
                continue;
            }
            seen = look.clone();
            self.read_again(&served, look, &mut used).await;
        }
    }

    /// Reads the files, which look like `look`, and serves their pair. `used` is how those looked
    /// that are served.
    pub(super) async fn read_again(
        &self,
        served: &Served,
        look: Looks,
        used: &mut Looks,
    ) -> Reading {
        let certificate = self.certificate.display();
        match self.load().await {
            Ok(pair) => {
                served.renew(pair);
                if *used == look {
                    info!(%certificate, "certificate read again, unchanged");
                    return Reading::Unchanged;
                }
                *used = look;
                info!(%certificate, "the certificate was renewed");
                Reading::Renewed
            }
            Err(failed) => {
                counter!("pgbridge_certificate_reload_failed_total").increment(1);
                error!(
                    cause = with_causes(&failed),
                    "the renewed certificate cannot be used; the old one stays in use"
                );
                Reading::Unusable
            }
        }
    }
}

impl Look {
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self { modified: metadata.modified().ok(), size: metadata.len(), inode: metadata.ino() }
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let unreadable = |source| CertificateError::Unreadable { path: path.to_owned(), source };
    tokio::fs::read(path).await.map_err(unreadable)
}

/// When the certificate ends, in seconds since 1970.
fn ends_at(certificate: &CertificateDer<'_>) -> Option<f64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    #[expect(clippy::cast_precision_loss, reason = "seconds of this millennium are below 2^52")]
    Some(certificate.validity().not_after.timestamp() as f64)
}

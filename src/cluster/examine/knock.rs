//! What the server asks for at its door, tried on the wire as a lease role would come: over TLS and
//! without, to each database. The name that is given is no role, and no password is sent: the
//! server finds the line of `pg_hba.conf` by the name alone, and says what it asks for before it
//! looks for the role.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Expected;
use super::wire::{self, Demand};
use crate::cluster::settings::ClusterSettings;
use crate::dial::{Host, ServerTls, trusted};
use crate::names::{DatabaseName, printable};

/// A place where the server listens.
pub(super) struct Door {
    guest: Guest,
    host: Host,
    port: u16,
    trust: Option<RootCertStore>,
    limit: Duration,
}

/// Who comes by a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guest {
    /// Clients, as they are told.
    Clients,
    /// The broker; clients are told another place.
    Broker,
}

/// How it was knocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// TLS first.
    Tls,
    /// Without TLS, over the network.
    Clear,
    /// Over a Unix socket.
    Socket,
}

/// What was found at one door.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) guest: Guest,
    /// Where it is, for people.
    pub(super) place: String,
    /// Whether what is sent there cannot leave this machine.
    pub(super) local: bool,
    /// What was asked for, by way and database.
    pub(super) answers: Vec<(Way, String, Answer)>,
    /// Why nothing more was tried.
    pub(super) broken: Option<String>,
    /// The certificate, once there was one.
    pub(super) certificate: Option<Certificate>,
    /// Whether the server speaks TLS older than 1.2.
    pub(super) old_tls: Option<bool>,
}

/// What one attempt came to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Answer {
    Asked(Demand),
    /// The server has no TLS to offer.
    NoTls,
}

/// The server's certificate.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    /// Whether clients can check it.
    pub(super) fit: Fit,
    pub(super) expires_at: Option<Timestamp>,
}

/// How a certificate fits what clients trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It fits.
    Good,
    /// Clients trust a file that is on their machines only.
    Untried,
    /// It comes from whom clients trust, and is for another name.
    OtherName(String),
    /// It does not come from whom clients trust, or is not good now.
    Bad(String),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Door {
    /// The place where clients come, and the broker's if that is another.
    ///
    /// # Errors
    /// When root certificates cannot be read.
    pub(super) fn all(
        expected: &Expected,
        settings: &ClusterSettings,
    ) -> Result<Vec<Self>, String> {
        let limit = expected.connect_timeout;
        let client = &expected.client;
        let mut doors = Vec::new();
        if let Some(host) = expected.client_host() {
            let trust = match (&client.root_certificate, client.sslrootcert.as_deref()) {
                (Some(pem), _) => Some(trusted(Some(pem))?),
                (None, Some("system")) => trusted(None).ok(),
                (None, _) => None,
            };
            doors.push(Self { guest: Guest::Clients, host, port: client.port, trust, limit });
        }
        let is_known =
            doors.iter().any(|door| (&door.host, door.port) == (&expected.host, expected.port));
        if !is_known {
            let trust = match &settings.tls {
                ServerTls::VerifyFull { roots } => trusted(roots.as_deref()).ok(),
                ServerTls::Disabled => None,
            };
            let (host, port) = (expected.host.clone(), expected.port);
            doors.push(Self { guest: Guest::Broker, host, port, trust, limit });
        }
        Ok(doors)
    }

    /// Knocks for each database of the profiles, and for the one where roles are made.
    pub(super) async fn knock(&self, expected: &Expected) -> Opened {
        let user = format!("{}doctor", expected.role_prefix.as_str());
        let mut databases = expected.databases();
        if !databases.contains(&&expected.maintenance) {
            databases.push(&expected.maintenance);
        }
        let ways: &[Way] = match self.host {
            Host::Socket(_) => &[Way::Socket],
            Host::Name(_) | Host::Address(_) => &[Way::Tls, Way::Clear],
        };
        let mut opened = Opened {
            guest: self.guest,
            place: format!("{}:{}", self.host, self.port),
            local: self.host.is_local(),
            answers: Vec::new(),
            broken: None,
            certificate: None,
            old_tls: None,
        };
        for way in ways {
            for database in &databases {
                match self.within(self.ask(*way, &user, database)).await {
                    Ok((answer, certificate)) => {
                        opened.certificate = certificate.or(opened.certificate);
                        opened.answers.push((*way, database.to_string(), answer));
                    }
                    Err(why) => {
                        opened.broken = Some(printable(&why));
                        return opened;
                    }
                }
            }
        }
        if opened.certificate.is_some() {
            opened.old_tls = self.within(self.greet_with_old_tls()).await.ok().flatten();
        }
        opened
    }

    async fn within<T>(
        &self,
        attempt: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        let no_answer = || format!("no answer within {} ms", self.limit.as_millis());
        timeout(self.limit, attempt).await.map_err(|_| no_answer())?
    }

    async fn ask(
        &self,
        way: Way,
        user: &str,
        database: &DatabaseName,
    ) -> Result<(Answer, Option<Certificate>), String> {
        let mut stream = self.connect().await?;
        let mut certificate = None;
        if way == Way::Tls {
            if !asked_for_tls(&mut stream).await? {
                return Ok((Answer::NoTls, None));
            }
            let (secured, seen) = self.secure(stream).await?;
            stream = secured;
            certificate = seen;
        }
        let demand = first_demand(&mut stream, user, database).await?;
        Ok((Answer::Asked(demand), certificate))
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        let failed = |error: std::io::Error| format!("no connection: {error}");
        Ok(match &self.host {
            Host::Socket(directory) => {
                let path = directory.join(format!(".s.PGSQL.{}", self.port));
                Box::new(UnixStream::connect(path).await.map_err(failed)?)
            }
            Host::Name(name) => {
                Box::new(TcpStream::connect((name.as_str(), self.port)).await.map_err(failed)?)
            }
            Host::Address(address) => {
                Box::new(TcpStream::connect((*address, self.port)).await.map_err(failed)?)
            }
        })
    }

    /// TLS, whatever the certificate: nothing secret is sent, and what is wrong with the
    /// certificate is to be told.
    async fn secure(
        &self,
        stream: Box<dyn Stream>,
    ) -> Result<(Box<dyn Stream>, Option<Certificate>), String> {
        let name = match &self.host {
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(text)?,
            Host::Address(address) => ServerName::from(*address),
            Host::Socket(_) => ServerName::from(IpAddr::from([127, 0, 0, 1])),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let witness = Arc::new(Witness::new(&provider, self.trust.clone())?);
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(text)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&witness) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let stream = connected.map_err(|error| format!("no TLS with it: {error}"))?;
        Ok((Box::new(stream), witness.seen()))
    }

    async fn greet_with_old_tls(&self) -> Result<Option<bool>, String> {
        let mut stream = self.connect().await?;
        if !asked_for_tls(&mut stream).await? {
            return Ok(None);
        }
        stream.write_all(&wire::old_tls_hello()).await.map_err(text)?;
        let mut head = [0; 5];
        stream.read_exact(&mut head).await.map_err(text)?;
        Ok(wire::goes_on_with_old_tls(head))
    }
}

/// Asks for TLS, and says whether the server has it.
async fn asked_for_tls(stream: &mut Box<dyn Stream>) -> Result<bool, String> {
    stream.write_all(&wire::SSL_REQUEST).await.map_err(text)?;
    match stream.read_u8().await.map_err(text)? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err("it does not speak PostgreSQL's protocol".to_owned()),
    }
}

/// Says who wants in where, and reads what is asked for.
async fn first_demand(
    stream: &mut Box<dyn Stream>,
    user: &str,
    database: &DatabaseName,
) -> Result<Demand, String> {
    let no_answer = |error: std::io::Error| format!("it hung up: {error}");
    stream.write_all(&wire::startup(user, database.as_str())).await.map_err(text)?;
    let mut head = [0; 5];
    stream.read_exact(&mut head).await.map_err(no_answer)?;
    let strange = || "it does not speak PostgreSQL's protocol".to_owned();
    let mut body = vec![0; wire::rest_of(head).ok_or_else(strange)?];
    stream.read_exact(&mut body).await.map_err(no_answer)?;
    let [kind, ..] = head;
    wire::demand(kind, &body).ok_or_else(strange)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Lets every certificate pass, and remembers it.
#[derive(Debug)]
struct Witness {
    provider: Arc<CryptoProvider>,
    check: Option<Arc<WebPkiServerVerifier>>,
    seen: Mutex<Option<Certificate>>,
}

impl Witness {
    fn new(provider: &Arc<CryptoProvider>, trust: Option<RootCertStore>) -> Result<Self, String> {
        let check = trust.map(|roots| {
            let roots = Arc::new(roots);
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build()
        });
        let check = check.transpose().map_err(text)?;
        Ok(Self { provider: Arc::clone(provider), check, seen: Mutex::new(None) })
    }

    fn seen(&self) -> Option<Certificate> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn fit(error: &rustls::Error) -> Fit {
    use CertificateError::{NotValidForName, NotValidForNameContext};

    match error {
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            Fit::OtherName(printable(&error.to_string()))
        }
        error => Fit::Bad(printable(&error.to_string())),
    }
}

fn expires_at(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let fit = match &self.check {
            None => Fit::Untried,
            Some(check) => check
                .verify_server_cert(certificate, chain, name, ocsp, now)
                .map_or_else(|error| fit(&error), |_| Fit::Good),
        };
        let seen = Certificate { fit, expires_at: expires_at(certificate) };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

//! Client certificates whose common name is any bytes at all: with `cert` authentication that name
//! is the system user, so a login with one asks the server about any user there could be.
//!
//! The encoding is written here because no library makes a certificate of such a name. A name that
//! is UTF-8 is a `UTF8String`; any other is a `TeletexString`, whose bytes OpenSSL takes as they are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData, SigningKey,
};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SignatureScheme};

use crate::support::TestCa;

const AUTHORITY: &str = "pgbridge people's authority";

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const UTF8_STRING: u8 = 0x0c;
const TELETEX_STRING: u8 = 0x14;
const UTC_TIME: u8 = 0x17;

/// `ecdsa-with-SHA256` and the attributes of a name, each a whole object identifier.
const ECDSA_WITH_SHA256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const COMMON_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];
const ORGANIZATION: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x0a];
const UNIT: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x0b];

/// An attribute of a person's name: its kind and its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attribute {
    CommonName,
    Organization,
    Unit,
}

/// Who logs in: the attributes of the subject, in the order of the certificate.
pub type Subject = Vec<(Attribute, Vec<u8>)>;

/// The authority that all people have their certificates from, and the one key that they share.
pub struct People {
    authority: CertifiedIssuer<'static, KeyPair>,
    key: KeyPair,
    signer: Arc<dyn rustls::sign::SigningKey>,
    config: ClientConfig,
    made: Mutex<HashMap<Subject, Arc<CertifiedKey>>>,
}

/// Shows one certificate to whoever asks.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl People {
    /// Those of this process.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<People> = OnceLock::new();
        SHARED.get_or_init(Self::new)
    }

    fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no name is a valid list of names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, AUTHORITY);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(params, new_key());
        let authority = authority.expect("an authority can sign its own certificate");

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = new_key();
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signer = provider.key_provider.load_private_key(secret).expect("a key for TLS");

        let mut roots = RootCertStore::empty();
        let servers = pem_to_der(&TestCa::shared().pem());
        roots.add(CertificateDer::from(servers)).expect("an authority");
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("TLS 1.3").with_root_certificates(roots).with_no_client_auth();
        Self { authority, key, signer, config, made: Mutex::default() }
    }

    /// The certificate of the authority, as a server wants it.
    pub fn pem(&self) -> String {
        self.authority.pem()
    }

    /// A TLS session that shows the certificate of `subject`.
    pub fn session(&self, subject: &Subject) -> ClientConnection {
        let mut config = self.config.clone();
        config.client_auth_cert_resolver = Arc::new(Shows(self.certificate(subject)));
        // A ticket of another person's session would say who is there.
        config.resumption = rustls::client::Resumption::disabled();
        let server = ServerName::try_from("localhost").expect("a name of a server");
        ClientConnection::new(Arc::new(config), server).expect("TLS")
    }

    fn certificate(&self, subject: &Subject) -> Arc<CertifiedKey> {
        let mut made = self.made.lock().expect("no test panics while it holds this");
        let made = made.entry(subject.clone()).or_insert_with(|| {
            let certificate = CertificateDer::from(self.sign(subject));
            Arc::new(CertifiedKey::new(vec![certificate], Arc::clone(&self.signer)))
        });
        Arc::clone(made)
    }

    /// A certificate of version 1, which has no extensions (RFC 5280, 4.1).
    fn sign(&self, subject: &Subject) -> Vec<u8> {
        let algorithm = der(SEQUENCE, &ECDSA_WITH_SHA256);
        let issuer = name(&vec![(Attribute::CommonName, AUTHORITY.into())]);
        let validity = [der(UTC_TIME, b"000101000000Z"), der(UTC_TIME, b"491231235959Z")].concat();
        let to_be_signed = der(
            SEQUENCE,
            &[
                der(INTEGER, &[1]),
                algorithm.clone(),
                issuer,
                der(SEQUENCE, &validity),
                name(subject),
                self.key.subject_public_key_info(),
            ]
            .concat(),
        );
        let signature = self.authority.key().sign(&to_be_signed).expect("an authority can sign");
        // A bit string begins with how many bits of its last byte are not used.
        let signature = der(BIT_STRING, &[&[0], &signature[..]].concat());
        der(SEQUENCE, &[to_be_signed, algorithm, signature].concat())
    }
}

/// The subject of someone who is known by a common name alone.
pub fn named(common_name: &[u8]) -> Subject {
    vec![(Attribute::CommonName, common_name.to_vec())]
}

fn name(subject: &Subject) -> Vec<u8> {
    let parts = subject.iter().map(|(attribute, value)| {
        let kind = match attribute {
            Attribute::CommonName => COMMON_NAME,
            Attribute::Organization => ORGANIZATION,
            Attribute::Unit => UNIT,
        };
        let tag = if std::str::from_utf8(value).is_ok() { UTF8_STRING } else { TELETEX_STRING };
        der(SET, &der(SEQUENCE, &[&kind, &der(tag, value)[..]].concat()))
    });
    der(SEQUENCE, &parts.collect::<Vec<_>>().concat())
}

/// A value with its tag and its length in the distinguished encoding (X.690, 8.1.3).
fn der(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len().to_be_bytes();
    let zeros = length.iter().take_while(|byte| **byte == 0).count();
    let mut encoded = vec![tag];
    if value.len() < 0x80 {
        encoded.extend(&length[length.len() - 1..]);
    } else {
        encoded.push(0x80 | u8::try_from(length.len() - zeros).expect("at most 8"));
        encoded.extend(&length[zeros..]);
    }
    encoded.extend(value);
    encoded
}

fn pem_to_der(pem: &str) -> Vec<u8> {
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    data_encoding::BASE64.decode(base64.as_bytes()).expect("base64 between the lines")
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a P-256 key can be made")
}

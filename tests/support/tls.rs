//! A certificate authority for one test process.

use std::sync::OnceLock;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// Signs certificates for the servers of a test. ECDSA: with Ed25519, libpq has no channel binding.
pub struct TestCa(CertifiedIssuer<'static, KeyPair>);

/// A server's certificate and its private key, both PEM.
pub struct ServerCertificate {
    pub certificate: String,
    pub key: String,
}

impl TestCa {
    /// The authority that all servers of this process have their certificate from.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<TestCa> = OnceLock::new();
        SHARED.get_or_init(Self::new)
    }

    /// Another authority, which no server started here has its certificate from.
    pub fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no name is a valid list of names");
        params.distinguished_name.push(DnType::CommonName, "pgbridge test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, new_key());
        Self(issuer.expect("an authority can sign its own certificate"))
    }

    /// The certificate of the authority, as clients want it.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `localhost` and `127.0.0.1`.
    pub fn server_certificate(&self) -> ServerCertificate {
        self.certificate_for(&["localhost", "127.0.0.1"])
    }

    /// A certificate for these host names and addresses.
    pub fn certificate_for(&self, names: &[&str]) -> ServerCertificate {
        let all: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(all).expect("these names are valid");
        params.distinguished_name.push(DnType::CommonName, names[0]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = new_key();
        let signed = params.signed_by(&key, &self.0).expect("the authority can sign");
        ServerCertificate { certificate: signed.pem(), key: key.serialize_pem() }
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a P-256 key can be made")
}

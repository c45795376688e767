//! What protects the way to a server.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Host;

/// How the connection to a server is protected. There is nothing between: what anybody on the way
/// can read or answer is either refused or cannot leave the machine.
#[derive(Clone, Debug)]
pub enum ServerTls {
    /// TLS 1.2 or newer, the certificate checked against the roots, and the host against the
    /// certificate (libpq's `verify-full`). A socket needs no TLS and has none, as with libpq.
    VerifyFull {
        /// Root certificates as PEM, and only these; without them the system's roots.
        roots: Option<String>,
    },
    /// No TLS: accepted only for a host that [`Host::is_local`].
    Disabled,
}

/// The protection that a connection gets.
#[derive(Clone)]
pub(super) enum Tls {
    Off,
    On(MakeRustlsConnect),
}

impl Tls {
    /// What `tls` means on the way to `host`.
    ///
    /// # Errors
    /// When a login would be sent in the clear to another machine, or there is no root certificate
    /// to check the server against; says what to change.
    pub(super) fn to(host: &Host, tls: &ServerTls) -> Result<Self, String> {
        match tls {
            ServerTls::VerifyFull { .. } if matches!(host, Host::Socket(_)) => Ok(Self::Off),
            ServerTls::VerifyFull { roots } => {
                let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
                let config = ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()
                    .map_err(|error| format!("TLS cannot be set up: {error}"))?
                    .with_root_certificates(trusted(roots.as_deref())?)
                    .with_no_client_auth();
                Ok(Self::On(MakeRustlsConnect::new(config)))
            }
            ServerTls::Disabled if host.is_local() => Ok(Self::Off),
            ServerTls::Disabled => Err(format!(
                "sslmode \"disable\" would send the broker's login in the clear to {host}, which is \
                 not loopback: use \"verify-full\""
            )),
        }
    }
}

/// The certificates in `roots`, PEM, or without it those of the system.
///
/// # Errors
/// When one of them cannot be read, or there is none.
pub(crate) fn trusted(roots: Option<&str>) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    match roots {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate =
                    certificate.map_err(|error| format!("the root certificate: {error}"))?;
                let added = store.add(certificate);
                added.map_err(|error| format!("the root certificate: {error}"))?;
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if store.is_empty() {
        return Err("no root certificate to check the server against: name one as ca_file".into());
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::default().self_signed(&key).unwrap().pem()
    }

    fn to(host: &str, tls: &ServerTls) -> Result<&'static str, String> {
        Tls::to(&host.parse().unwrap(), tls).map(|tls| match tls {
            Tls::Off => "off",
            Tls::On(_) => "on",
        })
    }

    #[test]
    fn no_login_leaves_the_machine_without_tls() {
        let full = ServerTls::VerifyFull { roots: Some(root()) };
        for (host, verified, disabled) in [
            ("db.example.test", "on", None),
            ("10.0.0.1", "on", None),
            ("127.0.0.1", "on", Some("off")),
            ("::1", "on", Some("off")),
            ("localhost", "on", Some("off")),
            ("/run/postgresql", "off", Some("off")),
        ] {
            assert_eq!(to(host, &full).as_deref(), Ok(verified), "{host}");
            match (to(host, &ServerTls::Disabled), disabled) {
                (Ok(protection), Some(expected)) => assert_eq!(protection, expected, "{host}"),
                (Err(refusal), None) => {
                    assert!(refusal.contains(&format!("in the clear to {host}")), "{refusal}");
                    assert!(refusal.contains("verify-full"), "{refusal}");
                }
                (other, _) => panic!("{host}: {other:?}"),
            }
        }
    }

    #[test]
    fn roots_that_cannot_be_read_are_refused_and_never_replaced_by_those_of_the_system() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (pem, refusal) in [
            (String::new(), "no root certificate"),
            ("no certificate".to_owned(), "no root certificate"),
            (broken.to_owned(), "the root certificate"),
            (format!("{}{broken}", root()), "the root certificate"),
        ] {
            let refused =
                to("db.example.test", &ServerTls::VerifyFull { roots: Some(pem.clone()) });
            assert!(refused.clone().unwrap_err().contains(refusal), "{pem}: {refused:?}");
        }
        assert_eq!(trusted(Some(&format!("{}{}", root(), root()))).unwrap().len(), 2);
    }
}

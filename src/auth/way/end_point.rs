//! What a token is bound to: a hash of the server's own certificate.

use aws_lc_rs::digest::{Algorithm, SHA224, SHA256, SHA384, SHA512, digest};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::AlgorithmIdentifier;

use super::EndPoint;

impl EndPoint {
    /// The end point of this certificate (RFC 5929 section 4.1): its hash by the function of its
    /// own signature, or by SHA-256 where that is MD5 or SHA-1. Nothing where the signature has no
    /// one hash function, as with Ed25519: for those the RFC defines no binding.
    #[must_use]
    pub fn of_certificate(certificate: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let hash = hash_of(&parsed.signature_algorithm)?;
        Some(Self::of_hash(digest(hash, certificate).as_ref()))
    }
}

/// The hash function of a signature algorithm: RFC 8017 appendix C, RFC 5758 section 3.2.
fn hash_of(algorithm: &AlgorithmIdentifier<'_>) -> Option<&'static Algorithm> {
    match algorithm.algorithm.to_id_string().as_str() {
        // MD5 and SHA-1, with RSA, DSA and ECDSA, and SHA-256 itself.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.10040.4.3"
        | "1.2.840.10045.4.1"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.3.2" => Some(&SHA256),
        "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" => Some(&SHA224),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(&SHA384),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(&SHA512),
        // RSASSA-PSS says in its parameters which; SHA-1 where it says nothing.
        "1.2.840.113549.1.1.10" => {
            let parameters = RsaSsaPssParams::try_from(algorithm.parameters.as_ref()?).ok()?;
            match parameters.hash_algorithm_oid().to_id_string().as_str() {
                "1.3.14.3.2.26" | "2.16.840.1.101.3.4.2.1" => Some(&SHA256),
                "2.16.840.1.101.3.4.2.2" => Some(&SHA384),
                "2.16.840.1.101.3.4.2.3" => Some(&SHA512),
                "2.16.840.1.101.3.4.2.4" => Some(&SHA224),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
        SignatureAlgorithm,
    };

    use super::*;

    fn certificate(algorithm: &'static SignatureAlgorithm) -> Vec<u8> {
        let key = KeyPair::generate_for(algorithm).unwrap();
        CertificateParams::new([]).unwrap().self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_is_hashed_as_it_was_signed() {
        let check = |certificate: &[u8], hash: &'static Algorithm| {
            let expected = EndPoint::of_hash(digest(hash, certificate).as_ref());
            assert_eq!(EndPoint::of_certificate(certificate), Some(expected));
        };
        check(&certificate(&PKCS_ECDSA_P256_SHA256), &SHA256);
        check(&certificate(&PKCS_ECDSA_P384_SHA384), &SHA384);
    }

    #[test]
    fn where_the_signature_has_no_hash_there_is_no_end_point() {
        assert_eq!(EndPoint::of_certificate(&certificate(&PKCS_ED25519)), None);
        assert_eq!(EndPoint::of_certificate(b"no certificate"), None);
    }
}

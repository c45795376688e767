//! Secrets that cannot be printed, cloned or stored by accident.
//!
//! None of these types has `Debug`, `Display`, `Clone` or `Serialize`. Each shows its text by one
//! method named `expose`, so that review can list every place by searching for that word.

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use pbkdf2::pbkdf2_hmac;
use rand::CryptoRng;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::ScramIterations;

/// The password of a lease role: 192 random bits, made here, handed out once, kept nowhere. The
/// cluster gets a [`Verifier`] of it.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Password(String);

impl Password {
    /// A new password: 32 characters of `[A-Za-z0-9_-]`, safe in a URI, a shell and a `pgpass` line.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        Self(random_text::<24>(rng))
    }

    /// What the cluster stores in the password's place: `SCRAM-SHA-256$…` with `iterations`
    /// rounds and a fresh salt (RFC 5802 section 3, RFC 7677; the text form is PostgreSQL's,
    /// manual "`pg_authid`").
    pub fn verifier(&self, iterations: ScramIterations, rng: &mut impl CryptoRng) -> Verifier {
        let mut salt = [0_u8; 16];
        rng.fill_bytes(&mut salt);
        Verifier(scram_verifier(self.0.as_bytes(), &salt, iterations))
    }

    /// The password itself, for the one answer that shows it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// SCRAM verifier of a lease role's password, as PostgreSQL stores it. It cannot be used to log
/// in, but it is kept out of logs and out of the store all the same.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Verifier(String);

impl Verifier {
    /// The text for `PASSWORD '…'`.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

fn scram_verifier(password: &[u8], salt: &[u8; 16], iterations: ScramIterations) -> String {
    let mut salted = [0_u8; 32];
    // Twice as fast as aws-lc-rs here, which counts: it is a fifth of the cost of a lease.
    pbkdf2_hmac::<Sha256>(password, salt, iterations.get(), &mut salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    salted.zeroize();
    let client_key = hmac::sign(&key, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let server_key = hmac::sign(&key, b"Server Key");
    let [salt, stored, server] = [salt.as_slice(), stored_key.as_ref(), server_key.as_ref()]
        .map(|part| STANDARD.encode(part));
    format!("SCRAM-SHA-256${}:{salt}${stored}:{server}", iterations.get())
}

/// What a person typed as password. It goes to the directory byte for byte and nowhere else.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct LoginPassword(String);

impl LoginPassword {
    /// Takes the text as it was typed, untrimmed.
    #[must_use]
    pub fn new(typed: String) -> Self {
        Self(typed)
    }

    /// Whether nothing stands in it that could be a password: empty, only NUL bytes, or only
    /// white space. Such a text is never sent: a directory may answer "success" to a bind
    /// without a password (RFC 4513 section 5.1.2).
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.0.chars().all(|letter| letter == '\0' || letter.is_whitespace())
    }

    /// The password itself, for the bind.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Opaque token of a session: 256 random bits, shown once at login, stored as its hash only.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SessionToken(String);

/// SHA-256 of a session token, lower-case hex. The token has 256 random bits, so a plain hash
/// cannot be reversed by guessing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenHash(String);

impl SessionToken {
    /// A new token, `pgbs_` and 43 characters of `[A-Za-z0-9_-]`. The prefix lets secret scanners
    /// find a leaked one.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        Self(format!("pgbs_{}", random_text::<32>(rng)))
    }

    /// A token as a client sent it. Any text will do: only a hash that the store knows is a session.
    #[must_use]
    pub fn unverified(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// What the store keeps in the token's place.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        let digest = digest::digest(&digest::SHA256, self.0.as_bytes());
        TokenHash(data_encoding::HEXLOWER.encode(digest.as_ref()))
    }

    /// The token itself, for the one answer that shows it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl TokenHash {
    /// The hash as 64 characters of hex.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn random_text<const BYTES: usize>(rng: &mut impl CryptoRng) -> String {
    let mut bytes = [0_u8; BYTES];
    rng.fill_bytes(&mut bytes);
    let text = URL_SAFE_NO_PAD.encode(bytes);
    bytes.zeroize();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifier_is_the_one_an_independent_implementation_computes() {
        let salt = [7_u8; 16];
        // postgres-protocol is fixed at 4096 rounds and picks its own salt, so compare by parts:
        // the same salt and rounds must give the same keys for the published example.
        let ours = scram_verifier(
            b"pencil",
            b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81",
            ScramIterations::DEFAULT,
        );
        // RFC 7677 section 3: user `user`, password `pencil`, salt W22ZaJ0SNY7soEsUEjb6gQ==, i=4096.
        assert!(ours.starts_with("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"), "{ours}");
        assert!(ours.ends_with("$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="), "{ours}");
        assert_ne!(ours, scram_verifier(b"pencil", &salt, ScramIterations::DEFAULT));
    }

    #[test]
    fn passwords_and_tokens_are_long_and_never_repeat() {
        let mut rng = rand::rng();
        let (one, two) = (Password::random(&mut rng), Password::random(&mut rng));
        assert_eq!(one.expose().len(), 32);
        assert_ne!(one.expose(), two.expose());
        let token = SessionToken::random(&mut rng);
        assert_eq!(token.expose().len(), 48);
        assert_eq!(SessionToken::unverified(token.expose()).hash(), token.hash());
        let cut = token.expose().get(..47).unwrap();
        assert_ne!(SessionToken::unverified(cut).hash(), token.hash());
    }

    #[test]
    fn a_blank_password_is_seen_and_one_with_spaces_around_is_not_blank() {
        for blank in ["", " ", "\0\0", " \t\u{a0}\n"] {
            assert!(LoginPassword::new(blank.into()).is_blank(), "{blank:?}");
        }
        assert!(!LoginPassword::new(" x ".into()).is_blank());
    }
}

//! The mark on every lease role, so that nothing else is ever touched.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::{constant_time, digest, hmac};
use rand::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::names::{BrokerId, ClusterName, LeaseId};

/// Key of the marks: 256 random bits, kept in a file of the broker and shared by all brokers of
/// one store.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct MarkerKey([u8; 32]);

/// The file does not hold a marker key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a marker key: 64 characters of hex are needed")]
pub struct MarkerKeyError;

impl MarkerKey {
    /// A new key.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// Reads what [`Self::expose_hex`] wrote; white space at the ends is ignored.
    ///
    /// # Errors
    /// When the text is not 64 characters of hex.
    pub fn from_hex(text: &str) -> Result<Self, MarkerKeyError> {
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes());
        bytes.ok().and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(MarkerKeyError)
    }

    /// The key as text for its file.
    #[must_use]
    pub fn expose_hex(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }

    /// What tells this key from others without giving it away.
    #[must_use]
    pub fn fingerprint(&self) -> KeyFingerprint {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"pgbridge marker key fingerprint v1\n");
        context.update(&self.0);
        KeyFingerprint(data_encoding::HEXLOWER.encode(context.finish().as_ref()))
    }
}

/// SHA-256 over a label and a marker key, as 64 characters of hex. The key has 256 random bits,
/// so it cannot be found from this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFingerprint(String);

/// The text is no fingerprint of a marker key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the fingerprint of a marker key: 64 characters of hex are needed")]
pub struct KeyFingerprintError;

impl KeyFingerprint {
    /// The fingerprint as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyFingerprint {
    type Err = KeyFingerprintError;

    fn from_str(text: &str) -> Result<Self, KeyFingerprintError> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let fits = text.len() == 64 && text.bytes().all(is_hex);
        fits.then(|| Self(text.to_owned())).ok_or(KeyFingerprintError)
    }
}

/// What stands in the comment of a lease role (`COMMENT ON ROLE`):
/// `pgbridge v1 broker=… lease=… mac=…`.
///
/// The MAC (HMAC-SHA-256, 128 bits of it) covers broker, cluster and lease, so that a mark
/// cannot be made or moved to another cluster without the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker(String);

/// What a role's comment says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkerReading {
    /// Our mark, of this lease.
    Ours(LeaseId),
    /// The mark of another broker: its role is left alone.
    Foreign,
    /// No mark, or one whose MAC does not fit: reported and never touched.
    Invalid,
}

impl Marker {
    /// What every mark begins with.
    pub const BEGIN: &str = "pgbridge v1 ";

    /// The mark for the role of `lease` on `cluster`.
    #[must_use]
    pub fn new(key: &MarkerKey, broker: &BrokerId, cluster: &ClusterName, lease: LeaseId) -> Self {
        let mac = mac(key, broker, cluster, lease);
        Self(format!("{}broker={broker} lease={lease} mac={mac}", Self::BEGIN))
    }

    /// The text of the comment.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads the comment of a role found on `cluster`.
    #[must_use]
    pub fn read(
        comment: &str,
        key: &MarkerKey,
        broker: &BrokerId,
        cluster: &ClusterName,
    ) -> MarkerReading {
        let Some((unverified_broker, unverified_lease, unverified_mac)) = parts(comment) else {
            return MarkerReading::Invalid;
        };
        if unverified_broker != broker.as_str() {
            return MarkerReading::Foreign;
        }
        let Ok(unverified_lease) = unverified_lease.parse::<LeaseId>() else {
            return MarkerReading::Invalid;
        };
        let expected = mac(key, broker, cluster, unverified_lease);
        let equal =
            constant_time::verify_slices_are_equal(expected.as_bytes(), unverified_mac.as_bytes());
        if equal.is_ok() { MarkerReading::Ours(unverified_lease) } else { MarkerReading::Invalid }
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn parts(comment: &str) -> Option<(&str, &str, &str)> {
    let rest = comment.strip_prefix(Marker::BEGIN)?.strip_prefix("broker=")?;
    let (broker, rest) = rest.split_once(" lease=")?;
    let (lease, mac) = rest.split_once(" mac=")?;
    Some((broker, lease, mac))
}

fn mac(key: &MarkerKey, broker: &BrokerId, cluster: &ClusterName, lease: LeaseId) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key.0);
    // None of the three parts can hold a newline, so the text reads back in one way only.
    let tag = hmac::sign(&key, format!("pgbridge v1\n{broker}\n{cluster}\n{lease}").as_bytes());
    let half = tag.as_ref().iter().take(16).copied().collect::<Vec<u8>>();
    data_encoding::HEXLOWER.encode(&half)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Mark {
        key: MarkerKey,
        broker: BrokerId,
        cluster: ClusterName,
        lease: LeaseId,
    }

    fn mark() -> Mark {
        let mut rng = rand::rng();
        Mark {
            key: MarkerKey::random(&mut rng),
            broker: "b1".parse().unwrap(),
            cluster: "orders".parse().unwrap(),
            lease: LeaseId::random(&mut rng),
        }
    }

    impl Mark {
        fn text(&self) -> String {
            Marker::new(&self.key, &self.broker, &self.cluster, self.lease).to_string()
        }

        fn read(&self, comment: &str) -> MarkerReading {
            Marker::read(comment, &self.key, &self.broker, &self.cluster)
        }
    }

    #[test]
    fn our_own_mark_is_ours() {
        let mark = mark();
        assert_eq!(mark.read(&mark.text()), MarkerReading::Ours(mark.lease));
    }

    /// `left(…, 300)` in sql/*.sql: no mark is cut, and no comment is read that could be longer.
    #[test]
    fn the_longest_mark_is_shorter_than_what_is_read_of_a_comment() {
        let broker: BrokerId = "b".repeat(63).parse().unwrap();
        let mark = Mark { broker, ..mark() };
        assert!(mark.text().len() < 300);
        let padded = format!("{}{}", mark.text(), "x".repeat(300));
        let cut = padded.get(..300).unwrap();
        assert_eq!(mark.read(cut), MarkerReading::Invalid);
    }

    #[test]
    fn a_changed_mark_is_nobodys() {
        let mark = mark();
        let other = LeaseId::random(&mut rand::rng());
        let moved = mark.text().replace(&mark.lease.to_string(), &other.to_string());
        let cut = mark.text();
        let cut = cut.get(..cut.len() - 1).unwrap();
        for comment in ["", "pgbridge", "made by hand", moved.as_str(), cut] {
            assert_eq!(mark.read(comment), MarkerReading::Invalid, "{comment}");
        }
    }

    #[test]
    fn a_mark_does_not_hold_on_another_cluster_or_with_another_key() {
        let mark = mark();
        let elsewhere: ClusterName = "reports".parse().unwrap();
        let reading = Marker::read(&mark.text(), &mark.key, &mark.broker, &elsewhere);
        assert_eq!(reading, MarkerReading::Invalid);
        let key = MarkerKey::random(&mut rand::rng());
        let reading = Marker::read(&mark.text(), &key, &mark.broker, &mark.cluster);
        assert_eq!(reading, MarkerReading::Invalid);
    }

    #[test]
    fn the_mark_of_another_broker_is_foreign() {
        let mark = mark();
        let other: BrokerId = "b2".parse().unwrap();
        let reading = Marker::read(&mark.text(), &mark.key, &other, &mark.cluster);
        assert_eq!(reading, MarkerReading::Foreign);
    }

    #[test]
    fn a_key_reads_back_from_its_file() {
        let key = MarkerKey::random(&mut rand::rng());
        let text = format!("{}\n", key.expose_hex());
        assert!(MarkerKey::from_hex(&text).is_ok_and(|read| read.0 == key.0));
        assert_eq!(MarkerKey::from_hex("abc").err(), Some(MarkerKeyError));
    }
}

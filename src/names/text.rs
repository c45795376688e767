//! Names that the operator chooses in the configuration, and keys that clients choose.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Bytes a label may have; also fits a file name, a metric label and a URL segment.
const LABEL_BYTES: usize = 63;

/// Why a text is no label.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name: 1 to 63 of a-z, 0-9, `-` and `_`, beginning with a letter or digit")]
pub struct LabelError(String);

fn checked_label(text: &str) -> Result<String, LabelError> {
    let fits = (1..=LABEL_BYTES).contains(&text.len());
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let begins = text.bytes().next().is_some_and(plain);
    let goes_on = text.bytes().all(|byte| plain(byte) || byte == b'-' || byte == b'_');
    if fits && begins && goes_on { Ok(text.to_owned()) } else { Err(LabelError(text.to_owned())) }
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Invariant: 1 to 63 bytes of `[a-z0-9_-]`, beginning with a letter or digit.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = LabelError;

            fn from_str(text: &str) -> Result<Self, LabelError> {
                checked_label(text).map(Self)
            }
        }

        text_conversions!($name);
    };
}

label! {
    /// Name of a cluster: a PostgreSQL server where lease roles live.
    ClusterName
}
label! {
    /// Name of a way in, such as one LDAP directory. It is the issuer of the identities it proves.
    WayName
}
label! {
    /// Name of a broker, or of all brokers that share one store. It stands in the marker on every
    /// lease role, so that brokers leave each other's roles alone.
    BrokerId
}

/// Name of a map, the first field of a `pg_ident.conf` line. Compared exactly.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MapName(String);

/// Why a text is no map name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a map name needs at least one character and cannot hold a NUL byte")]
pub struct MapNameError;

impl MapName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MapName {
    type Err = MapNameError;

    fn from_str(text: &str) -> Result<Self, MapNameError> {
        if text.is_empty() || text.contains('\0') {
            return Err(MapNameError);
        }
        Ok(Self(text.to_owned()))
    }
}

text_conversions!(MapName);

/// A client's own key for one wish, so that a retry is the same wish and not a second one
/// (the `Idempotency-Key` header). Keys of two people never meet.
///
/// Invariant: 1 to 128 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestKey(String);

/// Why a text is no request key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key is 1 to 128 visible ASCII characters")]
pub struct RequestKeyError;

impl RequestKey {
    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RequestKey {
    type Err = RequestKeyError;

    fn from_str(text: &str) -> Result<Self, RequestKeyError> {
        let fits = (1..=128).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(RequestKeyError)
        }
    }
}

impl TryFrom<String> for RequestKey {
    type Error = RequestKeyError;

    fn try_from(text: String) -> Result<Self, RequestKeyError> {
        text.parse()
    }
}

impl From<RequestKey> for String {
    fn from(key: RequestKey) -> Self {
        key.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_short_lower_case_ascii() {
        for good in ["orders", "a", "eu-1_b", "9lives"] {
            assert!(good.parse::<ClusterName>().is_ok(), "{good}");
        }
        for bad in ["", "Orders", "a b", "-a", "_a", "é", "a/b", &"a".repeat(64)] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_request_key_is_visible_ascii_of_bounded_length() {
        assert!("k-1".parse::<RequestKey>().is_ok());
        for bad in ["", "a b", "a\n", "é", &"a".repeat(129)] {
            assert!(bad.parse::<RequestKey>().is_err(), "{bad}");
        }
    }
}

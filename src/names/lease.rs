//! The id of a lease, and the name of its role.

use std::fmt;
use std::str::FromStr;

use data_encoding::{Encoding, Specification};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};

use super::{Principal, RoleName, quoting};

/// Bytes of a lease id: 80 bits, so that ids never meet by chance and cannot be guessed.
const ID_BYTES: usize = 10;

/// RFC 4648 section 6 base32 in lower case, without padding: 16 characters an id.
fn base32() -> Encoding {
    static CODE: std::sync::LazyLock<Option<Encoding>> = std::sync::LazyLock::new(|| {
        let mut specification = Specification::new();
        specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
        specification.encoding().ok()
    });
    CODE.clone().unwrap_or(data_encoding::BASE32_NOPAD)
}

/// The id of a lease: 80 random bits, printed as 16 characters of `[a-z2-7]`. Knowing one gives
/// no right to anything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LeaseId([u8; ID_BYTES]);

/// The text is not 16 characters of `[a-z2-7]`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a lease id is 16 characters of a-z and 2-7")]
pub struct LeaseIdError;

impl LeaseId {
    /// A new id.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; ID_BYTES];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&base32().encode(&self.0))
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "LeaseId({self})")
    }
}

impl FromStr for LeaseId {
    type Err = LeaseIdError;

    fn from_str(text: &str) -> Result<Self, LeaseIdError> {
        let bytes = base32().decode(text.as_bytes()).map_err(|_| LeaseIdError)?;
        bytes.try_into().map(Self).map_err(|_| LeaseIdError)
    }
}

impl TryFrom<String> for LeaseId {
    type Error = LeaseIdError;

    fn try_from(text: String) -> Result<Self, LeaseIdError> {
        text.parse()
    }
}

impl From<LeaseId> for String {
    fn from(id: LeaseId) -> Self {
        id.to_string()
    }
}

/// What the name of every lease role of this broker begins with, `pgb_` unless set.
///
/// Invariant: 1 to 16 bytes of `[a-z0-9_]`, beginning with a letter, ending with `_`, not `pg_…`
/// (which the server keeps for itself).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RolePrefix(String);

/// Why a text is no prefix for lease roles.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a role prefix is 2 to 16 of a-z, 0-9 and `_`, begins with a letter, ends with `_` and is not `pg_…`"
)]
pub struct RolePrefixError;

impl RolePrefix {
    /// The prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for RolePrefix {
    fn default() -> Self {
        Self("pgb_".to_owned())
    }
}

impl FromStr for RolePrefix {
    type Err = RolePrefixError;

    fn from_str(text: &str) -> Result<Self, RolePrefixError> {
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        let plain = text.bytes().all(is_role_byte);
        let fits = (2..=16).contains(&text.len());
        if begins && plain && fits && text.ends_with('_') && !text.starts_with("pg_") {
            Ok(Self(text.to_owned()))
        } else {
            Err(RolePrefixError)
        }
    }
}

impl TryFrom<String> for RolePrefix {
    type Error = RolePrefixError;

    fn try_from(text: String) -> Result<Self, RolePrefixError> {
        text.parse()
    }
}

impl From<RolePrefix> for String {
    fn from(prefix: RolePrefix) -> Self {
        prefix.0
    }
}

fn is_role_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'
}

/// Characters of a person's name that stand in the role's name, for people who read
/// `pg_stat_activity`.
const TAG_BYTES: usize = 24;

/// Name of the role of one lease: prefix, a short tag of the person, `_`, and the lease id.
///
/// Invariant: at most 63 bytes of `[a-z0-9_]`; the last 16 lead back to the lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LeaseRoleName(String);

impl LeaseRoleName {
    /// The name for lease `id` of `principal`. The tag keeps the ASCII letters and digits of the
    /// subject in lower case and is empty when there are none.
    #[must_use]
    pub fn new(prefix: &RolePrefix, principal: &Principal, id: LeaseId) -> Self {
        let letters = principal.subject().chars().filter(char::is_ascii_alphanumeric);
        let tag: String =
            letters.map(|letter| letter.to_ascii_lowercase()).take(TAG_BYTES).collect();
        let tag = if tag.is_empty() { tag } else { tag + "_" };
        Self(format!("{}{tag}{id}", prefix.as_str()))
    }

    /// The name as it stands in the catalogue.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The lease that the name leads back to; nothing when the last 16 characters are no id.
    #[must_use]
    pub fn lease_id(&self) -> Option<LeaseId> {
        let begin = self.0.len().checked_sub(16)?;
        self.0.get(begin..)?.parse().ok()
    }

    /// The name as an identifier in a statement.
    #[must_use]
    pub fn quoted(&self) -> String {
        quoting::identifier(&self.0)
    }

    /// The name as a string constant in a statement.
    #[must_use]
    pub fn literal(&self) -> String {
        quoting::literal(&self.0)
    }
}

impl fmt::Display for LeaseRoleName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for LeaseRoleName {
    type Error = super::RoleNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let name: RoleName = text.parse()?;
        if name.as_str().bytes().all(is_role_byte) {
            Ok(Self(text))
        } else {
            Err(super::RoleNameError::Reserved(text))
        }
    }
}

impl From<LeaseRoleName> for String {
    fn from(name: LeaseRoleName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice(account: &str) -> Principal {
        Principal::Ldap { directory: "corp".parse().unwrap(), account: account.into() }
    }

    #[test]
    fn an_id_is_sixteen_characters_and_reads_back() {
        let id = LeaseId::random(&mut rand::rng());
        assert_eq!(id.to_string().len(), 16);
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "abc", "ABCDEFGHIJKLMNOP", "abcdefghijklmno1", "abcdefghijklmnopq"] {
            assert_eq!(bad.parse::<LeaseId>(), Err(LeaseIdError), "{bad}");
        }
    }

    #[test]
    fn a_role_name_leads_back_to_its_lease_and_fits_the_catalogue() {
        let id = LeaseId::random(&mut rand::rng());
        for account in ["alice", "", "\"; DROP", &"x".repeat(300), "Ünï"] {
            let name = LeaseRoleName::new(&RolePrefix::default(), &alice(account), id);
            assert!(name.as_str().len() <= 63, "{name}");
            assert!(name.as_str().bytes().all(is_role_byte), "{name}");
            assert_eq!(name.lease_id(), Some(id));
        }
        let name = LeaseRoleName::new(&RolePrefix::default(), &alice("Alice.B"), id);
        assert_eq!(name.as_str(), format!("pgb_aliceb_{id}"));
    }

    #[test]
    fn a_prefix_is_plain_and_ends_with_an_underscore() {
        for good in ["pgb_", "t1_", "lease_eu_"] {
            assert!(good.parse::<RolePrefix>().is_ok(), "{good}");
        }
        for bad in ["", "_", "pg_", "pg_x_", "pgb", "PGB_", "1a_", "a-b_", "abcdefghijklmnop_"] {
            assert!(bad.parse::<RolePrefix>().is_err(), "{bad}");
        }
    }
}

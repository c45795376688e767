//! What makes an account the same one, whatever it is called.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The identifier that a directory gives to an entry once, and to no other one ever: `objectGUID` of
/// Active Directory, `entryUUID` of others (RFC 4530). Names are given again: whoever leaves may be
/// followed by somebody of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountId(Uuid);

impl AccountId {
    /// Of the 16 bytes of an `objectGUID`, whose first three fields have their lowest byte first
    /// ([MS-DTYP] 2.3.4.2). Nothing for another number of bytes.
    #[must_use]
    pub fn of_guid(bytes: &[u8]) -> Option<Self> {
        Some(Self(Uuid::from_bytes_le(bytes.try_into().ok()?)))
    }

    /// Whether two accounts of one name can be the same: they are unless both are known and differ.
    #[must_use]
    pub fn may_be_same(one: Option<Self>, other: Option<Self>) -> bool {
        one.zip(other).is_none_or(|(one, other)| one == other)
    }
}

/// Of its text (RFC 4530 section 2.1), which is also how it is printed.
impl FromStr for AccountId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self)
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_read_as_windows_prints_it() {
        let bytes = [
            0x47, 0x37, 0xb2, 0x48, 0xa4, 0x96, 0x5f, 0x4f, 0x8f, 0x6c, 0x40, 0x71, 0x0d, 0x6c,
            0x72, 0x84,
        ];
        let id = AccountId::of_guid(&bytes).unwrap();
        assert_eq!(id.to_string(), "48b23747-96a4-4f5f-8f6c-40710d6c7284");
        assert_eq!("48B23747-96a4-4f5f-8f6c-40710d6c7284".parse(), Ok(id));
        for bad in [&bytes[..15], &[], &[0; 17]] {
            assert_eq!(AccountId::of_guid(bad), None, "{bad:?}");
        }
        for bad in ["", "alice", "48b23747-96a4"] {
            assert!(bad.parse::<AccountId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_two_that_are_known_can_differ() {
        let id = |byte| AccountId::of_guid(&[byte; 16]);
        assert!(AccountId::may_be_same(id(1), id(1)));
        assert!(AccountId::may_be_same(id(1), None));
        assert!(AccountId::may_be_same(None, id(1)));
        assert!(!AccountId::may_be_same(id(1), id(2)));
    }
}

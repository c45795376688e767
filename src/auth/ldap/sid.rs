//! Security identifiers of Windows, which Active Directory writes as bytes ([MS-DTYP] 2.4.2).

use std::fmt::{self, Write as _};

/// A security identifier. Prints as `S-1-5-21-…`, as every tool of Windows does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sid {
    authority: u64,
    parts: Vec<u32>,
}

impl Sid {
    /// Of its bytes; nothing when they are none, or of a revision that is not known.
    pub(super) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        const MOST: u8 = 15;
        let ([revision, count], rest) = bytes.split_first_chunk()?;
        let (authority, parts) = rest.split_first_chunk::<6>()?;
        if *revision != 1 || *count > MOST || parts.len() != usize::from(*count) * 4 {
            return None;
        }
        let authority = authority.iter().fold(0, |sum, &octet| (sum << 8) | u64::from(octet));
        let (parts, _) = parts.as_chunks::<4>();
        let parts = parts.iter().map(|part| u32::from_le_bytes(*part)).collect();
        Some(Self { authority, parts })
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "S-1-{}", self.authority)?;
        self.parts.iter().try_for_each(|part| write!(formatter, "-{part}"))
    }
}

/// Bytes as a value of a filter: each by its number (RFC 4515 section 3).
pub(super) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for byte in bytes {
        // Writing into a text does not fail.
        let _ = write!(text, "\\{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: [u8; 16] = [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x21, 2, 0, 0];

    #[test]
    fn a_sid_prints_as_windows_prints_it() {
        assert_eq!(Sid::of_bytes(&USERS).unwrap().to_string(), "S-1-5-32-545");
        let domain = [
            1, 5, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, 0xfc, 0x54, 0x3f, 0xc6, 0xf7, 0xfb, 0x52, 0xe4,
            0xa5, 0x06, 0x07, 0xa4, 0x01, 0x02, 0, 0,
        ];
        let text = "S-1-5-21-3326039292-3830643703-2751923877-513";
        assert_eq!(Sid::of_bytes(&domain).unwrap().to_string(), text);
        assert_eq!(Sid::of_bytes(&[1, 0, 0, 0, 0, 0, 0, 1]).unwrap().to_string(), "S-1-1");
    }

    #[test]
    fn what_is_not_whole_or_of_another_revision_is_no_sid() {
        for cut in 0..USERS.len() {
            assert_eq!(Sid::of_bytes(&USERS[..cut]), None, "{cut} bytes");
        }
        assert_eq!(Sid::of_bytes(&[&USERS[..], &[0]].concat()), None);
        let mut other = USERS;
        other[0] = 2;
        assert_eq!(Sid::of_bytes(&other), None);
        let mut many = vec![1, 16, 0, 0, 0, 0, 0, 5];
        many.resize(8 + 64, 1);
        assert_eq!(Sid::of_bytes(&many), None);
    }

    #[test]
    fn every_byte_is_a_value_of_a_filter() {
        assert_eq!(escaped(&[0, b'*', b')', 0xff]), r"\00\2a\29\ff");
        let all: Vec<u8> = (0..=255).collect();
        assert!(ldap3::parse_filter(format!("(objectSid={})", escaped(&all))).is_ok());
    }
}

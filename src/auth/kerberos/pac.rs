//! Whose account a ticket of Active Directory is, by what its KDC has sealed into it.
//!
//! The name of such a ticket is what its client asked for. Asked for `dba`, where no such person
//! is, the KDC gives a ticket of that name to the computer `dba$`; and `ALICE` and `alice` are two
//! names of one account. So the name counts only where it is that of the account, byte by byte.
//!
//! What is read is the beginning of `KERB_VALIDATION_INFO` ([MS-PAC] 2.5), in the form of [MS-RPCE]
//! 2.2.6 (type serialization version 1), little-endian: what has a fixed place, and the first text
//! behind it.

/// Bytes before the structure: the two headers ([MS-RPCE] 2.2.6.1, 2.2.6.2), and the reference.
const HEADERS: usize = 20;
/// Bytes of the structure itself.
const STRUCTURE: usize = 216;
/// Where in it stands `EffectiveName`: its length in bytes, what it may have, and a reference.
const EFFECTIVE_NAME: usize = 48;
/// Where in it stands `UserAccountControl`.
const USER_ACCOUNT_CONTROL: usize = 164;

/// Kinds of accounts that are no person's ([MS-SAMR] 2.2.1.12): a trust between domains, a computer,
/// a domain controller.
const MACHINES: u32 = 0x40 | 0x80 | 0x100;

/// The account of a ticket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Logon {
    /// Its `sAMAccountName`.
    pub account: String,
    /// Whether it is a computer's, or a trust's.
    pub is_machine: bool,
}

impl Logon {
    /// Of the bytes of `urn:mspac:logon-info`; nothing where they are not as they should be.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        // Version 1, little-endian, and a header of eight bytes.
        if !bytes.starts_with(&[1, 0x10, 8, 0]) || word(bytes, HEADERS - 4)? == 0 {
            return None;
        }
        let structure = bytes.get(HEADERS..)?.get(..STRUCTURE)?;
        let length = usize::from(u16::from_le_bytes(*part(structure, EFFECTIVE_NAME)?));
        let is_there = word(structure, EFFECTIVE_NAME + 4)? != 0;
        if !is_there || length == 0 || !length.is_multiple_of(2) {
            return None;
        }
        // What references lead to follows in their order; this is the first.
        let text = bytes.get(HEADERS + STRUCTURE..)?;
        let (offset, units) = (word(text, 4)?, usize::try_from(word(text, 8)?).ok()?);
        if offset != 0 || units != length / 2 {
            return None;
        }
        let (units, _) = text.get(12..)?.get(..length)?.as_chunks::<2>();
        let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
        Some(Self {
            account: String::from_utf16(&units).ok()?,
            is_machine: word(structure, USER_ACCOUNT_CONTROL)? & MACHINES != 0,
        })
    }
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    part(bytes, at).map(|word| u32::from_le_bytes(*word))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The beginning of what a domain controller writes for an account.
    pub(in crate::auth::kerberos) fn logon_info(account: &str, control: u32) -> Vec<u8> {
        let units: Vec<u16> = account.encode_utf16().collect();
        let length = u16::try_from(units.len() * 2).unwrap();
        let mut structure = [0_u8; STRUCTURE];
        structure[EFFECTIVE_NAME..][..2].copy_from_slice(&length.to_le_bytes());
        structure[EFFECTIVE_NAME + 2..][..2].copy_from_slice(&length.to_le_bytes());
        structure[EFFECTIVE_NAME + 4..][..4].copy_from_slice(&0x0002_0004_u32.to_le_bytes());
        structure[USER_ACCOUNT_CONTROL..][..4].copy_from_slice(&control.to_le_bytes());
        let mut bytes = vec![1, 0x10, 8, 0, 0xcc, 0xcc, 0xcc, 0xcc, 0, 2, 0, 0, 0, 0, 0, 0];
        bytes.extend(0x0002_0000_u32.to_le_bytes());
        bytes.extend(structure);
        let count = u32::try_from(units.len()).unwrap();
        bytes.extend([count, 0, count].iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        bytes
    }

    #[test]
    fn the_account_of_a_ticket_is_read() {
        let read = |account: &str, control| Logon::read(&logon_info(account, control));
        let logon =
            |account: &str, is_machine| Some(Logon { account: account.to_owned(), is_machine });
        assert_eq!(read("alice", 0x10), logon("alice", false));
        assert_eq!(read("jürgen", 0x210), logon("jürgen", false));
        assert_eq!(read("dba$", 0x80), logon("dba$", true));
        assert_eq!(read("dc1$", 0x100), logon("dc1$", true));
        assert_eq!(read("", 0x10), None);
    }

    /// What Samba 4.17 wrote for a person and for a computer, as far as it is read.
    const OF_ALICE: &str = "01100800cccccccca801000000000000000002000000000000000000ffffffffffffff7fffffffffffffff7f\
         b275e072127add01b275e072127add01b2f53968139bdd010a000a0004000200000000000800020000000000\
         0c000200000000001000020000000000140002000000000018000200000000004e0400000102000002000000\
         1c000200200000000000000000000000000000000000000006000800200002000c000e002400020028000200\
         0000000000000000100000000000000000000000000000000000000000000000000000000000000001000000\
         2c00020000000000000000000000000005000000000000000500000061006c00690063006500000000000000";
    const OF_DBA: &str = "01100800cccccccca001000000000000000002000000000000000000ffffffffffffff7fffffffffffffff7f\
         c847c75e1b7add01c847c75e1b7add01ffffffffffffff7f0800080004000200000000000800020000000000\
         0c00020000000000100002000000000014000200000000001800020000000000550400000302000001000000\
         1c000200200000000000000000000000000000000000000006000800200002000c000e002400020028000200\
         0000000000000000800000000000000000000000000000000000000000000000000000000000000001000000\
         2c00020000000000000000000000000004000000000000000400000064006200610024000000000000000000";

    #[test]
    fn what_a_domain_controller_wrote_is_read() {
        let read = |hex: &str| {
            let bytes: Vec<u8> = (0..hex.len() / 2)
                .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            Logon::read(&bytes)
        };
        let logon =
            |account: &str, is_machine| Some(Logon { account: account.to_owned(), is_machine });
        assert_eq!(read(OF_ALICE), logon("alice", false));
        assert_eq!(read(OF_DBA), logon("dba$", true));
    }

    #[test]
    fn what_is_cut_or_contradicts_itself_is_nobodys() {
        let whole = logon_info("alice", 0x10);
        for length in 0..whole.len() {
            assert_eq!(Logon::read(&whole[..length]), None, "{length} bytes");
        }
        // More behind it is the rest of the structure's texts.
        assert!(Logon::read(&[&whole[..], &[0; 64]].concat()).is_some());
        let text = HEADERS + STRUCTURE;
        for at in [0, 1, 2, HEADERS + EFFECTIVE_NAME, text + 4, text + 8] {
            let mut other = whole.clone();
            other[at] = 7;
            assert_eq!(Logon::read(&other), None, "byte {at}");
        }
        for reference in [HEADERS - 4, HEADERS + EFFECTIVE_NAME + 4] {
            let mut other = whole.clone();
            other[reference..reference + 4].fill(0);
            assert_eq!(Logon::read(&other), None, "reference at {reference}");
        }
        let mut lone = whole.clone();
        lone[text + 12..text + 14].copy_from_slice(&0xd800_u16.to_le_bytes());
        assert_eq!(Logon::read(&lone), None);
    }
}

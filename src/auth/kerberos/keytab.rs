//! Keytabs: the keys of the service, read by ourselves so that only good keys reach the library.
//!
//! Neither `permitted_enctypes` nor `allowable_enctypes` keeps MIT's acceptor from taking a ticket
//! that is encrypted by a weak key of the keytab. So what it is given is a keytab without them, and
//! without the keys of any other service.
//!
//! The format is that of MIT Kerberos' documentation, "The Keytab Binary File Format", version 2.

use zeroize::Zeroizing;

use crate::names::{KerberosPrincipal, printable};

/// First bytes of the file: the format, and its version.
const MAGIC: [u8; 2] = [5, 2];

/// Names of services that one message tells at most.
const TOLD: usize = 5;

/// Kinds of encryption that are good: AES with SHA-1 (RFC 3962) and with SHA-2 (RFC 8009). RC4 and
/// DES are not (RFC 8429, RFC 6649).
const STRONG: [u16; 4] = [17, 18, 19, 20];

/// The good keys of one service.
pub struct Keys {
    keytab: Zeroizing<Vec<u8>>,
    weak: usize,
}

/// Why a file holds no key that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeytabError {
    /// It does not begin as one.
    #[error("is no keytab of version 2, as `ktutil` and `ktpass` write it")]
    NotAKeytab,
    /// It ends in the middle of an entry, or an entry contradicts itself.
    #[error("is a keytab that is damaged")]
    Damaged,
    /// No entry is of the service.
    #[error("holds no key of `service`; {}", told(.found))]
    NotThere {
        /// Whose keys it has instead, some of them.
        found: Vec<String>,
    },
    /// All entries of the service have weak keys.
    #[error("holds only keys of `service` for RC4, DES or others that are not used any more")]
    OnlyWeak,
}

fn told(found: &[String]) -> String {
    if found.is_empty() {
        return "it is empty".to_owned();
    }
    format!("its keys are those of {}", found.join(", "))
}

impl Keys {
    /// The good keys of `service` in the keytab `bytes`.
    ///
    /// # Errors
    /// When it is no keytab, or has none.
    pub fn read(bytes: &[u8], service: &KerberosPrincipal) -> Result<Self, KeytabError> {
        let mut rest = bytes.strip_prefix(&MAGIC).ok_or(KeytabError::NotAKeytab)?;
        let mut keytab = Zeroizing::new(Vec::with_capacity(bytes.len()));
        keytab.extend_from_slice(&MAGIC);
        let (mut good, mut weak, mut found) = (0_usize, 0, Vec::new());
        while let Some(entry) = next(&mut rest)? {
            let Entry { principal, kind } = Entry::read(entry).ok_or(KeytabError::Damaged)?;
            if principal != service.as_str() {
                found.push(format!("`{}`", printable(&principal)));
            } else if STRONG.contains(&kind) {
                let length = u32::try_from(entry.len()).map_err(|_| KeytabError::Damaged)?;
                keytab.extend_from_slice(&length.to_be_bytes());
                keytab.extend_from_slice(entry);
                good += 1;
            } else {
                weak += 1;
            }
        }
        match (good, weak) {
            (0, 0) => {
                found.sort();
                found.dedup();
                found.truncate(TOLD);
                Err(KeytabError::NotThere { found })
            }
            (0, _) => Err(KeytabError::OnlyWeak),
            _ => Ok(Self { keytab, weak }),
        }
    }

    /// A keytab of these keys alone. A secret.
    pub(super) fn expose(&self) -> &[u8] {
        &self.keytab
    }

    /// How many weak keys of the service stand beside them, which are never used.
    #[must_use]
    pub fn weak(&self) -> usize {
        self.weak
    }
}

/// Takes the next entry from `rest`, over holes that were left where others were removed.
fn next<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, KeytabError> {
    loop {
        if rest.is_empty() {
            return Ok(None);
        }
        let length = i32::from_be_bytes(take(rest).ok_or(KeytabError::Damaged)?);
        // Where the file was cut back there are zeros.
        if length == 0 {
            return Ok(None);
        }
        let size = usize::try_from(length.unsigned_abs()).map_err(|_| KeytabError::Damaged)?;
        let (entry, behind) = rest.split_at_checked(size).ok_or(KeytabError::Damaged)?;
        *rest = behind;
        if length > 0 {
            return Ok(Some(entry));
        }
    }
}

/// What of an entry decides whether its key is used.
struct Entry {
    /// The principal as it is written without escapes. One that would need them is not the service,
    /// which is a [`KerberosPrincipal`].
    principal: String,
    /// Kind of encryption (RFC 3961 section 8).
    kind: u16,
}

impl Entry {
    fn read(mut entry: &[u8]) -> Option<Self> {
        let rest = &mut entry;
        let count = u16::from_be_bytes(take(rest)?);
        let realm = counted(rest)?;
        let components: Option<Vec<Vec<u8>>> = (0..count).map(|_| counted(rest)).collect();
        let [_name_type, _written_at]: [[u8; 4]; 2] = [take(rest)?, take(rest)?];
        let [_version] = take(rest)?;
        let kind = u16::from_be_bytes(take(rest)?);
        // The key itself is looked at by nobody here.
        let length = usize::from(u16::from_be_bytes(take(rest)?));
        rest.split_at_checked(length)?;
        let special = |byte: &u8| b"@/\\".contains(byte) || byte.is_ascii_control();
        let components = components?;
        let plain = components.iter().chain([&realm]).all(|part| !part.iter().any(special));
        let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
        let name: Vec<String> = components.iter().map(|part| text(part)).collect();
        let odd = if plain { "" } else { "\\" };
        Some(Self { principal: format!("{odd}{}@{}", name.join("/"), text(&realm)), kind })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*taken)
}

/// Bytes behind their length of two bytes.
fn counted(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes(take(rest)?));
    let (taken, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(taken.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "HTTP/web.corp.test@CORP.TEST";

    /// One entry as it stands in a file, length and all.
    fn entry(principal: &str, kind: u16) -> Vec<u8> {
        let (name, realm) = principal.split_once('@').unwrap();
        let components: Vec<&str> = name.split('/').collect();
        let mut body = u16::try_from(components.len()).unwrap().to_be_bytes().to_vec();
        for part in std::iter::once(realm).chain(components) {
            body.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
            body.extend(part.as_bytes());
        }
        body.extend([0, 0, 0, 1, 0, 0, 0, 0, 3]);
        body.extend(kind.to_be_bytes());
        body.extend([0, 4, 1, 2, 3, 4, 0, 0, 0, 3]);
        [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
    }

    fn file(entries: &[Vec<u8>]) -> Vec<u8> {
        [&MAGIC[..], &entries.concat()].concat()
    }

    fn read(bytes: &[u8]) -> Result<(Vec<u8>, usize), KeytabError> {
        let keys = Keys::read(bytes, &SERVICE.parse().unwrap())?;
        Ok((keys.expose().to_vec(), keys.weak()))
    }

    #[test]
    fn only_good_keys_of_the_service_are_kept() {
        let good: Vec<Vec<u8>> = STRONG.map(|kind| entry(SERVICE, kind)).to_vec();
        assert_eq!(read(&file(&good)), Ok((file(&good), 0)));
        let hole = [&(-8_i32).to_be_bytes()[..], &[0; 8]].concat();
        let all = [
            entry("HTTP/other.corp.test@CORP.TEST", 18),
            entry(SERVICE, 23),
            hole,
            entry(SERVICE, 18),
            entry(SERVICE, 3),
            entry("HTTP/web.corp.test@OTHER.TEST", 18),
        ];
        let padded = [file(&all), vec![0; 16]].concat();
        assert_eq!(read(&padded), Ok((file(&[entry(SERVICE, 18)]), 2)));
    }

    #[test]
    fn what_is_wrong_with_a_keytab_is_told() {
        let other = "HTTP/other.corp.test@CORP.TEST";
        assert_eq!(read(b""), Err(KeytabError::NotAKeytab));
        assert_eq!(read(b"\x05\x01"), Err(KeytabError::NotAKeytab));
        assert_eq!(read(b"-----BEGIN"), Err(KeytabError::NotAKeytab));
        assert_eq!(read(&file(&[])), Err(KeytabError::NotThere { found: Vec::new() }));
        let found = vec![format!("`{other}`")];
        assert_eq!(
            read(&file(&[entry(other, 18), entry(other, 17)])),
            Err(KeytabError::NotThere { found })
        );
        assert_eq!(
            read(&file(&[entry(SERVICE, 23), entry(other, 18)])),
            Err(KeytabError::OnlyWeak)
        );
        let whole = file(&[entry(SERVICE, 18)]);
        assert!(read(&whole).is_ok());
        for length in MAGIC.len() + 1..whole.len() {
            assert_eq!(read(&whole[..length]), Err(KeytabError::Damaged), "{length}");
        }
    }

    #[test]
    fn a_component_with_a_slash_is_not_two() {
        let mut joined = entry("HTTPxweb.corp.test@CORP.TEST", 18);
        let at = joined.iter().position(|byte| *byte == b'x').unwrap();
        joined[at] = b'/';
        assert!(matches!(read(&file(&[joined])), Err(KeytabError::NotThere { .. })));
    }
}

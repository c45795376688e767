//! Names of Kerberos: who a ticket says somebody is.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::principal::ACCOUNT_BYTES;

/// A principal of Kerberos with its realm, `alice@CORP.TEST` or `alice/admin@CORP.TEST`, as the
/// library writes it (RFC 1964 section 2.1.1) and maps read it.
///
/// Invariant: one realm, never missing; one component or more, none of them empty; at most 256
/// bytes of UTF-8 without control characters, and nothing in it that had to be escaped: no name
/// holds an `@`, a `/` or a backslash of its own, so that none reads as another's. Compared byte by
/// byte, the realm too (RFC 4120 section 6.1): `alice@OTHER` is never `alice@CORP`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KerberosPrincipal(String);

/// Why a text is no principal that could be told from every other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KerberosPrincipalError {
    /// It is not UTF-8.
    #[error("the name is not UTF-8")]
    NotUtf8,
    /// It is longer than any that may log in.
    #[error(
        "the name has {bytes} bytes, and nobody can log in by one of more than {ACCOUNT_BYTES}"
    )]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// It holds what reads as something else unless it is escaped, such as `al\@EVIL@CORP.TEST`.
    #[error("the name holds an escaped character")]
    Escaped,
    /// It holds a control character.
    #[error("the name holds a control character")]
    Control,
    /// It has no realm, or more than one.
    #[error("the name has not exactly one realm, as in `alice@CORP.TEST`")]
    Realm,
    /// A component begins or ends with a blank, or has two side by side, as no name does: another name
    /// could read like it.
    #[error("a part of the name has blanks where no name has any")]
    Blanks,
    /// A component of it is empty.
    #[error("a part of the name is empty")]
    Empty,
}

/// What kind of principal it is, by its name alone. People are let in; every other kind only where
/// the configuration names it, and the realm's own never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// One component: `alice`.
    Person,
    /// A person's second name for other work: `alice/admin`, `alice/root`.
    Instance,
    /// A computer of Active Directory, or a managed service account: `web01$`.
    Machine,
    /// The computer itself: `host/web01.corp.test`.
    Host,
    /// Every other name of several components: `HTTP/web01.corp.test`.
    Service,
    /// What the realm itself is made of: `krbtgt/…`, `kadmin/…`, `WELLKNOWN/ANONYMOUS`, `K/M`. Nobody
    /// is one of these.
    Reserved,
}

impl Shape {
    /// The kind's word, as the configuration and the audit have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Instance => "instance",
            Self::Machine => "machine",
            Self::Host => "host",
            Self::Service => "service",
            Self::Reserved => "reserved",
        }
    }
}

impl KerberosPrincipal {
    /// The principal that the library displays as `bytes`.
    ///
    /// # Errors
    /// When it is none that could be told from every other.
    pub fn parse(bytes: &[u8]) -> Result<Self, KerberosPrincipalError> {
        let text = std::str::from_utf8(bytes).map_err(|_| KerberosPrincipalError::NotUtf8)?;
        if text.len() > ACCOUNT_BYTES {
            return Err(KerberosPrincipalError::TooLong { bytes: text.len() });
        }
        // A control character is escaped too where it is displayed: the rarer is told first.
        if text.chars().any(char::is_control) {
            return Err(KerberosPrincipalError::Control);
        }
        if text.contains('\\') {
            return Err(KerberosPrincipalError::Escaped);
        }
        let (name, realm) = text.split_once('@').ok_or(KerberosPrincipalError::Realm)?;
        if realm.is_empty() || realm.contains(['@', '/']) {
            return Err(KerberosPrincipalError::Realm);
        }
        if name.split('/').any(str::is_empty) {
            return Err(KerberosPrincipalError::Empty);
        }
        let has_gap = |part: &str| part.split(char::is_whitespace).any(str::is_empty);
        if name.split('/').any(has_gap) {
            return Err(KerberosPrincipalError::Blanks);
        }
        Ok(Self(text.to_owned()))
    }

    /// The whole name, what the map's SYSTEM-USERNAME is matched against.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The realm.
    #[must_use]
    pub fn realm(&self) -> &str {
        self.split().1
    }

    /// The parts of the name before the realm, one or more.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.split().0.split('/')
    }

    fn split(&self) -> (&str, &str) {
        // There is one, by the invariant.
        self.0.split_once('@').unwrap_or((&self.0, ""))
    }

    /// What kind of principal it is. The realm's own names are known in any case of letters, as
    /// Active Directory has them.
    #[must_use]
    pub fn shape(&self) -> Shape {
        const RESERVED: [&str; 4] = ["krbtgt", "kadmin", "kiprop", "wellknown"];
        let mut components = self.components();
        let (first, second) = (components.next().unwrap_or_default(), components.next());
        let is = |word: &str| first.eq_ignore_ascii_case(word);
        let is_master_key = first == "K" && second == Some("M");
        // RFC 8062 section 4.1: nobody's realm is `WELLKNOWN:ANONYMOUS`.
        let of_nobody = self.realm().to_ascii_uppercase().starts_with("WELLKNOWN:");
        if RESERVED.into_iter().any(is) || is_master_key || of_nobody {
            return Shape::Reserved;
        }
        match (second, components.next()) {
            (None, _) if first.ends_with('$') => Shape::Machine,
            (None, _) => Shape::Person,
            (Some("admin" | "root"), None) if !is("host") => Shape::Instance,
            (Some(_), _) if is("host") => Shape::Host,
            (Some(_), _) => Shape::Service,
        }
    }
}

impl FromStr for KerberosPrincipal {
    type Err = KerberosPrincipalError;

    fn from_str(text: &str) -> Result<Self, KerberosPrincipalError> {
        Self::parse(text.as_bytes())
    }
}

text_conversions!(KerberosPrincipal);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, realm: &str, shape: Shape) {
        let principal: KerberosPrincipal = name.parse().unwrap();
        assert_eq!((principal.realm(), principal.shape()), (realm, shape), "{name}");
        assert_eq!(principal.to_string(), name);
    }

    #[test]
    fn a_principal_has_its_realm_and_a_shape() {
        check("alice@CORP.TEST", "CORP.TEST", Shape::Person);
        check("Alice@corp.test", "corp.test", Shape::Person);
        check("jürgen.o'neil@CORP.TEST", "CORP.TEST", Shape::Person);
        check("al ice@CORP.TEST", "CORP.TEST", Shape::Person);
        check("alice/admin@CORP.TEST", "CORP.TEST", Shape::Instance);
        check("alice/root@CORP.TEST", "CORP.TEST", Shape::Instance);
        check("alice/Admin@CORP.TEST", "CORP.TEST", Shape::Service);
        check("web01$@CORP.TEST", "CORP.TEST", Shape::Machine);
        check("host/web01.corp.test@CORP.TEST", "CORP.TEST", Shape::Host);
        check("HOST/admin@CORP.TEST", "CORP.TEST", Shape::Host);
        check("HTTP/web01.corp.test@CORP.TEST", "CORP.TEST", Shape::Service);
        check("HTTP/web01/corp@CORP.TEST", "CORP.TEST", Shape::Service);
        check("alice/admin/x@CORP.TEST", "CORP.TEST", Shape::Service);
    }

    #[test]
    fn the_realms_own_principals_are_nobody() {
        for name in [
            "krbtgt/CORP.TEST@CORP.TEST",
            "krbtgt@CORP.TEST",
            "KRBTGT@CORP.TEST",
            "kadmin/admin@CORP.TEST",
            "kadmin/changepw@CORP.TEST",
            "kiprop/kdc@CORP.TEST",
            "K/M@CORP.TEST",
            "WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS",
            "WELLKNOWN/ANONYMOUS@CORP.TEST",
            "wellknown/federated@CORP.TEST",
            "alice@WELLKNOWN:ANONYMOUS",
        ] {
            check(name, name.split_once('@').unwrap().1, Shape::Reserved);
        }
    }

    #[test]
    fn a_name_that_could_read_as_anothers_is_none() {
        use KerberosPrincipalError as Error;
        let long = format!("{}@CORP.TEST", "a".repeat(300));
        let cases: [(&[u8], Error); 20] = [
            (br"al\@EVIL@CORP.TEST", Error::Escaped),
            (br"a\/b@CORP.TEST", Error::Escaped),
            (br"a\\b@CORP.TEST", Error::Escaped),
            (br"alice\0@CORP.TEST", Error::Escaped),
            (br"alice@CORP\@EVIL", Error::Escaped),
            (b"alice\0@CORP.TEST", Error::Control),
            (b"ali\nce@CORP.TEST", Error::Control),
            (b"al\xffice@CORP.TEST", Error::NotUtf8),
            (b"alice", Error::Realm),
            (b"alice@", Error::Realm),
            (b"", Error::Realm),
            (b"alice@EVIL@CORP.TEST", Error::Realm),
            (b"alice@CORP/TEST", Error::Realm),
            (b"@CORP.TEST", Error::Empty),
            (b"/admin@CORP.TEST", Error::Empty),
            (b"alice/@CORP.TEST", Error::Empty),
            (b"alice @CORP.TEST", Error::Blanks),
            (b" alice/admin@CORP.TEST", Error::Blanks),
            (b"al  ice@CORP.TEST", Error::Blanks),
            (long.as_bytes(), Error::TooLong { bytes: 310 }),
        ];
        for (bytes, error) in cases {
            assert_eq!(KerberosPrincipal::parse(bytes), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn case_and_realm_count() {
        let of = |name: &str| name.parse::<KerberosPrincipal>().unwrap();
        assert_ne!(of("alice@CORP.TEST"), of("alice@OTHER.TEST"));
        assert_ne!(of("alice@CORP.TEST"), of("alice@corp.test"));
        assert_ne!(of("alice@CORP.TEST"), of("Alice@CORP.TEST"));
    }
}

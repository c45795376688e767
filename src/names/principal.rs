//! Who somebody is, and the groups they are in.

use std::fmt;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use super::WayName;

/// Longest name of an account, in bytes: longer than any, and short enough for every directory.
/// Nobody logs in by a longer one.
pub const ACCOUNT_BYTES: usize = 256;

/// Longest name of a group, in bytes. Directories keep longer ones, and hardly anybody makes any;
/// nobody logs in who is in one, so that what is asked and compared beforehand holds for all.
pub const GROUP_BYTES: usize = 1024;

/// Whether an account can be called so by which somebody logs in: not blank, at most
/// [`ACCOUNT_BYTES`], and without control characters.
#[must_use]
pub fn is_account(name: &str) -> bool {
    let fits = name.len() <= ACCOUNT_BYTES && !name.trim().is_empty();
    fits && !name.chars().any(char::is_control)
}

/// Whether the account is a computer's, as Active Directory calls them: nobody logs in by one.
#[must_use]
pub fn is_machine(account: &str) -> bool {
    account.ends_with('$')
}

/// Most groups of one person. Nobody logs in who is in more.
pub const GROUPS_MAX: usize = 10_000;

/// How a principal was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// A password checked by a bind against an LDAP directory.
    Ldap,
}

impl Method {
    /// Every method there is.
    pub const ALL: [Self; 1] = [Self::Ldap];

    /// The method's word, as it stands before the colon of a principal.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ldap => "ldap",
        }
    }
}

/// A person or program as its organisation knows it.
///
/// Prints as `method:identity`, like PostgreSQL's `system_user`. Equal only if method and issuer
/// are equal too: the same name from two directories is two people.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "lowercase")]
pub enum Principal {
    /// An account of an LDAP directory.
    Ldap {
        /// The way in that proved it.
        directory: WayName,
        /// The account as the directory itself writes it, not as it was typed.
        account: String,
    },
}

impl Principal {
    /// How it was proven.
    #[must_use]
    pub fn method(&self) -> Method {
        match self {
            Self::Ldap { .. } => Method::Ldap,
        }
    }

    /// The way in that vouches for it.
    #[must_use]
    pub fn issuer(&self) -> &WayName {
        match self {
            Self::Ldap { directory, .. } => directory,
        }
    }

    /// The identity without its method: what the map's SYSTEM-USERNAME is matched against.
    #[must_use]
    pub fn subject(&self) -> &str {
        match self {
            Self::Ldap { account, .. } => account,
        }
    }

    /// One text that is equal exactly when the principal is: `method:issuer:subject`. Method and
    /// issuer never hold a colon.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}:{}:{}", self.method().as_str(), self.issuer(), self.subject())
    }

    /// The principal of a [`Self::key`]; nothing when it is none.
    #[must_use]
    pub fn of_key(key: &str) -> Option<Self> {
        let mut parts = key.splitn(3, ':');
        let (method, issuer, subject) = (parts.next()?, parts.next()?, parts.next()?);
        let method = Method::ALL.into_iter().find(|known| known.as_str() == method)?;
        match method {
            Method::Ldap => {
                Some(Self::Ldap { directory: issuer.parse().ok()?, account: subject.to_owned() })
            }
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.method().as_str(), self.subject())
    }
}

/// A group as its directory names it in full: a DN, a SID or a claim value, never a bare CN.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Group(pub String);

impl Group {
    /// The full name, what a group map's SYSTEM-USERNAME is matched against.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An account name in the one form under which failures are counted, so that `bob`, `BOB`,
/// ` bob` and full-width letters share one counter.
///
/// Invariant: compatibility-normalised (NFKC), lower case, without white space at the ends and
/// with single spaces inside. It is for counting only: the directory is asked for the name as it
/// was typed, and the principal is what the directory answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountKey(String);

impl AccountKey {
    /// The counting form of `typed` for the directory `way`.
    #[must_use]
    pub fn new(way: &WayName, typed: &str) -> Self {
        let folded = typed.nfkc().collect::<String>().to_lowercase().nfkc().collect::<String>();
        // A directory takes `İ` for `i`; Unicode's own folding leaves its dot behind.
        let folded = folded.replace("i\u{307}", "i");
        let words: Vec<&str> = folded.split_whitespace().collect();
        Self(format!("{way}:{}", words.join(" ")))
    }

    /// The form as text, beginning with the way in.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_account_shares_one_counter() {
        let way: WayName = "corp".parse().unwrap();
        let bob = AccountKey::new(&way, "bob");
        for typed in ["BOB", " bob", "bob ", "bob\u{a0}", "\u{ff42}\u{ff4f}\u{ff42}", "\tBob\n"] {
            assert_eq!(AccountKey::new(&way, typed), bob, "{typed:?}");
        }
        assert_ne!(AccountKey::new(&way, "bobby"), bob);
        let alice = AccountKey::new(&way, "alice");
        for typed in ["al\u{130}ce", "ALI\u{307}CE", "al\u{ff29}ce"] {
            assert_eq!(AccountKey::new(&way, typed), alice, "{typed:?}");
        }
        assert_ne!(AccountKey::new(&"other".parse().unwrap(), "bob"), bob);
    }

    #[test]
    fn the_same_name_from_two_directories_is_two_people() {
        let of =
            |way: &str| Principal::Ldap { directory: way.parse().unwrap(), account: "bob".into() };
        assert_ne!(of("corp"), of("partner"));
        assert_ne!(of("corp").key(), of("partner").key());
        assert_eq!(of("corp").to_string(), of("partner").to_string());
    }

    #[test]
    fn a_key_leads_back_to_its_principal_and_nothing_else_does() {
        for account in ["alice", "a:b:c", "", "jürgen (x)*\\"] {
            let directory = "corp".parse().unwrap();
            let principal = Principal::Ldap { directory, account: account.to_owned() };
            assert_eq!(Principal::of_key(&principal.key()), Some(principal));
        }
        for bad in ["", "ldap", "ldap:corp", "ldap:Corp:alice", "saml:corp:alice"] {
            assert_eq!(Principal::of_key(bad), None, "{bad}");
        }
    }
}

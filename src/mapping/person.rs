//! Somebody as a person describes them who asks about them. Nobody has proven who they are.

use crate::names::{ACCOUNT_BYTES, GROUP_BYTES, GROUPS_MAX, WayName};

/// The names that maps are asked about: somebody's own, and those of their groups.
///
/// Invariant: the groups are in order, each once, as a login has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedNames {
    system_user: String,
    groups: Vec<String>,
}

/// Why nobody can be asked about by such names: nobody logs in by them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NamesError {
    /// The name is longer than any that may log in.
    #[error(
        "the name has {bytes} bytes, and nobody can log in by one of more than {ACCOUNT_BYTES}"
    )]
    User {
        /// How long it is.
        bytes: usize,
    },
    /// A group's name is longer than that of any in which somebody is who may log in.
    #[error(
        "a group has {bytes} bytes, and nobody can log in who is in one of more than {GROUP_BYTES}"
    )]
    Group {
        /// How long it is.
        bytes: usize,
    },
    /// There are more groups than a login takes.
    #[error("{count} groups are named, and nobody who is in more than {GROUPS_MAX} can log in")]
    Groups {
        /// How many there are.
        count: usize,
    },
}

impl UnverifiedNames {
    /// The names that somebody typed who asks.
    ///
    /// # Errors
    /// When they are longer or more than those of anybody who may log in.
    pub fn typed(system_user: String, groups: Vec<String>) -> Result<Self, NamesError> {
        if system_user.len() > ACCOUNT_BYTES {
            return Err(NamesError::User { bytes: system_user.len() });
        }
        if groups.len() > GROUPS_MAX {
            return Err(NamesError::Groups { count: groups.len() });
        }
        match groups.iter().map(String::len).find(|bytes| *bytes > GROUP_BYTES) {
            Some(bytes) => Err(NamesError::Group { bytes }),
            None => Ok(Self::told(system_user, groups)),
        }
    }

    /// The names that a directory told.
    #[must_use]
    pub fn told(system_user: String, mut groups: Vec<String>) -> Self {
        groups.sort();
        groups.dedup();
        Self { system_user, groups }
    }

    /// What the map is asked about.
    #[must_use]
    pub fn system_user(&self) -> &str {
        &self.system_user
    }

    /// Their groups, in order, each once.
    #[must_use]
    pub fn groups(&self) -> &[String] {
        &self.groups
    }
}

/// Somebody who would come by one way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedPerson {
    way: WayName,
    names: UnverifiedNames,
}

impl UnverifiedPerson {
    /// Somebody who would come by `way` as `system_user` and be in `groups`, as a directory told it.
    #[must_use]
    pub fn new(way: WayName, system_user: String, groups: Vec<String>) -> Self {
        Self::by(way, UnverifiedNames::told(system_user, groups))
    }

    /// Somebody of these names who would come by `way`.
    #[must_use]
    pub fn by(way: WayName, names: UnverifiedNames) -> Self {
        Self { way, names }
    }

    /// The way in.
    #[must_use]
    pub fn way(&self) -> &WayName {
        &self.way
    }

    /// Their names.
    #[must_use]
    pub fn names(&self) -> &UnverifiedNames {
        &self.names
    }

    /// What the map is asked about.
    #[must_use]
    pub fn system_user(&self) -> &str {
        self.names.system_user()
    }

    /// Their groups, in order, each once.
    #[must_use]
    pub fn groups(&self) -> &[String] {
        self.names.groups()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_about_by_names_that_nobody_can_log_in_by() {
        let typed = |user: usize, group: usize, count: usize| {
            UnverifiedNames::typed("a".repeat(user), vec!["g".repeat(group); count]).map(|_| ())
        };
        assert_eq!(typed(ACCOUNT_BYTES, GROUP_BYTES, 1), Ok(()));
        assert_eq!(typed(1, 1, GROUPS_MAX), Ok(()));
        assert_eq!(typed(ACCOUNT_BYTES + 1, 1, 1), Err(NamesError::User { bytes: 257 }));
        assert_eq!(typed(1, GROUP_BYTES + 1, 1), Err(NamesError::Group { bytes: 1025 }));
        assert_eq!(typed(1, 1, GROUPS_MAX + 1), Err(NamesError::Groups { count: 10_001 }));
    }

    #[test]
    fn groups_are_those_of_a_login_in_order_and_each_once() {
        let groups = ["b", "a", "b"].map(str::to_owned).to_vec();
        let names = UnverifiedNames::typed("alice".to_owned(), groups).unwrap();
        assert_eq!(names.groups(), ["a", "b"]);
    }
}

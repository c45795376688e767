//! Who is a member of whom on a cluster, for `+role` lines.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Who is a member of which group role on one cluster, directly and by way of other groups,
/// whatever `INHERIT` and `SET` say (`is_member_of_role_nosuper` in `acl.c`): a superuser is a
/// member of nothing that does not say so, and each role is a member of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memberships {
    /// Every role that is known, with the groups that it is a direct member of.
    groups: BTreeMap<String, BTreeSet<String>>,
}

impl Memberships {
    /// Nobody is known, so nobody is a member of anything.
    #[must_use]
    pub const fn none() -> Self {
        Self { groups: BTreeMap::new() }
    }

    /// Memberships from the roles that exist and from direct memberships, each of a member in a
    /// group. Whoever is named by a membership exists too.
    pub fn of_edges<R, M, G>(
        roles: impl IntoIterator<Item = R>,
        edges: impl IntoIterator<Item = (M, G)>,
    ) -> Self
    where
        R: Into<String>,
        M: Into<String>,
        G: Into<String>,
    {
        let mut groups: BTreeMap<String, BTreeSet<String>> =
            roles.into_iter().map(|role| (role.into(), BTreeSet::new())).collect();
        for (member, group) in edges {
            let group = group.into();
            groups.entry(group.clone()).or_default();
            groups.entry(member.into()).or_default().insert(group);
        }
        Self { groups }
    }

    /// Whether `role` is `group` or a member of it. Neither is, when it does not exist.
    #[must_use]
    pub fn is_member(&self, role: &[u8], group: &[u8]) -> bool {
        let (Ok(role), Ok(group)) = (std::str::from_utf8(role), std::str::from_utf8(group)) else {
            return false;
        };
        let mut seen = BTreeSet::new();
        let mut next = vec![role];
        while let Some(role) = next.pop() {
            let Some((role, groups)) = self.groups.get_key_value(role) else { continue };
            if role == group {
                return true;
            }
            if seen.insert(role.as_str()) {
                next.extend(groups.iter().map(String::as_str));
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memberships() -> Memberships {
        let edges = [("alice", "readers"), ("readers", "staff"), ("staff", "people"), ("x", "y")];
        Memberships::of_edges(
            ["alice", "bob", "people"],
            [edges.as_slice(), &[("y", "x")]].concat(),
        )
    }

    #[test]
    fn membership_is_direct_or_by_way_of_other_groups() {
        let is_member =
            |role: &str, group: &str| memberships().is_member(role.as_bytes(), group.as_bytes());
        assert!(is_member("alice", "readers"));
        assert!(is_member("alice", "people"));
        assert!(!is_member("readers", "alice"));
        assert!(!is_member("bob", "people"));
        assert!(!is_member("alice", "Readers"));
        assert!(!is_member("alice", "x"));
        assert!(is_member("x", "y") && is_member("y", "x"));
    }

    #[test]
    fn a_role_is_a_member_of_itself_when_it_exists() {
        let memberships = memberships();
        assert!(memberships.is_member(b"bob", b"bob"));
        assert!(memberships.is_member(b"staff", b"staff"));
        assert!(!memberships.is_member(b"carol", b"carol"));
        assert!(!memberships.is_member(b"", b""));
        assert!(!memberships.is_member(b"\xFF", b"\xFF"));
        assert!(!Memberships::none().is_member(b"bob", b"bob"));
    }

    #[test]
    fn memberships_are_stored_and_read_back() {
        let json = serde_json::to_string(&memberships()).unwrap();
        assert_eq!(serde_json::from_str::<Memberships>(&json).unwrap(), memberships());
    }
}

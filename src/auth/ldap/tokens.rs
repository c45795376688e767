//! The groups of an account of Active Directory, as the directory itself counts them: nested ones,
//! however deep and in whatever circles, and the primary group, which `memberOf` has not.
//!
//! `tokenGroups` ([MS-ADA3] 2.321) has the SID of every security group. Each is a group by its SID,
//! which no other group ever gets, and by its DN too when it stands in this domain.

use ldap3::{Scope, SearchEntry};

use crate::names::GROUPS_MAX;

use super::entry::{NO_ATTRIBUTES, Reader, failed};
use super::link::{Found, Link, Query, Want};
use super::refusal::{Ended, LdapRefusal};
use super::sid::{Sid, escaped};

const TOKEN_GROUPS: &str = "tokenGroups";

const TOO_MANY: &str = "more than 10,000 names of groups";

/// SIDs that are looked up by one search.
const AT_ONCE: usize = 200;

impl Reader<'_> {
    /// The groups of `entry` by SID and by DN; the DNs stand below `names_below`.
    pub(super) async fn token_groups(
        &self,
        link: &mut Link,
        entry: &SearchEntry,
        names_below: &str,
    ) -> Result<Vec<String>, Ended> {
        // It is there only for a search of the entry itself.
        let shown = self.read_entry(link, &entry.dn, vec![TOKEN_GROUPS]).await?;
        let sids = self.values_of(link, &shown, TOKEN_GROUPS).await?;
        // Everybody has a primary group.
        if sids.is_empty() {
            let why = "`tokenGroups` shows none, not even the primary one; may it be read?";
            return Err(self.unreadable_groups(0, why));
        }
        let named = sids.iter().map(|sid| Sid::of_bytes(sid).map(|sid| sid.to_string()));
        let named: Option<Vec<String>> = named.collect();
        let mut groups = named.ok_or_else(|| self.unreadable_groups(0, "a SID of no shape"))?;
        if sids.len() > GROUPS_MAX {
            return Err(self.unreadable_groups(0, TOO_MANY));
        }
        for some in sids.chunks(AT_ONCE) {
            groups.extend(self.names_of(link, names_below, some).await?);
        }
        if groups.len() > GROUPS_MAX {
            return Err(self.unreadable_groups(0, TOO_MANY));
        }
        Ok(groups)
    }

    /// The DNs of those of the groups that stand below `base`.
    async fn names_of(
        &self,
        link: &mut Link,
        base: &str,
        sids: &[Vec<u8>],
    ) -> Result<Vec<String>, Ended> {
        let each = sids.iter().map(|sid| format!("(objectSid={})", escaped(sid)));
        let filter = format!("(|{})", each.collect::<String>());
        let attributes = vec![NO_ATTRIBUTES];
        let want = Want::UpTo(sids.len());
        let query = Query { base, scope: Scope::Subtree, filter: &filter, attributes, want };
        let Found { entries, result, is_cut } = link.search(query).await?;
        if is_cut {
            return Err(self.unreadable_groups(0, "more groups than were asked for"));
        }
        if result.rc != 0 {
            let server = self.server.label();
            return Err(failed(&result, |answer| LdapRefusal::UnreadableGroups { server, answer }));
        }
        Ok(entries.into_iter().map(|entry| entry.dn).collect())
    }
}

//! Reading entries: whose one is, whether it may be used, and in which groups it is.

use jiff::Timestamp;
use ldap3::{LdapResult, Scope, SearchEntry};

use crate::names::{GROUP_BYTES, GROUPS_MAX, Group, is_machine};

use super::checked::{Checked, Server};
use super::link::{Found, Link, Query, Want, values};
use super::names::TypedName;
use super::refusal::{DirectoryAnswer, Ended, LdapRefusal, OutageReason};
use super::state;

/// Asks for no attribute at all (RFC 4511 section 4.5.1.8).
pub(super) const NO_ATTRIBUTES: &str = "1.1";
/// Every entry.
pub(super) const ANYTHING: &str = "(objectClass=*)";

/// Whom the directory vouches for.
pub(super) struct Person {
    pub account: String,
    pub groups: Vec<Group>,
}

/// Reads the entries of one server, at one time.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub way: &'a Checked,
    pub server: &'a Server,
    pub now: Timestamp,
}

impl Reader<'_> {
    /// The one entry below `base` that `filter` finds.
    pub(super) async fn find(
        &self,
        link: &mut Link,
        base: &str,
        filter: &str,
    ) -> Result<SearchEntry, Ended> {
        let attributes = self.attributes();
        let query = Query { base, scope: Scope::Subtree, filter, attributes, want: Want::One };
        self.the_one(link.search(query).await?)
    }

    /// The entry of whoever has just bound as `dn` on `own`.
    pub(super) async fn read_own(&self, own: &mut Link, dn: &str) -> Result<SearchEntry, Ended> {
        let query = Query {
            base: dn,
            scope: Scope::Base,
            filter: ANYTHING,
            attributes: self.attributes(),
            want: Want::One,
        };
        self.the_one(own.search(query).await?).map_err(|ended| match ended {
            // The bind has just shown that the entry is there: it may not be read.
            Ended::Refused(LdapRefusal::UnknownAccount) => self.unreadable_account(0).into(),
            other => other,
        })
    }

    pub(super) fn attributes(&self) -> Vec<&str> {
        let account = std::iter::once(self.way.account_attribute.as_str());
        account.chain(self.way.member_of.as_deref()).chain(state::ATTRIBUTES).collect()
    }

    /// The one entry that was found. Nobody logs in by the first of several.
    fn the_one(&self, found: Found) -> Result<SearchEntry, Ended> {
        const SIZE_LIMIT_EXCEEDED: u32 = 4;
        const REFERRAL: u32 = 10;
        let Found { mut entries, result, is_cut } = found;
        let server = self.server.label();
        if is_cut || entries.len() > 1 || result.rc == SIZE_LIMIT_EXCEEDED {
            return Err(LdapRefusal::SeveralEntries.into());
        }
        match (result.rc, entries.pop()) {
            (0, Some(entry)) => Ok(entry),
            (0, None) if result.refs.is_empty() => Err(LdapRefusal::UnknownAccount.into()),
            (0 | REFERRAL, _) => Err(LdapRefusal::Referral { server }.into()),
            _ => Err(failed(&result, |answer| LdapRefusal::Search { server, answer })),
        }
    }

    /// Who the proven entry is, if it may be used. `link` may read it and the groups.
    pub(super) async fn person(
        &self,
        link: &mut Link,
        entry: &SearchEntry,
    ) -> Result<Person, Ended> {
        let account = self.account(entry)?;
        state::judge(entry, self.now)?;
        let mut groups = self.groups_of_entry(link, entry).await?;
        if let Some((base, filter)) = &self.way.group_search {
            let filter = filter.fill(&account, &entry.dn);
            groups.extend(self.groups_by_search(link, base, &filter).await?);
        }
        if let Some(bytes) = groups.iter().map(String::len).find(|bytes| *bytes > GROUP_BYTES) {
            return Err(LdapRefusal::GroupTooLong { bytes }.into());
        }
        Ok(Person { account, groups: groups.into_iter().map(Group).collect() })
    }

    /// The account as the directory writes it, whatever was typed.
    pub(super) fn account(&self, entry: &SearchEntry) -> Result<String, LdapRefusal> {
        match values(entry, &self.way.account_attribute) {
            [account] if TypedName::new(account).is_err() => Err(self.unreadable_account(0)),
            [account] if is_machine(account) => {
                Err(LdapRefusal::MachineAccount { account: account.clone() })
            }
            [account] => Ok(account.clone()),
            several => Err(self.unreadable_account(several.len())),
        }
    }

    fn unreadable_account(&self, values: usize) -> LdapRefusal {
        LdapRefusal::UnreadableAccount { attribute: self.way.account_attribute.clone(), values }
    }

    fn unreadable_groups(&self, code: u32, text: &str) -> Ended {
        let server = self.server.label();
        LdapRefusal::UnreadableGroups { server, answer: DirectoryAnswer::new(code, text) }.into()
    }

    /// The values of `member_of`. Active Directory gives 1,500 at a time, under names such as
    /// `memberOf;range=0-1499` ([MS-ADTS] 3.1.1.3.1.3.3): then the rest is asked for.
    async fn groups_of_entry(
        &self,
        link: &mut Link,
        entry: &SearchEntry,
    ) -> Result<Vec<String>, Ended> {
        let Some(member_of) = &self.way.member_of else { return Ok(Vec::new()) };
        let is_binary = entry.bin_attrs.keys().any(|name| name.eq_ignore_ascii_case(member_of));
        if is_binary {
            return Err(self.unreadable_groups(0, "a group's DN is not UTF-8"));
        }
        let mut groups = values(entry, member_of).to_vec();
        let mut part = first_part(entry, member_of);
        while let Some(Part { values, next }) = part.take() {
            groups.extend(values);
            if groups.len() > GROUPS_MAX {
                return Err(self.unreadable_groups(0, "more than 10,000 groups"));
            }
            let Some(next) = next else { break };
            let attribute = format!("{member_of};range={next}-*");
            let query = Query {
                base: &entry.dn,
                scope: Scope::Base,
                filter: ANYTHING,
                attributes: vec![&attribute],
                want: Want::One,
            };
            let more = self.the_one(link.search(query).await?)?;
            part = first_part(&more, member_of);
            if part.as_ref().is_none_or(|part| part.values.is_empty()) {
                return Err(self.unreadable_groups(0, "the list of groups broke off"));
            }
        }
        Ok(groups)
    }

    async fn groups_by_search(
        &self,
        link: &mut Link,
        base: &str,
        filter: &str,
    ) -> Result<Vec<String>, Ended> {
        let attributes = vec![NO_ATTRIBUTES];
        let want = Want::UpTo(GROUPS_MAX);
        let query = Query { base, scope: Scope::Subtree, filter, attributes, want };
        let Found { entries, result, is_cut } = link.search(query).await?;
        if is_cut {
            return Err(self.unreadable_groups(0, "more than 10,000 groups"));
        }
        if result.rc != 0 {
            let server = self.server.label();
            return Err(failed(&result, |answer| LdapRefusal::UnreadableGroups { server, answer }));
        }
        Ok(entries.into_iter().map(|entry| entry.dn).collect())
    }
}

/// A result that is no success: another server may help only if this one is busy or out of time.
pub(super) fn failed(
    result: &LdapResult,
    refusal: impl FnOnce(DirectoryAnswer) -> LdapRefusal,
) -> Ended {
    let answer = DirectoryAnswer::new(result.rc, &result.text);
    match result.rc {
        3 | 51 | 52 => OutageReason::Busy(answer).into(),
        _ => refusal(answer).into(),
    }
}

/// A part of an attribute's values, and where the next part begins.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    values: Vec<String>,
    next: Option<usize>,
}

fn first_part(entry: &SearchEntry, attribute: &str) -> Option<Part> {
    entry.attrs.iter().find_map(|(name, values)| {
        let (base, range) = name.split_once(";range=")?;
        let (_, last) = range.split_once('-')?;
        let next = if last == "*" { None } else { Some(last.parse::<usize>().ok()? + 1) };
        let is_ours = base.eq_ignore_ascii_case(attribute);
        is_ours.then(|| Part { values: values.clone(), next })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str) -> Option<Part> {
        let attrs = [(name.to_owned(), vec!["cn=a".to_owned()])].into();
        let entry = SearchEntry { dn: "cn=x".into(), attrs, bin_attrs: [].into() };
        first_part(&entry, "memberOf")
    }

    #[test]
    fn a_part_of_the_groups_says_where_the_next_begins() {
        let next = |name| part(name).map(|part| part.next);
        assert_eq!(next("memberOf;range=0-1499"), Some(Some(1500)));
        assert_eq!(next("memberof;range=1500-*"), Some(None));
        assert_eq!(next("memberOf"), None);
        assert_eq!(next("member;range=0-1499"), None);
        assert_eq!(next("memberOf;range=0-x"), None);
    }
}

//! Reading entries: whose one is, whether it may be used, and in which groups it is.

use jiff::Timestamp;
use ldap3::{LdapResult, Scope, SearchEntry};

use crate::names::{AccountId, GROUP_BYTES, GROUPS_MAX, Group, is_machine};

use super::checked::{Checked, Server};
use super::link::{Found, Link, Query, Want, octets, values};
use super::names::TypedName;
use super::refusal::{DirectoryAnswer, Ended, LdapRefusal, OutageReason};
use super::settings::{DirectoryType, TokenGroups};
use super::state;

/// Asks for no attribute at all (RFC 4511 section 4.5.1.8).
pub(super) const NO_ATTRIBUTES: &str = "1.1";
/// Every entry.
pub(super) const ANYTHING: &str = "(objectClass=*)";

/// The identifier of an entry in Active Directory ([MS-ADA3] 2.44), and elsewhere (RFC 4530).
const OBJECT_GUID: &str = "objectGUID";
const ENTRY_UUID: &str = "entryUUID";

/// Whom the directory vouches for.
pub(super) struct Person {
    pub account: String,
    /// Which account of that name it is, if the directory shows that.
    pub id: Option<AccountId>,
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
        let entry = self.read_entry(own, dn, self.attributes()).await;
        entry.map_err(|ended| match ended {
            // The bind has just shown that the entry is there: it may not be read.
            Ended::Refused(LdapRefusal::UnknownAccount) => self.unreadable_account(0).into(),
            other => other,
        })
    }

    /// These attributes of the entry `dn`.
    pub(super) async fn read_entry(
        &self,
        link: &mut Link,
        dn: &str,
        attributes: Vec<&str>,
    ) -> Result<SearchEntry, Ended> {
        let (base, scope, filter, want) = (dn, Scope::Base, ANYTHING, Want::One);
        self.the_one(link.search(Query { base, scope, filter, attributes, want }).await?)
    }

    pub(super) fn attributes(&self) -> Vec<&str> {
        let way = self.way;
        let own = [way.account_attribute.as_str(), id_attribute(way.directory_type)].into_iter();
        let all = own.chain(way.name_attributes()).chain(way.member_of.as_deref());
        let mut attributes: Vec<&str> = Vec::new();
        for attribute in all.chain(state::ATTRIBUTES) {
            if !attributes.iter().any(|known| known.eq_ignore_ascii_case(attribute)) {
                attributes.push(attribute);
            }
        }
        attributes
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
            (0, None) if result.refs.is_empty() || self.is_active_directory() => {
                Err(LdapRefusal::UnknownAccount.into())
            }
            (0 | REFERRAL, _) => Err(LdapRefusal::Referral { server }.into()),
            _ => Err(failed(&result, |answer| LdapRefusal::Search { server, answer })),
        }
    }

    /// Whether it is Active Directory, which names other places with every answer, so that it says
    /// nothing, and where every account has its bits.
    fn is_active_directory(&self) -> bool {
        self.way.directory_type == DirectoryType::ActiveDirectory
    }

    /// Who the proven entry is, if it may be used. `link` may read it and the groups.
    pub(super) async fn person(
        &self,
        link: &mut Link,
        entry: &SearchEntry,
    ) -> Result<Person, Ended> {
        let account = self.account(entry)?;
        let id = account_id(self.way.directory_type, entry)?;
        if self.is_active_directory() {
            state::must_be_shown(entry)?;
        }
        state::judge(entry, self.now)?;
        let mut groups = self.groups_of_entry(link, entry).await?;
        if let Some(TokenGroups { names_below }) = &self.way.token_groups {
            groups.extend(self.token_groups(link, entry, names_below).await?);
        }
        if let Some((base, filter)) = &self.way.group_search {
            let filter = filter.fill(&account, &entry.dn);
            groups.extend(self.groups_by_search(link, base, &filter).await?);
        }
        if let Some(bytes) = groups.iter().map(String::len).find(|bytes| *bytes > GROUP_BYTES) {
            return Err(LdapRefusal::GroupTooLong { bytes }.into());
        }
        Ok(Person { account, id, groups: groups.into_iter().map(Group).collect() })
    }

    /// The account as the directory writes it, whatever was typed.
    pub(super) fn account(&self, entry: &SearchEntry) -> Result<String, LdapRefusal> {
        match values(entry, &self.way.account_attribute) {
            [account] if TypedName::new(account).is_err() => Err(self.unreadable_account(0)),
            [account] if is_machine(account) || state::is_machine(entry)? => {
                Err(LdapRefusal::MachineAccount { account: account.clone() })
            }
            [account] => Ok(account.clone()),
            several => Err(self.unreadable_account(several.len())),
        }
    }

    fn unreadable_account(&self, values: usize) -> LdapRefusal {
        LdapRefusal::UnreadableAccount { attribute: self.way.account_attribute.clone(), values }
    }

    pub(super) fn unreadable_groups(&self, code: u32, text: &str) -> Ended {
        let server = self.server.label();
        LdapRefusal::UnreadableGroups { server, answer: DirectoryAnswer::new(code, text) }.into()
    }

    /// The values of `member_of`.
    async fn groups_of_entry(
        &self,
        link: &mut Link,
        entry: &SearchEntry,
    ) -> Result<Vec<String>, Ended> {
        let Some(member_of) = &self.way.member_of else { return Ok(Vec::new()) };
        let groups = self.values_of(link, entry, member_of).await?.into_iter();
        let groups: Result<Vec<_>, _> = groups.map(String::from_utf8).collect();
        groups.map_err(|_| self.unreadable_groups(0, "a group's DN is not UTF-8"))
    }

    /// All values of an attribute of `entry` that names groups. Active Directory gives 1,500 at a
    /// time, under names such as `memberOf;range=0-1499` ([MS-ADTS] 3.1.1.3.1.3.3): then the rest
    /// is asked for.
    pub(super) async fn values_of(
        &self,
        link: &mut Link,
        entry: &SearchEntry,
        attribute: &str,
    ) -> Result<Vec<Vec<u8>>, Ended> {
        let mut all = octets(entry, attribute);
        let mut part = first_part(entry, attribute);
        while let Some(Part { values, next }) = part.take() {
            all.extend(values);
            if all.len() > GROUPS_MAX {
                return Err(self.unreadable_groups(0, "more than 10,000 groups"));
            }
            let Some(next) = next else { break };
            let rest = format!("{attribute};range={next}-*");
            let more = self.read_entry(link, &entry.dn, vec![&rest]).await?;
            part = first_part(&more, attribute);
            if part.as_ref().is_none_or(|part| part.values.is_empty()) {
                return Err(self.unreadable_groups(0, "the list of groups broke off"));
            }
        }
        Ok(all)
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

/// The attribute that tells accounts of one name apart. Of the other kind's a directory keeps what
/// people write there.
fn id_attribute(kind: DirectoryType) -> &'static str {
    match kind {
        DirectoryType::ActiveDirectory => OBJECT_GUID,
        DirectoryType::Ldap => ENTRY_UUID,
    }
}

/// Which account of its name the entry is. One that is shown and cannot be read is not taken
/// for none.
fn account_id(kind: DirectoryType, entry: &SearchEntry) -> Result<Option<AccountId>, LdapRefusal> {
    let attribute = id_attribute(kind);
    let id = match (kind, &octets(entry, attribute)[..]) {
        (_, []) => return Ok(None),
        (DirectoryType::ActiveDirectory, [guid]) => AccountId::of_guid(guid),
        (DirectoryType::Ldap, [text]) => {
            str::from_utf8(text).ok().and_then(|text| text.parse().ok())
        }
        _ => None,
    };
    id.ok_or(LdapRefusal::UnreadableState { attribute }).map(Some)
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
    values: Vec<Vec<u8>>,
    next: Option<usize>,
}

fn first_part(entry: &SearchEntry, attribute: &str) -> Option<Part> {
    entry.attrs.keys().chain(entry.bin_attrs.keys()).find_map(|name| {
        let (base, range) = name.split_once(";range=")?;
        let (_, last) = range.split_once('-')?;
        let next =
            if last == "*" { None } else { Some(last.parse::<usize>().ok()?.checked_add(1)?) };
        let is_ours = base.eq_ignore_ascii_case(attribute);
        is_ours.then(|| Part { values: octets(entry, name), next })
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
    fn an_identifier_is_read_whole_or_nobody_is_taken_for_another() {
        use DirectoryType::{ActiveDirectory, Ldap};

        let with = |kind, attribute: &str, values: &[&[u8]]| {
            let values = values.iter().map(|value| value.to_vec()).collect();
            let bin_attrs = [(attribute.to_owned(), values)].into();
            account_id(kind, &SearchEntry { dn: "cn=x".into(), attrs: [].into(), bin_attrs })
        };
        let uuid = b"48b23747-96a4-4f5f-8f6c-40710d6c7284";
        let guid = with(ActiveDirectory, "objectguid", &[&[7; 16]]).unwrap();
        assert_eq!(guid, AccountId::of_guid(&[7; 16]));
        assert!(guid.is_some());
        assert!(with(Ldap, "entryUUID", &[uuid]).unwrap().is_some());
        for (kind, attribute, values) in [
            (Ldap, "cn", &b"x"[..]),
            // Whoever may write such an attribute would say who they are.
            (Ldap, "objectGUID", &[7; 16]),
            (ActiveDirectory, "entryUUID", uuid),
        ] {
            assert_eq!(with(kind, attribute, &[values]).unwrap(), None, "{attribute}");
        }
        let bad: [(DirectoryType, &str, &[&[u8]]); 5] = [
            (ActiveDirectory, "objectGUID", &[&[7; 15]]),
            (ActiveDirectory, "objectGUID", &[&[7; 16], &[8; 16]]),
            (Ldap, "entryUUID", &[b"alice"]),
            (Ldap, "entryUUID", &[&[0xff; 36]]),
            (Ldap, "entryUUID", &[uuid, uuid]),
        ];
        for (kind, attribute, values) in bad {
            assert_eq!(with(kind, attribute, values).unwrap_err().kind(), "unreadable_state");
        }
    }

    #[test]
    fn a_part_of_the_groups_says_where_the_next_begins() {
        let next = |name: &str| part(name).map(|part| part.next);
        assert_eq!(next("memberOf;range=0-1499"), Some(Some(1500)));
        assert_eq!(next("memberof;range=1500-*"), Some(None));
        assert_eq!(next("memberOf"), None);
        assert_eq!(next("member;range=0-1499"), None);
        assert_eq!(next("memberOf;range=0-x"), None);
        assert_eq!(next(&format!("memberOf;range=0-{}", usize::MAX)), None);
    }
}

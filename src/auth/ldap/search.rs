//! Everybody whom a directory shows, for who asks whom the map lets in.
//!
//! All or nothing: an answer that misses somebody who could log in is an error, never a shorter
//! list.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures::future::FutureExt;
use jiff::Timestamp;
use ldap3::adapters::{Adapter, EntriesOnly, PagedResults};
use ldap3::{LdapResult, Scope, SearchEntry};
use tokio::time::timeout;

use super::LdapWay;
use super::checked::{Bind, Checked, Server};
use super::entry::{Person, Reader, failed};
use super::link::{Link, PAGE};
use super::login::bind_service;
use super::look::Search;
use super::refusal::{Ended, LdapRefusal, OutageReason};
use crate::names::{AccountKey, Group};

/// Everybody who could log in, as far as their entries say.
#[derive(Debug, Default)]
pub struct Everybody {
    /// Their accounts, as the directory writes them, with their groups.
    pub people: Vec<(String, Vec<Group>)>,
    /// How many entries are of nobody who could log in, by why.
    pub left_out: BTreeMap<&'static str, usize>,
}

/// How much is asked for.
#[derive(Clone, Copy, Debug)]
pub struct SearchBounds {
    /// Most entries.
    pub people: usize,
    /// Longest time for all of it.
    pub time: Duration,
}

/// Why nobody can say who everybody is.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// Such a directory shows nobody without their password.
    #[error(
        "the directory only binds (`ldapprefix`, `ldapsuffix`): it shows nobody without their \
         password; see `ldapbasedn` and `ldapsearchattribute`"
    )]
    OnlyBinds,
    /// There are more people than are asked for.
    #[error("the directory has more than {0} people, so the answer would miss some")]
    TooMany(usize),
    /// The directory shows the service account only some of them.
    #[error(
        "`{server}` shows no more people than its size limit allows; raise that for the service \
         account (slapd.conf: `limits`, Active Directory: `MaxPageSize`)"
    )]
    Limited {
        /// Which server.
        server: String,
    },
    /// The directory could not be asked, or broke off.
    #[error("the directory did not show everybody: {0}")]
    Directory(#[from] LdapRefusal),
}

impl LdapWay {
    /// Everybody who could log in at `now`, as far as their entries say: whom the service account
    /// finds by the search of a login, whose entry may be used, and who is the only one of their
    /// name, however it is written.
    ///
    /// # Errors
    /// When the directory only binds, has more people than `bounds` allow, or did not answer to the
    /// end in time.
    pub async fn everybody(
        &self,
        now: Timestamp,
        bounds: SearchBounds,
    ) -> Result<Everybody, SearchError> {
        let way = &*self.checked;
        let Bind::Search { base_dn, service, again, .. } = &way.bind else {
            return Err(SearchError::OnlyBinds);
        };
        let ask = |server| {
            let search = Search { base_dn, service: service.as_ref(), filter: again };
            all_at(Reader { way, server, now }, search, bounds).boxed()
        };
        match self.first_to_judge_within(bounds.time, ask).await? {
            Shown::All(everybody) => Ok(everybody),
            Shown::TooMany => Err(SearchError::TooMany(bounds.people)),
            Shown::Some { server } => Err(SearchError::Limited { server }),
        }
    }
}

/// What one server shows.
enum Shown {
    All(Everybody),
    TooMany,
    /// Some, for it has a size limit.
    Some {
        server: String,
    },
}

async fn all_at(at: Reader<'_>, search: Search<'_>, bounds: SearchBounds) -> Result<Shown, Ended> {
    const SIZE_LIMIT_EXCEEDED: u32 = 4;
    let mut link = open(at.way, at.server, bounds).await?;
    bind_service(&mut link, at.server, search.service).await?;
    let filter = search.filter.anybody();
    let all = All { base: search.base_dn, filter: &filter, attributes: at.attributes() };
    let (entries, result) = link.every_entry(all, bounds.people).await?;
    if entries.len() > bounds.people {
        return Ok(Shown::TooMany);
    }
    if result.rc == SIZE_LIMIT_EXCEEDED {
        return Ok(Shown::Some { server: at.server.label() });
    }
    if result.rc != 0 {
        let server = at.server.label();
        return Err(failed(&result, |answer| LdapRefusal::Search { server, answer }));
    }
    let mut everybody = Everybody::default();
    for entry in &entries {
        match at.person(&mut link, entry).await {
            Ok(Person { account, groups, .. }) => everybody.people.push((account, groups)),
            Err(Ended::Refused(refusal)) if is_of_one(&refusal) => {
                *everybody.left_out.entry(refusal.kind()).or_default() += 1;
            }
            Err(ended) => return Err(ended),
        }
    }
    everybody.leave_out_namesakes(at.way);
    Ok(Shown::All(everybody))
}

/// A connection that may be used for as long as the whole search may take.
async fn open(way: &Checked, server: &Server, bounds: SearchBounds) -> Result<Link, OutageReason> {
    let life = bounds.time.saturating_add(Duration::from_secs(1));
    Link::open(server, &way.security, way.timeout, life).await
}

/// Whether a refusal is about the one whose entry it is, and nothing that would pass.
fn is_of_one(refusal: &LdapRefusal) -> bool {
    use LdapRefusal::{GroupTooLong, UnreadableState};

    !refusal.is_outage() || matches!(refusal, UnreadableState { .. } | GroupTooLong { .. })
}

impl Everybody {
    /// Nobody logs in by a name that several entries have, and directories do not tell `Alice` from
    /// `alice`.
    fn leave_out_namesakes(&mut self, way: &Checked) {
        let key = |account: &str| AccountKey::new(&way.name, account);
        let mut named: HashMap<AccountKey, usize> = HashMap::new();
        for (account, _) in &self.people {
            *named.entry(key(account)).or_default() += 1;
        }
        let before = self.people.len();
        self.people.retain(|(account, _)| named.get(&key(account)) == Some(&1));
        let namesakes = before - self.people.len();
        if namesakes > 0 {
            *self.left_out.entry(LdapRefusal::SeveralEntries.kind()).or_default() += namesakes;
        }
    }
}

/// A search for every entry below a place.
struct All<'a> {
    base: &'a str,
    filter: &'a str,
    attributes: Vec<&'a str>,
}

impl Link {
    /// All entries that are found, page by page, or one more than `most`. The time is for each
    /// page.
    async fn every_entry(
        &mut self,
        all: All<'_>,
        most: usize,
    ) -> Result<(Vec<SearchEntry>, LdapResult), OutageReason> {
        let adapters: Vec<Box<dyn Adapter<'_, _, _>>> =
            vec![Box::new(EntriesOnly::new()), Box::new(PagedResults::new(PAGE))];
        let All { base, filter, attributes } = all;
        let begun =
            self.ldap.streaming_search_with(adapters, base, Scope::Subtree, filter, attributes);
        let begun = timeout(self.patience, begun).await;
        let mut stream = self.settle(begun)?;
        let mut entries = Vec::new();
        while entries.len() <= most {
            let next = timeout(self.patience, stream.next()).await;
            let Some(entry) = self.settle(next)? else { break };
            entries.push(SearchEntry::construct(entry));
        }
        Ok((entries, stream.finish().await))
    }
}

//! One connection to one server, through `ldap3`: every operation bounded in time and answer.

use std::time::Duration;

use ldap3::adapters::{Adapter, EntriesOnly, PagedResults};
use ldap3::{
    Ldap, LdapConnAsync, LdapConnSettings, LdapResult, Scope, SearchEntry, SearchOptions, StdStream,
};
use tokio::time::timeout;

use crate::names::LoginPassword;

use super::answer::policy_request;
use super::checked::{Security, Server};
use super::refusal::{LdapRefusal, OutageReason};
use super::wire::{Fault, Wire};

/// Entries a page when all are wanted; Active Directory gives at most 1,000.
pub(super) const PAGE: i32 = 500;

/// A DN and a password that a bind with is a proof.
///
/// Invariant: neither is blank, for a bind without a name or a password succeeds as nobody
/// (RFC 4513 sections 5.1.1 and 5.1.2).
pub(super) struct Credentials<'a> {
    bind_name: &'a str,
    password: &'a LoginPassword,
}

impl<'a> Credentials<'a> {
    pub(super) fn new(
        bind_name: &'a str,
        password: &'a LoginPassword,
    ) -> Result<Self, LdapRefusal> {
        if password.is_blank() {
            Err(LdapRefusal::BlankPassword)
        } else if bind_name.trim().is_empty() {
            Err(LdapRefusal::ImpossibleName)
        } else {
            Ok(Self { bind_name, password })
        }
    }
}

/// A search.
pub(super) struct Query<'a> {
    pub base: &'a str,
    pub scope: Scope,
    pub filter: &'a str,
    pub attributes: Vec<&'a str>,
    pub want: Want,
}

/// How many entries are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// One; two are asked for, to see whether there is a second.
    One,
    /// All, up to this many.
    UpTo(usize),
}

/// What a search found.
pub(super) struct Found {
    pub entries: Vec<SearchEntry>,
    /// Result code, text, and the references to other servers that stood between the entries.
    pub result: LdapResult,
    /// Whether there were more entries than wanted, so that the rest was not read.
    pub is_cut: bool,
}

/// One connection. Dropping it closes it.
pub(super) struct Link {
    pub(super) ldap: Ldap,
    fault: Fault,
    pub(super) patience: Duration,
}

impl Link {
    /// A fresh connection, not bound as anybody. It lives for at most `life`; connecting, and each
    /// operation on it, takes at most `patience`.
    pub(super) async fn open(
        server: &Server,
        security: &Security,
        patience: Duration,
        life: Duration,
    ) -> Result<Self, OutageReason> {
        let wire = timeout(patience, Wire::open(server, security)).await;
        let wire = wire.map_err(|_| OutageReason::Timeout)??;
        let (stream, fault) = wire.checked(life).map_err(OutageReason::Unreachable)?;
        let settings = LdapConnSettings::new().set_std_stream(StdStream::Unix(stream));
        // `ldapi` only says that the stream is a Unix socket: it is our own end of a pair.
        let opened = LdapConnAsync::with_settings(settings, "ldapi:///").await;
        let (driver, ldap) = opened.map_err(|_| OutageReason::Closed)?;
        tokio::spawn(driver.drive());
        Ok(Self { ldap, fault, patience })
    }

    /// Binds, and asks for the reason of a refusal.
    pub(super) async fn bind(
        &mut self,
        credentials: &Credentials<'_>,
    ) -> Result<LdapResult, OutageReason> {
        let Credentials { bind_name, password } = credentials;
        self.ldap.with_controls(policy_request());
        let bind = self.ldap.simple_bind(bind_name, password.expose());
        let answer = timeout(self.patience, bind).await;
        self.settle(answer)
    }

    /// Searches. References to other servers are not followed. The time is for the whole search.
    pub(super) async fn search(&mut self, query: Query<'_>) -> Result<Found, OutageReason> {
        let answer = timeout(self.patience, search(&mut self.ldap, query)).await;
        self.settle(answer)
    }

    /// The library's error can hold the request, and so the password: nothing of it is kept.
    pub(super) fn settle<T>(
        &self,
        answer: Result<ldap3::result::Result<T>, tokio::time::error::Elapsed>,
    ) -> Result<T, OutageReason> {
        match answer {
            Err(_) => Err(OutageReason::Timeout),
            Ok(Err(_)) => Err(self.fault.reason()),
            Ok(Ok(value)) => Ok(value),
        }
    }
}

async fn search(ldap: &mut Ldap, query: Query<'_>) -> ldap3::result::Result<Found> {
    let mut adapters: Vec<Box<dyn Adapter<'_, _, _>>> = vec![Box::new(EntriesOnly::new())];
    let most = match query.want {
        Want::One => {
            ldap.with_search_options(SearchOptions::new().sizelimit(2));
            2
        }
        Want::UpTo(most) => {
            adapters.push(Box::new(PagedResults::new(PAGE)));
            most
        }
    };
    let Query { base, scope, filter, attributes, .. } = query;
    let mut stream = ldap.streaming_search_with(adapters, base, scope, filter, attributes).await?;
    let mut entries = Vec::new();
    let mut is_cut = false;
    while let Some(entry) = stream.next().await? {
        if entries.len() == most {
            is_cut = true;
            break;
        }
        entries.push(SearchEntry::construct(entry));
    }
    Ok(Found { entries, result: stream.finish().await, is_cut })
}

/// The values of an attribute, whose name directories write in any case.
pub(super) fn values<'a>(entry: &'a SearchEntry, attribute: &str) -> &'a [String] {
    let mut named = entry.attrs.iter().filter(|(name, _)| name.eq_ignore_ascii_case(attribute));
    named.next().map_or(&[], |(_, values)| values)
}

/// The values of an attribute as bytes. The library gives those as text that happen to be text.
pub(super) fn octets(entry: &SearchEntry, attribute: &str) -> Vec<Vec<u8>> {
    let is_ours = |name: &str| name.eq_ignore_ascii_case(attribute);
    let texts = entry.attrs.iter().filter(|(name, _)| is_ours(name));
    let texts = texts.flat_map(|(_, values)| values.iter().map(|text| text.clone().into_bytes()));
    let rest = entry.bin_attrs.iter().filter(|(name, _)| is_ours(name));
    texts.chain(rest.flat_map(|(_, values)| values.iter().cloned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_found_in_whatever_case_the_directory_writes_it() {
        let attrs = [("memberof".to_owned(), vec!["cn=a".to_owned()])].into();
        let entry = SearchEntry { dn: "cn=x".into(), attrs, bin_attrs: [].into() };
        assert_eq!(values(&entry, "memberOf"), ["cn=a"]);
        assert_eq!(values(&entry, "member"), [""; 0]);
    }

    #[test]
    fn a_bind_without_a_name_or_a_password_cannot_be_asked_for() {
        let password = |typed: &str| LoginPassword::new(typed.into());
        assert!(Credentials::new("uid=alice", &password("x")).is_ok());
        assert!(Credentials::new("uid=alice", &password(" ")).is_err());
        assert!(Credentials::new(" ", &password("x")).is_err());
    }
}

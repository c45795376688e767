//! LDAP directories: a name and a password, proven by a bind.
//!
//! Two modes, as PostgreSQL's `ldap` method has them: *simple bind* (`ldapprefix` + name +
//! `ldapsuffix`), and *search+bind* (find the one entry of the name, then bind as it).
//!
//! What holds in both:
//! - No password goes out on a connection that others can read: LDAPS or StartTLS, or this machine.
//! - No bind without a name or a password, and a proof is only a bind on a connection of its own.
//! - The account is what the entry says, not what was typed; one entry, one value, or no login.
//! - Which account of its name it is, is told by what the directory never gives again, if it shows
//!   that ([`AccountId`](crate::names::AccountId)).
//! - Several servers are asked in order, but only when one cannot judge. A refusal is final.
//! - References to other servers are neither followed nor given a password, and no group comes
//!   from them.
//! - Every operation, and the login as a whole, is bounded in time; answers are bounded in length.
//! - A password policy's reason (locked, expired, must change) is for the audit alone.
//! - Everybody who could log in is listed whole or not at all, for who asks whom the map lets in.
//! - Whoever is looked up again without a password is found by their account, never by what was
//!   typed, and is judged by the same entry, filter and groups as at a login.
//!
//! Active Directory differs in how people are called (`logon`), in how their groups are counted
//! (`tokens`), in that it names its other partitions with every answer, and in that it takes many
//! spellings for one name (`spelling`).
//!
//! Not bounded by us: `ldap3` copies a request, and so the password, into buffers that it frees
//! without clearing.

mod answer;
mod ber;
mod checked;
mod entry;
mod link;
mod login;
mod logon;
mod look;
mod names;
mod refusal;
mod search;
mod settings;
mod sid;
mod spelling;
mod state;
mod tokens;
mod wire;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{BoxFuture, FutureExt};
use jiff::Timestamp;
use tokio::time::timeout;

use crate::auth::identity::Identity;
use crate::auth::way::{Reason, Standing, Unproven, Way};
use crate::names::{LoginPassword, Principal, WayName};

pub use checked::LdapSettingsError;
pub use logon::domain_part;
pub use names::FilterProblem;
pub use refusal::{DirectoryAnswer, LdapRefusal, Outage, OutageReason, Outages};
pub use search::{Everybody, SearchBounds, SearchError};
pub use settings::{
    BindMode, DirectoryType, Find, GroupLookup, GroupSearch, LdapSettings, Scheme, ServiceAccount,
    StartTls, TokenGroups,
};

use checked::{Bind, Checked, Finder, Server};
use entry::{Person, Reader};
use login::Attempt;
use look::Search;
use names::TypedName;
use refusal::Ended;

/// A directory in which people prove who they are. Clones are the same directory.
#[derive(Clone)]
pub struct LdapWay {
    checked: Arc<Checked>,
}

impl LdapWay {
    /// A directory with these settings. Nothing is sent yet.
    ///
    /// # Errors
    /// When the settings contradict each other, would send a password in clear, or would let a
    /// bind prove nothing; when the certificates cannot be used.
    pub fn new(settings: LdapSettings) -> Result<Self, LdapSettingsError> {
        Ok(Self { checked: Arc::new(settings.check()?) })
    }

    /// The way in, as maps and the audit call it.
    #[must_use]
    pub fn name(&self) -> &WayName {
        &self.checked.name
    }

    /// Proves `username` by `password`, at `now`.
    ///
    /// # Errors
    /// When it is not proven. The reason is for the audit: to the client all are one.
    pub async fn login(
        &self,
        username: &str,
        password: &LoginPassword,
        now: Timestamp,
    ) -> Result<Identity, LdapRefusal> {
        let name = TypedName::new(username)?;
        if password.is_blank() {
            return Err(LdapRefusal::BlankPassword);
        }
        let way = &*self.checked;
        let attempt = |server| {
            let attempt = Attempt { at: Reader { way, server, now }, name, password };
            async move { attempt.run().await }.boxed()
        };
        let Person { account, id, groups } = self.first_to_judge(attempt).await?;
        let principal = Principal::Ldap { directory: way.name.clone(), account };
        Ok(Identity::proven(principal, groups, now, way.lifetime).with_account_id(id))
    }

    /// Looks `principal` up without a password: whether a login would still let them in at `now`,
    /// as far as that shows in the entry, and in which groups they are. Only a directory that is
    /// searched can be asked that; one that only binds never shows anybody without their password.
    pub async fn look_again(&self, principal: &Principal, now: Timestamp) -> Standing {
        let way = &*self.checked;
        let Bind::Search { base_dn, service, again, .. } = &way.bind else {
            return Standing::OnlyAtLogin;
        };
        let Principal::Ldap { account, .. } = principal else {
            // Another way in of this name, of another kind, has proven them before.
            return Standing::Gone(Reason {
                word: "way_removed",
                detail: "their way in is of another kind now".to_owned(),
            });
        };
        let look = |server| {
            let search = Search { base_dn, service: service.as_ref(), filter: again };
            look::look(Reader { way, server, now }, search, account).boxed()
        };
        match self.first_to_judge(look).await {
            Ok(Person { id, groups, .. }) => {
                let seen = Identity::proven(principal.clone(), groups, now, way.lifetime);
                Standing::Good(seen.with_account_id(id))
            }
            Err(refusal) => refusal.into(),
        }
    }

    /// The account that `typed` means, as far as it says that by itself: so that failures at all
    /// names of one account share a counter.
    #[must_use]
    pub fn counted_as<'a>(&self, typed: &'a str) -> &'a str {
        match &self.checked.bind {
            Bind::Search { find: Finder::Logon(names), .. } => names.account(typed),
            _ => typed,
        }
    }

    /// Whether a login could be judged now: a server answers, over TLS if so configured, and lets
    /// the service account in if there is one.
    ///
    /// # Errors
    /// When it could not, as a login would be refused.
    pub async fn probe(&self) -> Result<(), LdapRefusal> {
        let way = &*self.checked;
        self.first_to_judge(|server| login::probe(way, server).boxed()).await
    }

    /// What the settings say and probably do not mean, as the directory shows it: nobody is in a
    /// group by the attribute they name. Nothing when there is no such attribute, or the directory
    /// cannot be asked.
    pub async fn oddity(&self) -> Option<String> {
        let way = &*self.checked;
        let attribute = way.member_of.as_deref()?;
        let Bind::Search { base_dn, service, .. } = &way.bind else { return None };
        let ask = |server| {
            let service = service.as_ref();
            async move {
                let mut link = login::open(way, server).await?;
                login::bind_service(&mut link, server, service).await?;
                login::anybody_has(server, &mut link, base_dn, attribute).await
            }
            .boxed()
        };
        // Whoever probes the directory says why it cannot be asked.
        let is_there = self.first_to_judge(ask).await.unwrap_or(true);
        (!is_there).then(|| {
            format!(
                "directory `{}`: no entry below `ldapbasedn` is found to have a `{attribute}`, so \
                 nobody is in a group by it; see `member_of_attribute`, whether the directory keeps \
                 it, and what the service account may read",
                way.name
            )
        })
    }

    /// Asks the servers in order until one has spoken, for at most the deadline.
    async fn first_to_judge<'a, T>(
        &'a self,
        ask: impl Fn(&'a Server) -> BoxFuture<'a, Result<T, Ended>>,
    ) -> Result<T, LdapRefusal> {
        self.first_to_judge_within(self.checked.deadline, ask).await
    }

    /// The same, for at most `deadline`.
    async fn first_to_judge_within<'a, T>(
        &'a self,
        deadline: Duration,
        ask: impl Fn(&'a Server) -> BoxFuture<'a, Result<T, Ended>>,
    ) -> Result<T, LdapRefusal> {
        let mut outages = Vec::new();
        let mut asked = None;
        let all = async {
            for server in &self.checked.servers {
                asked = Some(server);
                match survive(ask(server)).await {
                    Err(Ended::TryNext(reason)) => {
                        outages.push(Outage { server: server.label(), reason });
                    }
                    Err(Ended::Refused(refusal)) => return Some(Err(refusal)),
                    Ok(answer) => return Some(Ok(answer)),
                }
            }
            None
        };
        match timeout(deadline, all).await {
            Ok(Some(answer)) => return answer,
            Ok(None) => {}
            Err(_) => {
                let server = asked.map(Server::label).unwrap_or_default();
                outages.push(Outage { server, reason: OutageReason::Deadline });
            }
        }
        Err(LdapRefusal::Unavailable(Outages(outages)))
    }
}

#[async_trait]
impl Way for LdapWay {
    fn name(&self) -> &WayName {
        self.name()
    }

    async fn login(
        &self,
        username: &str,
        password: &LoginPassword,
        now: Timestamp,
    ) -> Result<Identity, Unproven> {
        Ok(self.login(username, password, now).await?)
    }

    fn counted_as<'a>(&self, typed: &'a str) -> &'a str {
        self.counted_as(typed)
    }

    async fn look_again(&self, principal: &Principal, now: Timestamp) -> Standing {
        self.look_again(principal, now).await
    }

    async fn probe(&self) -> Result<(), Unproven> {
        Ok(self.probe().await?)
    }
}

/// `ldap3` 0.12.1 panics on an answer that is well-formed but of the wrong shape. Here that is the
/// server's fault, and ends nothing but this attempt.
async fn survive<T>(attempt: BoxFuture<'_, Result<T, Ended>>) -> Result<T, Ended> {
    let outcome = AssertUnwindSafe(attempt).catch_unwind().await;
    outcome.unwrap_or(Err(OutageReason::BadAnswer("sent an answer of the wrong shape").into()))
}

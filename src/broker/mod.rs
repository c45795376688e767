//! The use cases: log in, ask, issue, renew, revoke, look up again, reconcile. One a file.
//!
//! Every use case reads the same way: who calls, may they, write it down, do it, write down how
//! it went, answer. Issuing fails closed; revoking never does.

mod access;
mod chance;
mod declare;
mod difference;
mod ending;
mod handing;
mod health;
mod hidden;
mod hushed;
mod in_force;
mod issue;
mod map;
mod members;
mod missing;
#[cfg(test)]
mod model;
mod owed;
mod questions;
mod recheck;
mod reconcile;
mod release;
mod remap;
mod renew;
mod report;
mod review;
mod revoke;
mod standing;
mod start;
mod ticket;
mod time;
mod turns;
mod worker;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::audit::{Action, Record, Subject};
use crate::auth::way::Way;
use crate::auth::{Identity, Lockout, SessionTimes};
use crate::clock::Clock;
use crate::cluster::{ClientConnection, LeaseRoles, Witness};
use crate::lease::Terms;
use crate::mapping::{Duties, MapRevision, MapSource, Policy};
use crate::names::{ClusterName, Principal, Ttl, WayName};
use crate::store::{Claimant, Login, Store};

pub use access::{AccessError, LoggedIn};
pub use health::{Health, PartHealth};
pub use in_force::MapHealth;
pub use issue::{Credential, IssueError, Wish};
pub use questions::{AskedDecision, AskedPerson, AskedRole, QuestionError};
pub use renew::RenewLeaseError;
pub use review::{LeaseError, Listing};
pub use revoke::{Rehearsal, Selection};
pub use ticket::{Negotiated, Token};
pub use worker::Workers;

/// What a broker is made of.
pub struct Parts {
    /// Its own database.
    pub store: Arc<dyn Store>,
    /// Where it reads the time.
    pub clock: Clock,
    /// The ways in.
    pub ways: Vec<Arc<dyn Way>>,
    /// Who may become what, at first.
    pub policy: Policy,
    /// Where its map is read from again, and how often; nothing when it is for ever.
    pub map_source: Option<(MapSource, Ttl)>,
    /// The clusters, each with what clients are told about it.
    pub clusters: Vec<(Box<dyn LeaseRoles>, ClientConnection)>,
    /// The terms of every lease.
    pub terms: Terms,
    /// How long sessions live.
    pub session: SessionTimes,
    /// How many failures accounts and sources may have.
    pub lockout: Lockout,
    /// How often store and clusters are compared.
    pub reconcile_every: Ttl,
    /// Longest time between two looks at somebody who has a lease or a session.
    pub recheck_every: Ttl,
    /// How long what was seen of somebody counts while nobody can look.
    pub recheck_grace: Ttl,
    /// How many people of a way in may be missing at once; more are held back, unless it shows two
    /// others for each.
    pub max_missing: u32,
    /// How far clocks may be apart for leases to be issued.
    pub max_clock_skew: Ttl,
}

/// The broker. Cloning gives the same broker.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    /// Who this broker is when it claims work.
    claimant: Claimant,
    clock: Clock,
    ways: BTreeMap<WayName, Arc<dyn Way>>,
    in_force: in_force::InForce,
    differences: difference::Differences,
    desk: questions::Desk,
    map_source: Option<(MapSource, Ttl)>,
    clusters: BTreeMap<ClusterName, Site>,
    terms: Terms,
    session: SessionTimes,
    lockout: Lockout,
    reconcile_every: Ttl,
    recheck_every: Ttl,
    recheck_grace: Ttl,
    max_missing: u32,
    looks: standing::Looks,
    max_clock_skew: Ttl,
    time: time::Time,
    store_clock: time::OtherClock,
    /// Wakes whoever waits for a worker to move a lease.
    moves: Notify,
    health: health::Cache,
    turns: turns::Turns,
    hushed: hushed::Hushed,
    owed: owed::Owed,
}

/// One cluster, and what the broker knows of it beside its settings.
struct Site {
    cluster: Box<dyn LeaseRoles>,
    client: ClientConnection,
    /// Whether store and cluster have been compared since the start. Nothing is issued before.
    compared: Mutex<Compared>,
    /// Wakes the worker that takes leases away.
    work: Notify,
    /// Wakes the worker that compares.
    compare: Notify,
    /// When a role was last gone here.
    last_gone: hidden::LastGone,
    /// The cluster's clock.
    clock: time::OtherClock,
    /// Its server's release, when that was looked at.
    release: release::Release,
    /// Roles there without a lease that could not be taken away.
    orphans_left: reconcile::OrphansLeft,
}

/// Where a call comes from, for the audit.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its id, also in the logs and in the answer.
    pub id: String,
    /// The client's address.
    pub client: IpAddr,
    /// The client program, as it names itself.
    pub agent: Option<String>,
}

/// Somebody whose identity was proven for this call.
///
/// Invariant: made only by [`Broker::authenticate`], [`Broker::authenticate_password`] and
/// [`Broker::authenticate_ticket`].
#[derive(Clone, Debug)]
pub struct Caller {
    identity: Identity,
    session: Option<Uuid>,
    duties: Duties,
}

impl Caller {
    /// Who calls.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What they may do with the broker itself.
    #[must_use]
    pub fn duties(&self) -> Duties {
        self.duties
    }

    fn principal(&self) -> &Principal {
        self.identity.principal()
    }

    fn login(&self) -> Login {
        Login::of(&self.identity, self.session)
    }

    fn subject(&self) -> Subject {
        Subject::Person { principal: self.principal().clone(), session: self.session }
    }
}

impl Broker {
    /// A broker made of `parts`. Nothing runs until [`Broker::start`].
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let scribe = Arc::new(handing::Scribe::new(&parts.store, &parts.clock));
        let sites = parts.clusters.into_iter().map(|(cluster, client)| {
            cluster.tell(Arc::clone(&scribe) as Arc<dyn Witness>);
            let site = Site {
                client,
                compared: Mutex::new(Compared::NotYet),
                work: Notify::new(),
                compare: Notify::new(),
                last_gone: hidden::LastGone::start(),
                clock: time::OtherClock::default(),
                release: release::Release::default(),
                orphans_left: reconcile::OrphansLeft::default(),
                cluster,
            };
            (site.cluster.name().clone(), site)
        });
        let ways = parts.ways.into_iter().map(|way| (way.name().clone(), way));
        let ways: BTreeMap<WayName, Arc<dyn Way>> = ways.collect();
        Self(Arc::new(Inner {
            store: parts.store,
            claimant: Claimant::random(&mut chance::rng()),
            clock: parts.clock,
            in_force: in_force::InForce::new(parts.policy, ways.keys()),
            differences: difference::Differences::default(),
            desk: questions::Desk::default(),
            map_source: parts.map_source,
            ways,
            clusters: sites.collect(),
            terms: parts.terms,
            session: parts.session,
            lockout: parts.lockout,
            hushed: hushed::Hushed::default(),
            reconcile_every: parts.reconcile_every,
            recheck_every: parts.recheck_every,
            recheck_grace: parts.recheck_grace,
            max_missing: parts.max_missing,
            looks: standing::Looks::default(),
            max_clock_skew: parts.max_clock_skew,
            time: time::Time::default(),
            store_clock: time::OtherClock::default(),
            moves: Notify::new(),
            health: health::Cache::default(),
            turns: turns::Turns::default(),
            owed: owed::Owed::default(),
        }))
    }

    /// How long a session lives.
    #[must_use]
    pub fn session_times(&self) -> SessionTimes {
        self.0.session
    }

    /// Which map says who may become what.
    #[must_use]
    pub fn map_revision(&self) -> MapRevision {
        self.policy().map.revision().clone()
    }

    /// What clients are told about the cluster `name`.
    #[must_use]
    pub fn connection(&self, name: &ClusterName) -> Option<&ClientConnection> {
        self.site(name).map(|site| &site.client)
    }

    fn store(&self) -> &dyn Store {
        &*self.0.store
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    fn site(&self, name: &ClusterName) -> Option<&Site> {
        self.0.clusters.get(name)
    }

    /// A record of what `caller` does in `request`.
    fn record(&self, request: &Request, action: Action, subject: Subject) -> Record {
        Record {
            request_id: Some(request.id.clone()),
            client: Some(request.client),
            agent: request.agent.clone(),
            ..Record::new(self.now(), action, subject)
        }
    }
}

/// How far the comparison of store and cluster has come since the start.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compared {
    NotYet,
    /// It was tried, and nothing could be compared yet.
    InVain,
    Once,
}

impl Site {
    fn compared(&self) -> Compared {
        *self.compared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how a comparison ended. What was compared once stays so.
    fn note_compared(&self, end: Compared) {
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        if *compared != Compared::Once {
            *compared = end;
        }
    }

    fn is_reconciled(&self) -> bool {
        self.compared() == Compared::Once
    }
}

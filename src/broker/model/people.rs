//! The people of the model: what they ask of a broker, what they are answered, and what whoever
//! holds a password does with it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::commands::Asked;
use super::directory::password_of;
use super::server::Presence;
use super::stand::{GRACE, GROUPS, PEOPLE, RECHECK, ROLES, TTL_MOST, request, ttl};
use super::store::ModelStore;
use super::world::{Feat, MARGIN, World};
use crate::broker::{
    AccessError, Broker, Caller, IssueError, LeaseError, Rehearsal, RenewLeaseError, Request,
    Selection, Wish,
};
use crate::lease::{Lease, LeaseState};
use crate::names::{LeaseId, LoginPassword, SessionToken, Ttl};

/// For how long a look is good for who renews.
const FRESH: SignedDuration = SignedDuration::from_secs(2);

pub(super) struct People {
    answers: Arc<Mutex<Vec<Answered>>>,
    requests: u32,
    tokens: BTreeMap<&'static str, String>,
    /// What was handed out, with its password.
    pub(super) held: BTreeMap<LeaseId, Held>,
    /// The leases that came of each wish with a key.
    wishes: BTreeMap<(&'static str, &'static str), Vec<LeaseId>>,
    /// Everything that nobody else may read.
    pub(super) secrets: BTreeSet<String>,
    /// Since when somebody may not have a role.
    denied: BTreeMap<(&'static str, &'static str), Timestamp>,
    /// When the directory could last not be asked for certain.
    unsure_at: Timestamp,
    /// Requests that were denied and are not yet looked for in the audit.
    unheard: Vec<String>,
}

/// A password, and every TTL that was asked for with it.
pub(super) struct Held {
    pub(super) password: String,
    longest: Ttl,
}

/// What a request came to.
enum Answered {
    LoggedIn { person: &'static str, token: String },
    Issued(Box<Issued>),
    Renewed { lease: Box<Lease>, asked: Ttl, at: Timestamp },
    Denied { request: String },
}

struct Issued {
    lease: Lease,
    password: String,
    asked: Asked,
    at: Timestamp,
    is_recorded: bool,
}

impl People {
    pub(super) fn new(start: Timestamp) -> Self {
        Self {
            answers: Arc::default(),
            requests: 0,
            tokens: BTreeMap::new(),
            held: BTreeMap::new(),
            wishes: BTreeMap::new(),
            secrets: BTreeSet::new(),
            denied: BTreeMap::new(),
            unsure_at: start,
            unheard: Vec::new(),
        }
    }

    fn keep_secret(&mut self, secret: &str) {
        self.secrets.insert(secret.to_owned());
    }
}

/// Whether the broker has judged that this may not be; everything else is a failure, or is said of
/// what is not there.
trait Judged {
    fn is_denied(&self) -> bool;
}

impl Judged for AccessError {
    fn is_denied(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::DirectoryAway)
    }
}

impl Judged for IssueError {
    fn is_denied(&self) -> bool {
        !matches!(
            self,
            Self::NotRecorded(_)
                | Self::RoleNotCreated { .. }
                | Self::NotActivated { .. }
                | Self::Overtaken { .. }
                | Self::Interrupted
        )
    }
}

impl Judged for RenewLeaseError {
    fn is_denied(&self) -> bool {
        match self {
            Self::Lease(error) => error.is_denied(),
            Self::Overtaken | Self::NotExtended { .. } => false,
            _ => true,
        }
    }
}

impl Judged for LeaseError {
    fn is_denied(&self) -> bool {
        !matches!(self, Self::Store(_))
    }
}

/// A refusal becomes an answer, a failure none.
fn denied<Good, Bad: Judged>(
    answer: Result<Good, Bad>,
    request: Request,
) -> Result<Good, Option<Answered>> {
    answer.map_err(|error| error.is_denied().then_some(Answered::Denied { request: request.id }))
}

/// I-01, there where the answer leaves: the lease has been active, and is written down as issued.
fn is_issued(store: &ModelStore, lease: LeaseId) -> bool {
    let rows = store.rows();
    let stored = rows.tables.leases.get(&lease).map(|lease| lease.state);
    let was_active =
        stored.is_some_and(|state| !matches!(state, LeaseState::Intent | LeaseState::Aborted));
    was_active && rows.is_issued(lease)
}

impl World {
    /// The person's request runs on a broker of their choice, which may be away.
    fn ask<Work>(&mut self, at: usize, work: impl FnOnce(Broker, Request) -> Work)
    where
        Work: Future<Output = Result<Answered, Option<Answered>>> + Send + 'static,
    {
        let Some(running) = &self.brokers[at].running else { return };
        self.people.requests += 1;
        let work = work(running.broker.clone(), request(self.people.requests));
        let answers = Arc::clone(&self.people.answers);
        running.runtime.spawn(async move {
            if let Some(answer) = work.await.map_or_else(|denied| denied, Some) {
                answers.lock().unwrap().push(answer);
            }
        });
    }

    /// The same for somebody who has logged in.
    fn ask_as<Work>(
        &mut self,
        at: usize,
        person: &str,
        work: impl FnOnce(Broker, Request, Caller) -> Work + Send + 'static,
    ) where
        Work: Future<Output = Result<Answered, Option<Answered>>> + Send + 'static,
    {
        let Some(token) = self.people.tokens.get(person).cloned() else { return };
        self.ask(at, |broker, request| async move {
            let token = SessionToken::unverified(&token);
            let caller = broker.authenticate(&request, &token).await.map_err(|_| None)?;
            work(broker, request, caller).await
        });
    }

    pub(super) fn log_in(&mut self, at: usize, person: &'static str, is_wrong: bool) {
        let mut typed = password_of(person);
        if is_wrong {
            typed.push_str("-mistyped");
        }
        self.people.keep_secret(&typed);
        self.ask(at, move |broker, request| async move {
            let password = LoginPassword::new(typed);
            let answer = broker.login(&request, None, person, password).await;
            let logged_in = denied(answer, request)?;
            Ok(Answered::LoggedIn { person, token: logged_in.token.expose().to_owned() })
        });
    }

    pub(super) fn issue(&mut self, asked: Asked) {
        let (store, at) = (self.store.clone(), self.time.now());
        self.ask_as(asked.at, asked.person, move |broker, request, caller| async move {
            let wish = Wish {
                cluster: "orders".to_owned(),
                role: asked.role.map(str::to_owned),
                ttl: Some(ttl(asked.ttl)),
                request_key: asked.key.map(|key| key.parse().unwrap()),
                ..Wish::default()
            };
            let issued = denied(broker.issue(&request, &caller, wish).await, request)?;
            let (lease, password) = (issued.lease, issued.password.expose().to_owned());
            let is_recorded = is_issued(&store, lease.id);
            Ok(Answered::Issued(Box::new(Issued { lease, password, asked, at, is_recorded })))
        });
    }

    pub(super) fn renew(&mut self, at: usize, number: u32, asked: &'static str) {
        if let Some((lease, person)) = self.own(number) {
            self.renew_this(at, person, lease, asked);
        }
    }

    pub(super) fn renew_this(
        &mut self,
        at: usize,
        person: &str,
        lease: LeaseId,
        asked: &'static str,
    ) {
        let (asked, now) = (ttl(asked), self.time.now());
        if let Some(held) = self.people.held.get_mut(&lease) {
            held.longest = held.longest.max(asked);
        }
        self.ask_as(at, person, move |broker, request, caller| async move {
            let answer = broker.renew(&request, &caller, lease, Some(asked)).await;
            let lease = Box::new(denied(answer, request)?);
            Ok(Answered::Renewed { lease, asked, at: now })
        });
    }

    /// Somebody loses the group of a lease of theirs, and a while later renews it all the same.
    pub(super) fn lose_group_and_renew(&mut self, at: usize, number: u32) {
        let Some((id, person)) = self.own(number) else { return };
        let Some(lease) = self.lease(id) else { return };
        let group = GROUPS.into_iter().find(|group| *group == lease.role.as_str()).unwrap();
        self.directory.set_member(person, group, false);
        self.note_denied();
        self.advance(Duration::try_from(FRESH + MARGIN * 2).unwrap());
        self.renew(at, number, "1h");
    }

    pub(super) fn revoke(&mut self, at: usize, number: u32) {
        if let Some((lease, person)) = self.own(number) {
            self.end(at, person, lease);
        }
    }

    /// Somebody ends a lease that may be another's, and then may not.
    pub(super) fn revoke_of_others(&mut self, at: usize, by: &'static str, number: u32) {
        if let Some((lease, _)) = self.own(number) {
            self.end(at, by, lease);
        }
    }

    /// A holder gives a lease back.
    pub(super) fn give_back(&mut self, lease: LeaseId) {
        if let Some(holder) = self.holder(lease) {
            self.end(0, holder, lease);
        }
    }

    fn end(&mut self, at: usize, by: &str, lease: LeaseId) {
        self.ask_as(at, by, move |broker, request, caller| async move {
            denied(broker.revoke(&request, &caller, lease).await, request)?;
            Err(None)
        });
    }

    pub(super) fn revoke_person(&mut self, at: usize, by: &'static str, person: &'static str) {
        let person = Some(format!("ldap:{person}"));
        self.revoke_selected(at, by, Selection { person, ..Selection::default() });
    }

    pub(super) fn revoke_missing(&mut self, at: usize, by: &'static str) {
        let missing_from = Some("corp".parse().unwrap());
        self.revoke_selected(at, by, Selection { missing_from, ..Selection::default() });
    }

    fn revoke_selected(&mut self, at: usize, by: &'static str, selection: Selection) {
        self.ask_as(at, by, move |broker, request, caller| async move {
            let answer = broker.revoke_selected(&request, &caller, selection, Rehearsal::No).await;
            denied(answer, request)?;
            Err(None)
        });
    }

    pub(super) fn log_out(&mut self, at: usize, person: &'static str) {
        self.ask_as(at, person, move |broker, request, caller| async move {
            denied(broker.logout(&request, &caller).await, request)?;
            Err(None)
        });
    }

    /// A lease that was handed out, and who has it.
    fn own(&self, number: u32) -> Option<(LeaseId, &'static str)> {
        let id = self.handed(number)?;
        Some((id, self.holder(id)?))
    }

    fn holder(&self, id: LeaseId) -> Option<&'static str> {
        let lease = self.lease(id)?;
        PEOPLE.into_iter().find(|person| lease.principal.subject() == *person)
    }

    /// Mostly one that is not over, or one of the last that are.
    pub(super) fn handed(&self, number: u32) -> Option<LeaseId> {
        let rows = self.store.rows();
        let mut leases: Vec<&Lease> =
            self.people.held.keys().filter_map(|id| rows.tables.leases.get(id)).collect();
        leases.sort_by_key(|lease| (lease.state.is_final(), Reverse(lease.requested_at)));
        let among = if number.is_multiple_of(5) { leases.len() } else { leases.len().min(5) };
        (among > 0).then(|| leases[number as usize % among].id)
    }

    /// The holder of a lease logs in to the cluster.
    pub(super) fn use_lease(&mut self, number: u32, presence: Presence) {
        let Some(id) = self.handed(number) else { return };
        self.log_in_with(id, presence);
    }

    /// A log-in to the cluster with the password of a lease, by the name that its role has now.
    pub(super) fn log_in_with(&mut self, id: LeaseId, presence: Presence) -> Option<u32> {
        let name = self.role_of(id).map(|(_, role)| role.name);
        let name = name.or_else(|| self.lease(id).map(|lease| lease.role_name.to_string()))?;
        let session = self.server.log_in(&name, &self.people.held[&id].password, presence);
        let lets_in = session.is_some();
        self.note(if lets_in { Feat::LoggedInToCluster } else { Feat::RefusedAtCluster });
        session
    }

    /// I-04: every broker dies, and none comes back before the longest that anybody asked for is
    /// over. Then every password is tried at the server, by its own clock.
    pub(super) fn let_all_die(&mut self) {
        for process in &mut self.brokers {
            process.running = None;
        }
        self.set_server_up(true);
        self.advance(ttl(TTL_MOST).duration() + Duration::try_from(MARGIN).unwrap());
        let ids: Vec<LeaseId> = self.people.held.keys().copied().collect();
        for id in ids {
            // A server whose own clock was set back keeps its own time: nobody is there to mend it.
            let ahead = self.server.clock_ahead();
            if self.role_of(id).is_some_and(|(_, role)| role.clock_ahead != ahead) {
                continue;
            }
            self.note(Feat::TriedAfterAllDied);
            if self.log_in_with(id, Presence::Open).is_some() {
                self.broken("a log-in outlived its brokers", self.lease(id).as_ref());
            }
        }
        self.start(0);
    }

    pub(super) fn take_answers(&mut self) {
        let answers = std::mem::take(&mut *self.people.answers.lock().unwrap());
        for answer in answers {
            match answer {
                Answered::LoggedIn { person, token } => {
                    self.people.keep_secret(&token);
                    self.people.tokens.insert(person, token);
                }
                Answered::Issued(issued) => self.take_issued(*issued),
                Answered::Renewed { lease, asked, at } => {
                    self.note(Feat::Renewed);
                    self.check_allowed(&lease, at, FRESH);
                    self.check_ends_by_itself(&lease, asked);
                }
                Answered::Denied { request } => {
                    self.note(Feat::Denied);
                    self.people.unheard.push(request);
                }
            }
        }
    }

    fn take_issued(&mut self, issued: Issued) {
        let Issued { lease, password, asked, at, is_recorded } = issued;
        if !is_recorded {
            self.broken("a password was handed out without a record", Some(&lease));
        }
        self.note(Feat::Issued);
        self.people.keep_secret(&password);
        let held = Held { password, longest: ttl(asked.ttl) };
        self.people.held.insert(lease.id, held);
        if let Some(key) = asked.key {
            let wishes = self.people.wishes.entry((asked.person, key)).or_default();
            wishes.push(lease.id);
            if wishes.len() > 1 {
                self.note(Feat::Replaced);
            }
        }
        self.check_allowed(&lease, at, ttl(RECHECK).span());
        self.check_ends_by_itself(&lease, ttl(asked.ttl));
    }

    /// I-04, tried out: with nobody left to end it, the password lets in for as long as was asked
    /// for and no longer. And until then it does.
    fn check_ends_by_itself(&mut self, lease: &Lease, asked: Ttl) {
        if self.is_restored() {
            return;
        }
        let Some((_, role)) = self.role_of(lease.id) else { return };
        let held = &self.people.held[&lease.id];
        let longest = held.longest.max(asked);
        let lets_in = |at| self.server.state().lets_in(&role.name, &held.password, at).is_some();
        if lets_in(role.set_at + longest.span() + MARGIN) {
            self.broken("a log-in outlives what was asked for", Some(lease));
        }
        if role.can_login && role.valid_until > role.set_at && !lets_in(role.set_at) {
            self.broken("whoever was handed a password is not let in", Some(lease));
        }
    }

    pub(super) fn note_denied(&mut self) {
        let now = self.time.now();
        if !self.directory.is_up() || self.chance.has_faults() {
            self.people.unsure_at = now;
        }
        for person in PEOPLE {
            for (role, ..) in ROLES {
                if self.directory.is_member(person, role) {
                    self.people.denied.remove(&(person, role));
                } else {
                    self.people.denied.entry((person, role)).or_insert(now);
                }
            }
        }
    }

    /// Since when whoever has the lease may not have it.
    pub(super) fn denied_since(&self, lease: &Lease) -> Option<Timestamp> {
        let is_its = |(person, role): &(&str, &str)| {
            lease.principal.subject() == *person && lease.role.as_str() == *role
        };
        self.people.denied.iter().find(|(key, _)| is_its(key)).map(|(_, since)| *since)
    }

    /// I-11: what could not be had when it was asked for, is not had. A look counts for `fresh`,
    /// and while nobody can look, for the grace.
    fn check_allowed(&self, lease: &Lease, asked_at: Timestamp, fresh: SignedDuration) {
        let Some(since) = self.denied_since(lease) else { return };
        let was_sure = self.people.unsure_at + FRESH + MARGIN < asked_at;
        let counts = if was_sure { fresh } else { ttl(GRACE).span() };
        if since + counts + MARGIN < asked_at {
            self.broken("somebody got what they may not have", Some(lease));
        }
    }

    /// Offboarding: within the re-check period nobody has what they may not have.
    pub(super) fn check_nobody_has_too_much(&self) {
        for lease in self.leases().iter().filter(|lease| lease.state == LeaseState::Active) {
            if self.denied_since(lease).is_some() {
                self.broken("somebody has what they may not have any more", Some(lease));
            }
        }
    }

    /// I-10: one live lease for one wish, by what the person asked and not by what is stored.
    pub(super) fn check_keys(&self) {
        let rows = self.store.rows();
        let live = |id: &&LeaseId| {
            rows.tables.leases.get(id).is_some_and(|lease| lease.state == LeaseState::Active)
        };
        let live_twice =
            self.people.wishes.values().find(|leases| leases.iter().filter(live).count() > 1);
        let twice = live_twice.and_then(|leases| rows.tables.leases.get(leases.last()?).cloned());
        drop(rows);
        if twice.is_some() {
            self.broken("two live leases for one wish", twice.as_ref());
        }
    }

    /// I-13: whatever was denied is written down as refused.
    pub(super) fn check_denials_are_told(&mut self) {
        for request in std::mem::take(&mut self.people.unheard) {
            if !self.told.is_refused(&request) {
                self.broken(
                    &format!("nothing is written down of what was denied: {request}"),
                    None,
                );
            }
        }
    }
}

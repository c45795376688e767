//! The model of a PostgreSQL server and of what [`crate::cluster::Cluster`] does on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::chance::{Chance, Fate};
use crate::clock::Clock;
use crate::cluster::{
    AccessEnd, ClusterError, ClusterHealth, CreateError, CreateRefusal, Created, LeaseRoles,
    Removal, RoleTarget,
};
use crate::lease::{Blocker, BlockerKind, FoundRole, Lease, MarkerReading};
use crate::mapping::{ObjectPolicy, Profile};
use crate::names::{ClusterName, LeaseId, LeaseRoleName, RoleName, RoleOid, Ttl, Verifier};

/// A role on the server.
#[derive(Clone, Debug)]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) mark: MarkerReading,
    pub(super) can_login: bool,
    pub(super) valid_until: Timestamp,
    pub(super) groups: Vec<RoleName>,
    /// Somebody uses an object of it: it cannot be dropped.
    pub(super) is_in_use: bool,
    /// How far the server's clock was ahead when `valid_until` was set.
    pub(super) clock_ahead: SignedDuration,
}

/// A session on the server.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) oid: RoleOid,
    /// The log-in is held back (`post_auth_delay`): nobody can see it yet.
    pub(super) is_hidden: bool,
}

/// A create that is still on its way through the network.
#[derive(Clone, Debug)]
struct Late {
    name: LeaseRoleName,
    lease: LeaseId,
    group: RoleName,
    valid_until: Timestamp,
    deadline: Timestamp,
}

/// What the server holds.
#[derive(Clone)]
pub(super) struct State {
    pub(super) roles: BTreeMap<RoleOid, Role>,
    pub(super) sessions: Vec<Session>,
    late: Vec<Late>,
    next_oid: u32,
}

/// The server. Cloning gives the same one.
#[derive(Clone)]
pub(super) struct Server {
    name: ClusterName,
    state: Arc<Mutex<State>>,
    settings: Arc<Mutex<Settings>>,
    /// The true time.
    time: Clock,
    chance: Chance,
}

#[derive(Clone, Copy)]
struct Settings {
    is_up: bool,
    clock_ahead: SignedDuration,
}

impl Server {
    pub(super) fn new(name: &str, time: Clock, chance: Chance) -> Self {
        let state = State {
            roles: BTreeMap::new(),
            sessions: Vec::new(),
            late: Vec::new(),
            next_oid: 16_384,
        };
        let settings = Settings { is_up: true, clock_ahead: SignedDuration::ZERO };
        Self {
            name: name.parse().unwrap(),
            state: Arc::new(Mutex::new(state)),
            settings: Arc::new(Mutex::new(settings)),
            time,
            chance,
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn set_up(&self, is_up: bool) {
        self.settings.lock().unwrap().is_up = is_up;
        if !is_up {
            self.state().sessions.clear();
        }
    }

    pub(super) fn set_clock_ahead(&self, ahead: SignedDuration) {
        self.settings.lock().unwrap().clock_ahead = ahead;
    }

    pub(super) fn clock_ahead(&self) -> SignedDuration {
        self.settings.lock().unwrap().clock_ahead
    }

    /// The server's own clock.
    pub(super) fn now(&self) -> Timestamp {
        self.time.now() + self.clock_ahead()
    }

    /// Opens a session as the holder of the password does.
    pub(super) fn log_in(&self, oid: RoleOid, is_hidden: bool) -> bool {
        let (now, is_up) = (self.now(), self.settings.lock().unwrap().is_up);
        let mut state = self.state();
        let role = state.roles.get(&oid);
        let lets_in = is_up && role.is_some_and(|role| role.can_login && role.valid_until > now);
        if lets_in {
            state.sessions.push(Session { oid, is_hidden });
        }
        lets_in
    }

    /// Lets every log-in that is held back show itself.
    pub(super) fn reveal(&self) {
        for session in &mut self.state().sessions {
            session.is_hidden = false;
        }
    }

    /// Lets the creates arrive that were held up in the network: what is too late refuses itself.
    pub(super) fn deliver(&self) {
        let late = std::mem::take(&mut self.state().late);
        for create in late {
            if self.now() <= create.deadline {
                self.make(&create.name, create.lease, &create.group, create.valid_until);
            }
        }
    }

    fn make(
        &self,
        name: &LeaseRoleName,
        lease: LeaseId,
        group: &RoleName,
        valid_until: Timestamp,
    ) -> Option<RoleOid> {
        let clock_ahead = self.clock_ahead();
        let mut state = self.state();
        if state.roles.values().any(|role| role.name == name.as_str()) {
            return None;
        }
        let oid = RoleOid(state.next_oid);
        state.next_oid += 1;
        let role = Role {
            name: name.as_str().to_owned(),
            mark: MarkerReading::Ours(lease),
            can_login: true,
            valid_until,
            groups: vec![group.clone()],
            is_in_use: false,
            clock_ahead,
        };
        state.roles.insert(oid, role);
        Some(oid)
    }

    /// A role that a DBA makes, with the mark that they give it.
    pub(super) fn make_foreign(&self, name: String, mark: MarkerReading) -> RoleOid {
        let mut state = self.state();
        let oid = RoleOid(state.next_oid);
        state.next_oid += 1;
        let role = Role {
            name,
            mark,
            can_login: true,
            valid_until: Timestamp::MAX,
            groups: vec!["orders_read".parse().unwrap()],
            is_in_use: false,
            clock_ahead: SignedDuration::ZERO,
        };
        state.roles.insert(oid, role);
        oid
    }

    fn away(&self) -> ClusterError {
        ClusterError::Unreadable { cluster: self.name.clone(), what: "nothing: the model is away" }
    }

    /// Fails before anything has happened, or says whether the answer will be lost.
    async fn begin(&self) -> Result<Fate, ClusterError> {
        let fate = self.chance.fate().await;
        let is_up = self.settings.lock().unwrap().is_up;
        if is_up && fate != Fate::FailedBefore { Ok(fate) } else { Err(self.away()) }
    }

    async fn end<T>(&self, fate: Fate, answer: T) -> Result<T, ClusterError> {
        tokio::task::yield_now().await;
        if fate == Fate::AnswerLost { Err(self.away()) } else { Ok(answer) }
    }

    /// As the real one does: by OID if it is known, else by name; and the mark must fit in any
    /// case. An OID that another lease's role has by now is a role that is gone.
    fn locate(&self, target: &RoleTarget) -> Result<Option<RoleOid>, ClusterError> {
        let state = self.state();
        let oid = target.oid.or_else(|| {
            let name = target.name.as_ref().map(LeaseRoleName::as_str);
            let named = state.roles.iter().find(|(_, role)| Some(role.name.as_str()) == name);
            named.map(|(oid, _)| *oid)
        });
        let Some((oid, role)) = oid.and_then(|oid| state.roles.get(&oid).map(|role| (oid, role)))
        else {
            return Ok(None);
        };
        match role.mark {
            MarkerReading::Ours(lease) if lease == target.lease => return Ok(Some(oid)),
            MarkerReading::Ours(lease) if leads_to(&role.name, lease) => return Ok(None),
            _ => {}
        }
        Err(ClusterError::NotOurs {
            cluster: self.name.clone(),
            lease: target.lease,
            oid,
            name: role.name.clone(),
            because: "the model says so",
        })
    }

    fn end_sessions(&self, oid: RoleOid) {
        self.state().sessions.retain(|session| session.oid != oid || session.is_hidden);
    }
}

/// Whether the name is that of a role made for `lease`.
fn leads_to(name: &str, lease: LeaseId) -> bool {
    let name = LeaseRoleName::try_from(name.to_owned()).ok();
    name.and_then(|name| name.lease_id()) == Some(lease)
}

#[async_trait]
impl LeaseRoles for Server {
    fn name(&self) -> &ClusterName {
        &self.name
    }

    async fn create(
        &self,
        lease: &Lease,
        profile: &Profile,
        _: &Verifier,
        ttl: Ttl,
        within: Duration,
    ) -> Result<Created, CreateError> {
        let role_name = lease.role_name.clone();
        let seen = self.now();
        let fate = match self.begin().await {
            Ok(fate) => fate,
            Err(source) => return Err(CreateError::Failed { role_name, source }),
        };
        let (valid_until, deadline) = (seen + ttl.span(), seen + within);
        let in_doubt = |role_name| CreateError::InDoubt { role_name, source: self.away() };
        if fate == Fate::AnswerLost && self.chance.once_in(2) {
            let (lease, group) = (lease.id, profile.role.clone());
            let late = Late { name: role_name.clone(), lease, group, valid_until, deadline };
            self.state().late.push(late);
            return Err(in_doubt(role_name));
        }
        if self.now() > deadline {
            let refusal = CreateRefusal::TooLate;
            let (cluster, role) = (self.name.clone(), profile.role.clone());
            return Err(CreateError::Refused { cluster, role, refusal });
        }
        let made = self.make(&lease.role_name, lease.id, &profile.role, valid_until);
        tokio::task::yield_now().await;
        match made {
            Some(role_oid) if fate == Fate::Done => Ok(Created { role_oid, valid_until }),
            _ => Err(in_doubt(role_name)),
        }
    }

    async fn extend(&self, lease: &Lease, remaining: Ttl) -> Result<Timestamp, ClusterError> {
        let fate = self.begin().await?;
        let missing = || ClusterError::RoleMissing { cluster: self.name.clone(), lease: lease.id };
        let oid = self.locate(&RoleTarget::of(lease))?.ok_or_else(missing)?;
        let (valid_until, clock_ahead) = (self.now() + remaining.span(), self.clock_ahead());
        {
            let mut state = self.state();
            let role = state.roles.get_mut(&oid).ok_or_else(missing)?;
            if !role.can_login {
                let (cluster, lease) = (self.name.clone(), lease.id);
                return Err(ClusterError::AccessEnded { cluster, lease });
            }
            (role.valid_until, role.clock_ahead) = (valid_until, clock_ahead);
        }
        self.end(fate, valid_until).await
    }

    async fn end_access(&self, target: &RoleTarget) -> Result<AccessEnd, ClusterError> {
        let fate = self.begin().await?;
        let Some(oid) = self.locate(target)? else {
            if let Some(oid) = target.oid.filter(|oid| !self.state().roles.contains_key(oid)) {
                self.end_sessions(oid);
            }
            return self.end(fate, AccessEnd::Gone).await;
        };
        if let Some(role) = self.state().roles.get_mut(&oid) {
            (role.can_login, role.valid_until) = (false, Timestamp::MIN);
            role.groups.clear();
        }
        let _ = self.chance.fate().await;
        self.end_sessions(oid);
        self.end(fate, AccessEnd::Ended(oid)).await
    }

    async fn remove(&self, target: &RoleTarget, _: ObjectPolicy) -> Result<Removal, ClusterError> {
        if let AccessEnd::Blocked(blockers) = self.end_access(target).await? {
            return Ok(Removal::Blocked(blockers));
        }
        let fate = self.begin().await?;
        let Some(oid) = self.locate(target)? else {
            return self.end(fate, Removal::Gone).await;
        };
        let is_in_use = self.state().roles.get(&oid).is_some_and(|role| role.is_in_use);
        if is_in_use {
            let blocker = Blocker::new(BlockerKind::Lock, "somebody uses its table");
            return self.end(fate, Removal::Blocked(vec![blocker])).await;
        }
        self.state().roles.remove(&oid);
        self.end_sessions(oid);
        self.end(fate, Removal::Gone).await
    }

    async fn find(&self, lease: &Lease) -> Result<Option<RoleOid>, ClusterError> {
        let fate = self.begin().await?;
        let found = match self.locate(&RoleTarget::of(lease)) {
            Err(ClusterError::NotOurs { .. }) => None,
            found => found?,
        };
        self.end(fate, found).await
    }

    async fn lease_roles(&self) -> Result<Vec<FoundRole>, ClusterError> {
        let (fate, now) = (self.begin().await?, self.now());
        let found = |(oid, role): (&RoleOid, &Role)| FoundRole {
            oid: *oid,
            name: role.name.clone(),
            marker: role.mark.clone(),
            valid_for: Some(role.valid_until.duration_since(now)),
        };
        let found = self.state().roles.iter().map(found).collect();
        self.end(fate, found).await
    }

    async fn without_role(&self) -> Result<Vec<RoleOid>, ClusterError> {
        let fate = self.begin().await?;
        let state = self.state().clone();
        let seen = state.sessions.iter().filter(|session| !session.is_hidden);
        let orphaned = seen.filter(|session| !state.roles.contains_key(&session.oid));
        let oids = orphaned.map(|session| session.oid).collect();
        self.end(fate, oids).await
    }

    async fn end_without_role(&self, oid: RoleOid) -> Result<usize, ClusterError> {
        let fate = self.begin().await?;
        let before = self.state().sessions.len();
        if !self.state().roles.contains_key(&oid) {
            self.end_sessions(oid);
        }
        let ended = before - self.state().sessions.len();
        self.end(fate, ended).await
    }

    async fn clock(&self) -> Result<Timestamp, ClusterError> {
        let fate = self.begin().await?;
        self.end(fate, self.now()).await
    }

    async fn probe(&self) -> Result<ClusterHealth, ClusterError> {
        let fate = self.begin().await?;
        let health = ClusterHealth {
            version: 160_014,
            standby: false,
            superuser: false,
            can_create_roles: true,
            can_signal: true,
            server_time: self.now(),
        };
        self.end(fate, health).await
    }
}

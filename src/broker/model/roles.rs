//! What the broker does on the model's server, as [`crate::cluster::Cluster`] does it on a real one.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::chance::Fate;
use super::server::{ATTIC, Late, Membership, Presence, Role, Server};
use crate::cluster::{
    AccessEnd, ClusterError, ClusterHealth, CreateError, CreateRefusal, Created, LeaseRoles,
    Removal, RoleTarget,
};
use crate::lease::plan::{self, Creation};
use crate::lease::{Blocker, BlockerKind, FoundRole, Lease, Marker, MarkerKey, MarkerReading};
use crate::mapping::{Memberships, ObjectPolicy, Profile};
use crate::names::{ClusterName, LeaseId, LeaseRoleName, RoleName, RoleOid, Ttl, Verifier};

/// Attributes of a role that a lease's must not have.
const ATTRIBUTES: [&str; 5] = ["SUPERUSER", "CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS"];

impl Server {
    fn away(&self) -> ClusterError {
        ClusterError::Unreadable { cluster: self.name.clone(), what: "nothing: the model is away" }
    }

    /// Fails before anything has happened, or says whether the answer will be lost.
    async fn begin(&self) -> Result<Fate, ClusterError> {
        let fate = self.chance.fate().await;
        if self.is_up() && fate != Fate::FailedBefore { Ok(fate) } else { Err(self.away()) }
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
        self.state().end_sessions(oid);
    }

    /// The role that the statements of the real plan make: they are read as the server would.
    fn planned(
        &self,
        lease: &Lease,
        profile: &Profile,
        verifier: &Verifier,
        valid_until: Timestamp,
    ) -> Role {
        let key = MarkerKey::from_hex(&"11".repeat(32)).unwrap();
        let marker = Marker::new(&key, &"model".parse().unwrap(), &self.name, lease.id);
        let statements = plan::create(&Creation {
            role: &lease.role_name,
            marker: &marker,
            profile,
            verifier,
            valid_until,
            deadline: valid_until,
            admin_role: None,
            version: self.version,
        });
        let texts: Vec<&str> = statements.iter().map(plan::Statement::sql).collect();
        let create = texts.iter().find(|text| text.starts_with("CREATE ROLE ")).unwrap();
        let words: Vec<&str> = create.split_whitespace().collect();
        let attributes = ATTRIBUTES.into_iter().filter(|word| words.contains(word));
        let to_it = format!(" TO {}", lease.role_name.quoted());
        let grants =
            texts.iter().filter(|text| text.starts_with("GRANT ") && text.contains(&to_it));
        Role {
            name: lease.role_name.as_str().to_owned(),
            mark: MarkerReading::Ours(lease.id),
            can_login: words.contains(&"LOGIN"),
            verifier: Some(verifier.expose().to_owned()),
            valid_until,
            set_at: self.now(),
            clock_ahead: self.clock_ahead(),
            attributes: attributes.map(str::to_owned).collect(),
            memberships: grants.map(|grant| self.membership(grant)).collect(),
            is_in_use: false,
        }
    }

    /// What `GRANT "group" TO "role"` gives, with the options that the version has.
    fn membership(&self, grant: &str) -> Membership {
        let group = grant.strip_prefix("GRANT \"").unwrap().split_once('"').unwrap().0;
        let says = |option: &str| grant.contains(option);
        Membership {
            group: group.parse::<RoleName>().unwrap(),
            may_set: !(self.version.has_membership_options() && says("SET FALSE")),
            has_admin: says("ADMIN TRUE") || says("ADMIN OPTION"),
        }
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
        verifier: &Verifier,
        ttl: Ttl,
        within: Duration,
    ) -> Result<Created, CreateError> {
        let role_name = lease.role_name.clone();
        let (seen, ahead) = (self.now(), self.clock_ahead());
        let fate = match self.begin().await {
            Ok(fate) => fate,
            Err(source) => return Err(CreateError::Failed { role_name, source }),
        };
        let (valid_until, deadline) = (seen + ttl.span(), seen + within);
        let in_doubt = |role_name| CreateError::InDoubt { role_name, source: self.away() };
        let role = Role {
            set_at: seen,
            clock_ahead: ahead,
            ..self.planned(lease, profile, verifier, valid_until)
        };
        if fate == Fate::AnswerLost && self.chance.once_in(2) {
            self.state().late.push(Late { role, deadline });
            return Err(in_doubt(role_name));
        }
        if self.now() > deadline {
            let refusal = CreateRefusal::TooLate;
            let (cluster, role) = (self.name.clone(), profile.role.clone());
            return Err(CreateError::Refused { cluster, role, refusal });
        }
        let made = self.state().make(role);
        tokio::task::yield_now().await;
        match made {
            Some(role_oid) if fate == Fate::Done => Ok(Created { role_oid, valid_until }),
            _ => Err(in_doubt(role_name)),
        }
    }

    async fn extend(&self, lease: &Lease, remaining: Ttl) -> Result<Timestamp, ClusterError> {
        let called = self.now() - self.clock_ahead();
        let fate = self.begin().await?;
        let missing = || ClusterError::RoleMissing { cluster: self.name.clone(), lease: lease.id };
        let oid = self.locate(&RoleTarget::of(lease))?.ok_or_else(missing)?;
        let (set_at, clock_ahead) = (self.now(), self.clock_ahead());
        // What is left counts from the call, however long that takes.
        let passed = (set_at - clock_ahead).duration_since(called);
        let valid_until = set_at + remaining.span() - passed;
        {
            let mut state = self.state();
            let role = state.roles.get_mut(&oid).ok_or_else(missing)?;
            if !role.can_login {
                let (cluster, lease) = (self.name.clone(), lease.id);
                return Err(ClusterError::AccessEnded { cluster, lease });
            }
            (role.valid_until, role.set_at, role.clock_ahead) = (valid_until, set_at, clock_ahead);
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
            (role.can_login, role.verifier, role.valid_until) = (false, None, Timestamp::MIN);
            role.memberships.clear();
        }
        let _ = self.chance.fate().await;
        self.end_sessions(oid);
        self.end(fate, AccessEnd::Ended(oid)).await
    }

    async fn remove(
        &self,
        target: &RoleTarget,
        policy: ObjectPolicy,
    ) -> Result<Removal, ClusterError> {
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
        let is_kept = policy == ObjectPolicy::Keep;
        if is_kept && self.state().objects.values().any(|owner| *owner == oid) {
            let blocker = Blocker::new(BlockerKind::Object, "it owns a table");
            return self.end(fate, Removal::Blocked(vec![blocker])).await;
        }
        {
            let mut state = self.state();
            if policy == ObjectPolicy::Reassign {
                for owner in state.objects.values_mut().filter(|owner| **owner == oid) {
                    *owner = ATTIC;
                }
            }
            state.drop_owned_and_role(oid);
        }
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
        let oids = {
            let state = self.state();
            let mut sessions: Vec<_> = state.sessions.iter().collect();
            sessions.retain(|session| session.presence != Presence::Hidden);
            sessions.retain(|session| !state.roles.contains_key(&session.oid));
            sessions.into_iter().map(|session| session.oid).collect()
        };
        self.end(fate, oids).await
    }

    async fn end_without_role(&self, oid: RoleOid) -> Result<usize, ClusterError> {
        let fate = self.begin().await?;
        let ended = {
            let mut state = self.state();
            if state.roles.contains_key(&oid) { 0 } else { state.end_sessions(oid) }
        };
        self.end(fate, ended).await
    }

    async fn memberships(&self, _: &[RoleName]) -> Result<Memberships, ClusterError> {
        let fate = self.begin().await?;
        self.end(fate, Memberships::none()).await
    }

    async fn clock(&self) -> Result<Timestamp, ClusterError> {
        let fate = self.begin().await?;
        self.end(fate, self.now()).await
    }

    async fn probe(&self) -> Result<ClusterHealth, ClusterError> {
        let fate = self.begin().await?;
        let health = ClusterHealth {
            version: self.version.0,
            standby: false,
            superuser: false,
            can_create_roles: true,
            can_signal: true,
            server_time: self.now(),
        };
        self.end(fate, health).await
    }
}

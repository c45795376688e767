//! What must hold after every step.

use std::collections::BTreeMap;

use super::server::{Presence, Role, Session};
use super::stand::{ROLES, ttl};
use super::world::{Feat, MARGIN, Seen, World};
use crate::lease::{Lease, LeaseState, MarkerReading};
use crate::mapping::ObjectPolicy;
use crate::names::{LeaseId, RoleOid};

/// How far the time of a broker that issues may be from the true one.
const SKEW: jiff::SignedDuration = jiff::SignedDuration::from_secs(125);

impl World {
    pub(super) fn check(&mut self) {
        let leases = self.leases();
        for lease in &leases {
            self.check_moves(lease);
        }
        self.check_audit();
        for lease in &leases {
            self.check_role(lease);
        }
        self.check_sessions(&leases);
        self.check_keys();
        self.check_denials_are_told();
        self.check_foreign();
    }

    /// Whether the server was restored, and may hold what a backup brought back.
    pub(super) fn is_restored(&self) -> bool {
        self.time.now() < self.restored_until
    }

    /// I-05, I-06: states move forward, and no end is past the longest, by the lease and by the
    /// true time.
    fn check_moves(&mut self, lease: &Lease) {
        let longest = longest_of(lease);
        if lease.expires_at > lease.ceiling || lease.ceiling > lease.requested_at + longest {
            self.broken("a lease ends after its ceiling", Some(lease));
        }
        let now = self.time.now();
        let seen = self.seen.entry(lease.id).or_insert(Seen {
            version: 0,
            state: LeaseState::Intent,
            latest_end: lease.expires_at,
            first_at: now,
            has_access_ended: false,
            ending_since: None,
        });
        let is_too_long = lease.expires_at > seen.first_at + longest + SKEW;
        let rank = |state| LeaseState::ALL.iter().position(|one| *one == state);
        let is_back = lease.version < seen.version
            || rank(lease.state) < rank(seen.state)
            || (seen.state.is_final() && lease.version != seen.version);
        let is_over = lease.state == LeaseState::Revoked && seen.state != LeaseState::Revoked;
        let has_lost_access = lease.access_ended_at.is_some() && !seen.has_access_ended;
        let is_kept =
            lease.state == LeaseState::Quarantined && seen.state != LeaseState::Quarantined;
        if lease.state == LeaseState::Revoking {
            seen.ending_since.get_or_insert(now);
        }
        (seen.version, seen.state) = (lease.version, lease.state);
        seen.has_access_ended |= has_lost_access;
        if is_back {
            self.broken("a lease went back", Some(lease));
        }
        if is_too_long {
            self.broken("a lease lives longer than the longest, by the true time", Some(lease));
        }
        if has_lost_access {
            self.check_access_is_over(lease);
        }
        if is_kept {
            self.check_quarantine(lease);
        }
        if is_over {
            self.check_residue(lease);
        }
    }

    /// I-03: when access is said to be over, no session is left that could be seen.
    fn check_access_is_over(&self, lease: &Lease) {
        if self.is_restored() {
            return;
        }
        let state = self.server.state();
        let mut sessions = state.sessions.iter();
        let left = sessions.find(|session| {
            lease.role_oid == Some(session.oid) && session.presence == Presence::Open
        });
        let left = left.cloned();
        drop(state);
        if let Some(left) = left {
            self.broken(&format!("access is over, and a session is left: {left:?}"), Some(lease));
        }
    }

    /// I-08: what keeps a role is listed.
    fn check_quarantine(&mut self, lease: &Lease) {
        self.note(Feat::Quarantined);
        if lease.blockers.is_empty() {
            self.broken("a lease is quarantined and nothing is said to keep it", Some(lease));
        }
    }

    /// I-08: when a lease is over, nothing of it is left; what it owned went where its profile says.
    fn check_residue(&mut self, lease: &Lease) {
        if self.is_restored() {
            return;
        }
        let Some(oid) = lease.role_oid else { return };
        let residue = self.server.state().residue(oid, lease.id);
        if let Some(residue) = residue {
            self.broken(&format!("a lease is over and something is left: {residue}"), Some(lease));
        }
        let made: Vec<u32> = self
            .made
            .iter()
            .filter(|(_, id)| **id == lease.id)
            .map(|(object, _)| *object)
            .collect();
        let is_drop = ROLES
            .iter()
            .any(|(role, _, policy)| *role == lease.role.as_str() && *policy == ObjectPolicy::Drop);
        for object in made {
            self.note(Feat::OwnedObjectGone);
            let owner = self.server.state().objects.get(&object).copied();
            // A DBA who drops a role drops what it owns, whatever its profile says.
            if is_drop && owner.is_some() {
                self.broken("what was to be dropped was kept", Some(lease));
            }
        }
    }

    /// Whether whoever is in a group can become it: before 16 nothing prevents that.
    fn may_set(&self) -> bool {
        !self.server.version.has_membership_options()
    }

    /// I-04, I-07: what the role of a lease can do.
    fn check_role(&self, lease: &Lease) {
        if self.is_restored() {
            return;
        }
        let Some((_, role)) = self.role_of(lease.id) else { return };
        if lease.access_ended_at.is_some() && (role.can_login || !role.memberships.is_empty()) {
            self.broken("access had ended, and the role has it", Some(lease));
        }
        let latest_end = self.seen[&lease.id].latest_end;
        if role.can_login && role.valid_until - role.clock_ahead > latest_end + MARGIN {
            self.broken("a role lets in longer than its lease ever lived", Some(lease));
        }
        if role.can_login && !has_only_its_rights(&role, lease, self.may_set()) {
            self.broken("a role has other rights than its lease", Some(lease));
        }
    }

    /// I-03: every session of a lease whose access is over tries a statement, and fails.
    fn check_sessions(&mut self, leases: &[Lease]) {
        if self.is_restored() {
            return;
        }
        let mut owners: BTreeMap<RoleOid, Vec<&Lease>> = BTreeMap::new();
        for lease in leases {
            if let Some(oid) = lease.role_oid {
                owners.entry(oid).or_default().push(lease);
            }
        }
        let (mut outlived, mut broken) = (0, None);
        {
            let state = self.server.state();
            for session in state.sessions.iter().filter(|one| !self.is_foreign(one)) {
                let its = owners.get(&session.oid).map(Vec::as_slice).unwrap_or_default();
                // After a restore several had the OID, and the session is of the last.
                let is_over = its.iter().all(|lease| lease.access_ended_at.is_some());
                if let Some(lease) = its.first().filter(|_| is_over) {
                    outlived += 1;
                    if state.runs_privileged(session) {
                        broken = Some(((*lease).clone(), session.clone()));
                    }
                }
            }
        }
        if let Some((lease, session)) = broken {
            let promise = format!("access was over, and a session has rights: {session:?}");
            self.broken(&promise, Some(&lease));
        }
        if outlived > 0 {
            self.note(Feat::SessionOutlivedAccess);
        }
    }

    pub(super) fn is_foreign(&self, session: &Session) -> bool {
        self.foreign.sessions.contains_key(&session.pid)
            || self.foreign.roles.contains_key(&session.oid)
    }

    /// I-09: what is not ours is as it was: roles, sessions, objects.
    fn check_foreign(&self) {
        let state = self.server.state();
        let roles = self.foreign.roles.iter();
        let role = roles.clone().find(|(oid, before)| state.roles.get(oid) != Some(before));
        let here: BTreeMap<u32, &Session> =
            state.sessions.iter().map(|session| (session.pid, session)).collect();
        let mut sessions = self.foreign.sessions.iter();
        let session = sessions.find(|(pid, before)| here.get(pid) != Some(before));
        let mut objects = self.foreign.objects.iter();
        let object = objects.find(|(object, owner)| state.objects.get(object) != Some(owner));
        let touched = (role, session, object);
        let touched = (touched != (None, None, None)).then(|| format!("{touched:?}"));
        drop(state);
        if let Some(touched) = touched {
            self.broken(&format!("what is not ours was touched: {touched}"), None);
        }
    }

    /// The roles with our mark that are not a DBA's copies.
    pub(super) fn our_roles(&self) -> Vec<(RoleOid, Role, LeaseId)> {
        let state = self.server.state();
        let rows = self.store.rows();
        let ours = state.roles.iter().filter_map(|(oid, role)| match role.mark {
            MarkerReading::Ours(id) if !self.foreign.roles.contains_key(oid) => {
                Some((*oid, role.clone(), id))
            }
            _ => None,
        });
        // One that was renamed before its OID was known has neither name nor OID to know it by.
        let known = |oid: RoleOid, role: &Role| {
            !role.name.starts_with("renamed_")
                || rows.tables.leases.values().any(|lease| lease.role_oid == Some(oid))
        };
        ours.filter(|(oid, role, _)| known(*oid, role)).collect()
    }
}

fn longest_of(lease: &Lease) -> jiff::SignedDuration {
    let mut roles = ROLES.iter();
    let (_, longest, _) = roles.find(|(role, ..)| *role == lease.role.as_str()).unwrap();
    ttl(longest).span()
}

/// No attribute but LOGIN, and the membership in the lease's group without more.
fn has_only_its_rights(role: &Role, lease: &Lease, may_set: bool) -> bool {
    let [membership] = role.memberships.as_slice() else { return false };
    role.attributes.is_empty()
        && membership.group == lease.role
        && membership.may_set == may_set
        && !membership.has_admin
}

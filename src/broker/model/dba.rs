//! What people do on the model's server: holders of leases with their sessions, and a DBA.

use std::collections::BTreeMap;

use super::server::{Presence, Role, Session};
use super::world::{Feat, World};
use crate::lease::MarkerReading;
use crate::names::{LeaseId, RoleOid};

/// What is not ours, as it was made: it must stay so.
#[derive(Clone, Default)]
pub(super) struct Foreign {
    pub(super) roles: BTreeMap<RoleOid, Role>,
    pub(super) sessions: BTreeMap<u32, Session>,
    pub(super) objects: BTreeMap<u32, RoleOid>,
}

impl World {
    /// The role of a lease, if the server has it and it is no other's.
    pub(super) fn role_of(&self, id: LeaseId) -> Option<(RoleOid, Role)> {
        let oid = self.lease(id)?.role_oid?;
        let role = self.server.state().roles.get(&oid).cloned()?;
        let is_its = role.mark == MarkerReading::Ours(id) && !self.foreign.roles.contains_key(&oid);
        is_its.then_some((oid, role))
    }

    fn oid_of(&self, number: u32) -> Option<RoleOid> {
        self.role_of(self.handed(number)?).map(|(oid, _)| oid)
    }

    fn with_role(&mut self, number: u32, change: impl FnOnce(&mut Role)) {
        if let Some(oid) = self.oid_of(number) {
            self.server.state().roles.get_mut(&oid).map(change);
        }
    }

    pub(super) fn become_group(&mut self, number: u32) {
        if let Some(oid) = self.oid_of(number) {
            self.server.state().set_role(oid);
        }
    }

    /// A session of the lease makes something that it then owns.
    pub(super) fn own_something(&mut self, number: u32) {
        let Some(id) = self.handed(number).filter(|_| self.server.is_up()) else { return };
        let Some(oid) = self.session_of(id) else { return };
        let object = self.server.state().own(oid);
        self.made.insert(object, id);
    }

    /// A session of the lease prepares a transaction, which stays when the session ends.
    pub(super) fn prepare(&mut self, number: u32) {
        let Some(id) = self.handed(number) else { return };
        if let Some(oid) = self.session_of(id) {
            self.server.state().prepared.push(oid);
        }
    }

    /// The OID of a lease that has a session with privileges.
    fn session_of(&self, id: LeaseId) -> Option<RoleOid> {
        let (oid, _) = self.role_of(id)?;
        let state = self.server.state();
        let mut sessions = state.sessions.iter().filter(|session| session.oid == oid);
        sessions.any(|session| state.runs_privileged(session)).then_some(oid)
    }

    pub(super) fn hold(&mut self, number: u32, is_in_use: bool) {
        self.with_role(number, |role| role.is_in_use = is_in_use);
    }

    pub(super) fn rename_role(&mut self, number: u32) {
        self.with_role(number, |role| role.name = format!("renamed_{}", role.name));
    }

    pub(super) fn drop_role(&mut self, number: u32) {
        // Now and then under a session that has become its group.
        if self.chance.once_in(2) {
            self.use_lease(number, Presence::Open);
            self.become_group(number);
        }
        if let Some(oid) = self.oid_of(number) {
            self.server.state().drop_owned_and_role(oid);
        }
    }

    /// F-23: another role takes the name of a lease's role that is gone.
    pub(super) fn take_name(&mut self, number: u32) {
        let Some(lease) = self.handed(number).and_then(|id| self.lease(id)) else { return };
        self.make_foreign(lease.role_name.to_string(), MarkerReading::Invalid);
    }

    /// A role of others gets the mark of a lease's, and a name that is like its.
    pub(super) fn copy_mark(&mut self, number: u32) {
        let Some((_, role)) = self.handed(number).and_then(|id| self.role_of(id)) else { return };
        let similar = [
            format!("{}x", role.name),
            format!("x{}", role.name),
            format!("dba_{}", self.foreign.roles.len()),
            role.name.to_uppercase(),
        ];
        let name = self.chance.pick(&similar).unwrap();
        self.make_foreign(name, role.mark);
    }

    /// Does nothing when the name is taken.
    pub(super) fn make_foreign(&mut self, name: String, mark: MarkerReading) {
        if self.server.state().roles.values().any(|role| role.name == name) {
            return;
        }
        let oid = self.server.make_foreign(name, mark);
        let state = self.server.state();
        self.foreign.roles.insert(oid, state.roles[&oid].clone());
        let sessions = state.sessions.iter().filter(|session| session.oid == oid);
        self.foreign.sessions.extend(sessions.map(|session| (session.pid, session.clone())));
        let objects = state.objects.iter().filter(|(_, owner)| **owner == oid);
        self.foreign.objects.extend(objects.map(|(object, owner)| (*object, *owner)));
    }

    /// A DBA drops a role of others under its session, which stays and has no role any more.
    pub(super) fn drop_foreign(&mut self) {
        let oids: Vec<RoleOid> = self.foreign.roles.keys().copied().collect();
        let Some(oid) = self.chance.pick(&oids) else { return };
        // A session without a role is known by its OID alone: one that a lease's role had before
        // the server was restored, and that others got then, counts as ours.
        if self.leases().iter().any(|lease| lease.role_oid == Some(oid)) {
            return;
        }
        self.server.state().drop_owned_and_role(oid);
        self.foreign.roles.remove(&oid);
        self.foreign.objects.retain(|_, owner| *owner != oid);
        self.note(Feat::ForeignSessionKept);
    }

    pub(super) fn set_server_up(&mut self, is_up: bool) {
        self.server.set_up(is_up);
        if !is_up {
            self.foreign.sessions.clear();
        }
    }

    pub(super) fn back_up(&mut self) {
        let state = self.server.state().clone();
        self.backup = Some((state, self.foreign.clone()));
    }

    pub(super) fn restore(&mut self) {
        let Some((state, foreign)) = self.backup.clone().filter(|_| self.has_restores) else {
            return;
        };
        self.server.state().restore(state);
        self.foreign = foreign;
        self.foreign.sessions.clear();
        self.restored_until = jiff::Timestamp::MAX;
        self.note(Feat::Restored);
    }
}

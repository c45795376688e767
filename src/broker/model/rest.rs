//! The end of a run: faults stop, nobody asks for anything, and everything comes to rest.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::server::Presence;
use super::stand::{GROUPS, PEOPLE};
use super::world::World;
use crate::lease::{Lease, LeaseState};
use crate::names::LeaseId;

/// B: how long after faults have stopped everything that is over is revoked or quarantined, and no
/// role is left without a lease. It is T-rec.
pub(super) const BOUND: Duration = Duration::from_mins(2);

/// How long a log-in is held back: nearly as long as a client can (`post_auth_delay`).
const HELD_BACK: Duration = Duration::from_secs(2140);

/// Time passes in such steps while nothing is to be seen.
const STRIDE: Duration = Duration::from_secs(20);

/// How long a session may last that shows itself when its lease is over: what is left of the
/// 2,200 s in which it may be hidden, of which a client can hold back 2,147.
const SHOWN: Duration = Duration::from_secs(53);

impl World {
    pub(super) fn rest(&mut self) {
        self.let_faults_stop();
        self.let_somebody_lose_every_group();
        self.check();
        self.pass_in_steps(BOUND);
        self.restored_until = Timestamp::MIN;
        self.check();
        self.check_what_is_over_ends(Timestamp::MIN);
        self.check_roles_have_leases();
        self.check_nobody_has_too_much();
        self.check_time();
        self.let_people_go_missing();
        self.let_holders_hide();
        self.let_hidden_sessions_show();
        self.let_go_of_roles();
        self.let_every_lease_end();
        self.check();
        self.check_nothing_is_left();
        self.check_whole_audit();
    }

    fn let_faults_stop(&mut self) {
        self.remember_rest("faults stop");
        self.chance.set_faults(None);
        self.set_server_up(true);
        self.store.set_up(true);
        self.directory.set_up(true);
        self.directory.show_all();
        self.set_walls_right();
        for at in 0..self.brokers.len() {
            self.thaw(at);
            self.start(at);
        }
        self.server.deliver();
    }

    fn let_somebody_lose_every_group(&mut self) {
        let person = self.chance.pick(&PEOPLE).unwrap();
        for group in GROUPS {
            self.directory.set_member(person, group, false);
        }
        self.note_denied();
    }

    /// Whoever holds a lease begins to log in, holds that back, and gives the lease back, while
    /// somebody else keeps the role from being dropped.
    fn let_holders_hide(&mut self) {
        self.remember_rest("holders hide");
        // Nobody hides longer than a client can.
        self.server.reveal();
        let live: Vec<LeaseId> = self.people.held.keys().copied().collect();
        for id in live {
            if self.log_in_with(id, Presence::Hidden).is_some() {
                self.give_back(id);
                let oid = self.role_of(id).map(|(oid, _)| oid);
                let mut state = self.server.state();
                if let Some(role) = oid.and_then(|oid| state.roles.get_mut(&oid)) {
                    role.is_in_use = true;
                }
            }
        }
        let mut passed = Duration::ZERO;
        while passed < HELD_BACK {
            self.advance(STRIDE);
            self.drive();
            passed += STRIDE;
        }
    }

    /// I-03: of a lease that is over no session stays, however long it was held back, and while
    /// something keeps the role.
    fn let_hidden_sessions_show(&mut self) {
        self.remember_rest("sessions that were held back show");
        self.server.reveal();
        self.check();
        self.pass_in_steps(SHOWN);
        let over: BTreeMap<_, Lease> = self
            .leases()
            .into_iter()
            .filter(|lease| lease.access_ended_at.is_some())
            .filter_map(|lease| Some((lease.role_oid?, lease)))
            .collect();
        let live = self.leases();
        let is_live = |oid| {
            let mut live = live.iter().filter(|lease| lease.access_ended_at.is_none());
            live.any(|lease| lease.role_oid == Some(oid))
        };
        let sessions = self.server.state().sessions.clone();
        let left = sessions.iter().find(|session| {
            session.presence != Presence::Hidden
                && !self.is_foreign(session)
                && over.contains_key(&session.oid)
                && !is_live(session.oid)
        });
        if let Some(left) = left {
            let promise = format!("a session was held back, and stays: {left:?}");
            self.broken(&promise, over.get(&left.oid));
        }
    }

    fn let_go_of_roles(&mut self) {
        self.remember_rest("nobody uses what roles own");
        for role in self.server.state().roles.values_mut() {
            role.is_in_use = false;
        }
    }

    /// I-14: hour by hour until every lease and every pause is over; whenever something is over,
    /// it is taken away within the bound.
    fn let_every_lease_end(&mut self) {
        self.remember_rest("every lease ends");
        for _ in 0..11 {
            self.advance(Duration::from_hours(1));
            let since = self.time.now();
            for _ in 0..BOUND.as_secs() {
                if !self.is_something_over(since) {
                    break;
                }
                self.pass_in_steps(Duration::from_secs(1));
            }
            self.check_what_is_over_ends(since);
        }
        self.pass_in_steps(BOUND);
    }

    fn is_something_over(&self, since: Timestamp) -> bool {
        self.leases().iter().any(|lease| {
            let is_ending = lease.state == LeaseState::Revoking && !self.is_taken(lease);
            is_ending || self.is_over_and_there(lease, since)
        })
    }

    /// Whether somebody else's role has the lease's OID, as after a restore: it is not touched, and
    /// whether the lease's role is gone nobody can know.
    fn is_taken(&self, lease: &Lease) -> bool {
        lease.role_oid.is_some_and(|oid| self.foreign.roles.contains_key(&oid))
    }

    fn check_what_is_over_ends(&self, since: Timestamp) {
        let since = if since == Timestamp::MIN { self.time.now() - BOUND } else { since };
        let leases = self.leases();
        if let Some(lease) = leases.iter().find(|lease| self.is_over_and_there(lease, since)) {
            self.broken("a lease is over, and neither revoked nor quarantined", Some(lease));
        }
    }

    /// I-02: every role with our mark has a lease. One that cannot go has no access.
    fn check_roles_have_leases(&self) {
        for (oid, role, id) in self.our_roles() {
            let lease = self.lease(id);
            let is_known = lease.as_ref().is_some_and(|lease| {
                !lease.state.is_final() && lease.role_oid.is_none_or(|own| own == oid)
            });
            let is_kept = role.is_in_use && !role.can_login && role.memberships.is_empty();
            if !is_known && !is_kept {
                self.broken(&format!("role {oid} has no lease that lives"), lease.as_ref());
            }
        }
    }

    /// I-08: with every lease over, nothing is left of any.
    fn check_nothing_is_left(&self) {
        for lease in &self.leases() {
            if !lease.state.is_final() && !self.is_taken(lease) {
                self.broken("a lease is not over", Some(lease));
            }
        }
        if let Some((oid, ..)) = self.our_roles().first() {
            self.broken(&format!("role {oid} is left"), None);
        }
        let state = self.server.state().clone();
        let session = state.sessions.iter().find(|session| !self.is_foreign(session));
        let owns = |oid: &_| state.roles.contains_key(oid) || *oid == super::server::ATTIC;
        let object = state.objects.iter().find(|(_, owner)| !owns(owner));
        let prepared = state.prepared.iter().find(|owner| !owns(owner));
        let left = (session, object, prepared);
        if left != (None, None, None) {
            self.broken(&format!("something is left: {left:?}"), None);
        }
    }

    /// Whether the lease was over at `since` and is neither away nor harmless.
    fn is_over_and_there(&self, lease: &Lease, since: Timestamp) -> bool {
        let is_told = self.seen[&lease.id].ending_since.is_some_and(|told| told <= since);
        match lease.state {
            LeaseState::Intent => lease.create_before <= since,
            LeaseState::Active => lease.expires_at <= since,
            LeaseState::Revoking => !self.is_taken(lease) && (is_told || lease.expires_at <= since),
            LeaseState::Quarantined | LeaseState::Revoked | LeaseState::Aborted => false,
        }
    }
}

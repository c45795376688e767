//! The model of a PostgreSQL server: its roles, sessions and objects, and what the people on it
//! do. What the broker does there is in [`super::roles`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};

use super::chance::Chance;
use crate::clock::Clock;
use crate::lease::MarkerReading;
use crate::lease::plan::ServerVersion;
use crate::names::{ClusterName, LeaseId, RoleName, RoleOid};

/// A role on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) mark: MarkerReading,
    pub(super) can_login: bool,
    pub(super) verifier: Option<String>,
    pub(super) valid_until: Timestamp,
    /// When that was set, by the server's clock.
    pub(super) set_at: Timestamp,
    /// How far the server's clock was ahead then.
    pub(super) clock_ahead: SignedDuration,
    /// What it may beyond LOGIN, such as `CREATEDB`.
    pub(super) attributes: Vec<String>,
    pub(super) memberships: Vec<Membership>,
    /// Somebody uses an object of it: it cannot be dropped.
    pub(super) is_in_use: bool,
}

/// That a role is in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) group: RoleName,
    /// Whether it may become the group (`SET ROLE`).
    pub(super) may_set: bool,
    /// Whether it may let others in.
    pub(super) has_admin: bool,
}

/// A session on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) pid: u32,
    pub(super) oid: RoleOid,
    pub(super) presence: Presence,
    /// The group that it became.
    pub(super) acts_as: Option<RoleName>,
}

/// Whether others see a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// Its log-in is held back (`post_auth_delay`): nobody can see it yet, and it does nothing.
    Hidden,
    /// It was held back and is not any more.
    Revealed,
    /// It was there to be seen from the beginning.
    Open,
}

/// A create that is still on its way through the network.
#[derive(Clone, Debug)]
pub(super) struct Late {
    pub(super) role: Role,
    pub(super) deadline: Timestamp,
}

/// Who owns what roles leave behind on purpose.
pub(super) const ATTIC: RoleOid = RoleOid(100);

/// What the server holds.
#[derive(Clone)]
pub(super) struct State {
    pub(super) roles: BTreeMap<RoleOid, Role>,
    pub(super) sessions: Vec<Session>,
    /// Objects, by number, and who owns each.
    pub(super) objects: BTreeMap<u32, RoleOid>,
    /// Whose prepared transactions there are.
    pub(super) prepared: Vec<RoleOid>,
    pub(super) late: Vec<Late>,
    next_oid: u32,
    /// Counts sessions and objects; never goes back, so that none is taken for another.
    next_number: u32,
}

/// The server. Cloning gives the same one.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) name: ClusterName,
    pub(super) version: ServerVersion,
    state: Arc<Mutex<State>>,
    settings: Arc<Mutex<Settings>>,
    /// The true time.
    time: Clock,
    pub(super) chance: Chance,
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
            objects: BTreeMap::new(),
            prepared: Vec::new(),
            late: Vec::new(),
            next_oid: 16_384,
            next_number: 1,
        };
        let settings = Settings { is_up: true, clock_ahead: SignedDuration::ZERO };
        Self {
            name: name.parse().unwrap(),
            version: ServerVersion(if chance.once_in(2) { 150_018 } else { 160_014 }),
            state: Arc::new(Mutex::new(state)),
            settings: Arc::new(Mutex::new(settings)),
            time,
            chance,
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn is_up(&self) -> bool {
        self.settings.lock().unwrap().is_up
    }

    /// A server that stops ends every session.
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

    /// Opens a session as whoever has the password does, and gives its pid.
    pub(super) fn log_in(&self, name: &str, password: &str, presence: Presence) -> Option<u32> {
        let (now, is_up) = (self.now(), self.is_up());
        let mut state = self.state();
        let oid = state.lets_in(name, password, now).filter(|_| is_up)?;
        Some(state.connect(oid, presence))
    }

    /// Lets every log-in that is held back show itself.
    pub(super) fn reveal(&self) {
        for session in &mut self.state().sessions {
            if session.presence == Presence::Hidden {
                session.presence = Presence::Revealed;
            }
        }
    }

    /// Lets the creates arrive that were held up in the network: what is too late refuses itself.
    pub(super) fn deliver(&self) {
        let late = std::mem::take(&mut self.state().late);
        for create in late {
            if self.now() <= create.deadline {
                self.state().make(create.role);
            }
        }
    }

    /// The OIDs of all sessions that can do what needs a privilege.
    pub(super) fn privileged(&self) -> Vec<RoleOid> {
        let state = self.state();
        let sessions = state.sessions.iter().filter(|session| state.runs_privileged(session));
        sessions.map(|session| session.oid).collect()
    }

    /// A role that a DBA makes, with the mark that they give it, a session and an object.
    pub(super) fn make_foreign(&self, name: String, mark: MarkerReading) -> RoleOid {
        let role = Role {
            name,
            mark,
            can_login: true,
            verifier: None,
            valid_until: Timestamp::MAX,
            set_at: self.now(),
            clock_ahead: self.clock_ahead(),
            attributes: vec!["CREATEDB".to_owned()],
            memberships: vec![Membership {
                group: "orders_read".parse().unwrap(),
                may_set: true,
                has_admin: true,
            }],
            is_in_use: false,
        };
        let is_up = self.is_up();
        let mut state = self.state();
        let oid = state.make(role).expect("a DBA takes a name that is free");
        if is_up {
            state.connect(oid, Presence::Open);
        }
        state.own(oid);
        oid
    }
}

impl State {
    /// The role that the server lets in at `now` by its name and password.
    pub(super) fn lets_in(&self, name: &str, password: &str, now: Timestamp) -> Option<RoleOid> {
        let (oid, role) = self.roles.iter().find(|(_, role)| role.name == name)?;
        let verifier = role.verifier.as_ref().filter(|_| role.can_login)?;
        (role.valid_until > now && fits(verifier, password)).then_some(*oid)
    }

    fn connect(&mut self, oid: RoleOid, presence: Presence) -> u32 {
        let pid = self.number();
        self.sessions.push(Session { pid, oid, presence, acts_as: None });
        pid
    }

    /// Lets the role `oid` own one more object.
    pub(super) fn own(&mut self, oid: RoleOid) -> u32 {
        let number = self.number();
        self.objects.insert(number, oid);
        number
    }

    fn number(&mut self) -> u32 {
        self.next_number += 1;
        self.next_number
    }

    /// Makes a role, unless there is one of its name.
    pub(super) fn make(&mut self, role: Role) -> Option<RoleOid> {
        if self.roles.values().any(|other| other.name == role.name) {
            return None;
        }
        let oid = RoleOid(self.next_oid);
        self.next_oid += 1;
        self.roles.insert(oid, role);
        Some(oid)
    }

    /// What a DBA does: the role goes with all it owns; its sessions stay, as in PostgreSQL.
    pub(super) fn drop_owned_and_role(&mut self, oid: RoleOid) {
        self.objects.retain(|_, owner| *owner != oid);
        self.prepared.retain(|owner| *owner != oid);
        self.roles.remove(&oid);
    }

    /// Puts everything back as it was in `backup`; sessions end.
    pub(super) fn restore(&mut self, backup: Self) {
        let next_number = self.next_number;
        *self = Self { sessions: Vec::new(), late: Vec::new(), next_number, ..backup };
    }

    /// Lets the sessions of `oid` become a group of theirs, where the server lets them.
    pub(super) fn set_role(&mut self, oid: RoleOid) {
        let Some(role) = self.roles.get(&oid) else { return };
        let group = role.memberships.iter().find(|membership| membership.may_set);
        let Some(group) = group.map(|membership| membership.group.clone()) else { return };
        let sessions = self.sessions.iter_mut();
        for session in sessions.filter(|s| s.oid == oid && s.presence != Presence::Hidden) {
            session.acts_as = Some(group.clone());
        }
    }

    /// Whether a statement in `session` that needs the privileges of any group succeeds now.
    pub(super) fn runs_privileged(&self, session: &Session) -> bool {
        let inherits =
            self.roles.get(&session.oid).is_some_and(|role| !role.memberships.is_empty());
        session.presence != Presence::Hidden && (session.acts_as.is_some() || inherits)
    }

    /// Ends the sessions of `oid` that can be seen, and gives how many.
    pub(super) fn end_sessions(&mut self, oid: RoleOid) -> usize {
        let before = self.sessions.len();
        self.sessions.retain(|session| session.oid != oid || session.presence == Presence::Hidden);
        before - self.sessions.len()
    }

    /// What is left on the server of a role that had `oid`, if anything is: itself if it has the
    /// mark of `lease`, a session that could be seen, an object, a prepared transaction.
    pub(super) fn residue(&self, oid: RoleOid, lease: LeaseId) -> Option<String> {
        let role = self.roles.get(&oid).filter(|role| role.mark == MarkerReading::Ours(lease));
        let mut sessions = self.sessions.iter();
        let session = sessions.find(|s| s.oid == oid && s.presence == Presence::Open);
        let object = self.objects.iter().find(|(_, owner)| **owner == oid);
        let prepared = self.prepared.iter().find(|owner| **owner == oid);
        let found = (role, session, object, prepared);
        (found != (None, None, None, None)).then(|| format!("{found:?}"))
    }
}

/// Whether `password` is the one that the verifier was made of (RFC 5802 section 3), with one
/// round: then the salted password is a single HMAC (RFC 8018 section 5.2).
fn fits(verifier: &str, password: &str) -> bool {
    let text = verifier.strip_prefix("SCRAM-SHA-256$1:").expect("one round");
    let (salt, keys) = text.split_once('$').unwrap();
    let mut salt = STANDARD.decode(salt).unwrap();
    salt.extend(1_u32.to_be_bytes());
    let salted = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, password.as_bytes()), &salt);
    let key = hmac::Key::new(hmac::HMAC_SHA256, salted.as_ref());
    let client_key = hmac::sign(&key, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    keys.split_once(':').unwrap().0 == STANDARD.encode(stored_key.as_ref())
}

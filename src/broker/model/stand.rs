//! What a world is made of: its people, their roles, and the settings of its brokers.

use std::sync::Arc;

use super::directory::Directory;
use super::server::Server;
use super::store::ModelStore;
use crate::auth::{Lockout, LockoutRule, SessionTimes};
use crate::broker::{Broker, Parts, Request};
use crate::clock::Clock;
use crate::cluster::{ClientConnection, ClientSslMode, LeaseRoles};
use crate::lease::Terms;
use crate::mapping::{Case, Dialect, IdentMap, Maps, ObjectPolicy, Policy, Profile, Target};
use crate::names::{LeaseLimit, RolePrefix, ScramIterations, Ttl};

pub(super) const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];

/// The roles, each with the longest life of its leases and what becomes of what they own.
pub(super) const ROLES: [(&str, &str, ObjectPolicy); 2] =
    [("orders_read", "8h", ObjectPolicy::Drop), ("orders_write", "1h", ObjectPolicy::Reassign)];

/// The group that lets its members act as a role has the same name; one more makes operators.
pub(super) const GROUPS: [&str; 3] = ["orders_read", "orders_write", "operators"];

/// What people ask for; not all of it is allowed for every role.
pub(super) const TTLS: [&str; 5] = ["1s", "30s", "15m", "1h", "2h"];

/// The longest of them.
pub(super) const TTL_MOST: &str = "2h";

/// For how long the last look counts while nobody can look.
pub(super) const GRACE: &str = "10m";

/// For how long it counts for who asks for a lease.
pub(super) const RECHECK: &str = "1m";

pub(super) fn ttl(text: &str) -> Ttl {
    text.parse().unwrap()
}

pub(super) fn request(number: u32) -> Request {
    Request { id: format!("request-{number}"), client: [127, 0, 0, 1].into(), agent: None }
}

/// A broker on the store, the server and the directory, not started yet.
pub(super) fn broker(
    clock: Clock,
    store: &ModelStore,
    servers: &[&Server],
    directory: &Directory,
) -> Broker {
    let cluster = |server: &&Server| (Box::new((*server).clone()) as Box<dyn LeaseRoles>, client());
    Broker::new(Parts {
        store: Arc::new(store.clone()),
        clock,
        ways: vec![Arc::new(directory.clone())],
        policy: policy(),
        map_source: None,
        clusters: servers.iter().map(cluster).collect(),
        terms: Terms {
            role_prefix: RolePrefix::default(),
            create_within: ttl("30s"),
            outlive_login: false,
        },
        session: SessionTimes { idle: ttl("4h"), absolute: ttl("8h") },
        lockout: lockout(),
        reconcile_every: ttl("1m"),
        recheck_every: ttl(RECHECK),
        recheck_grace: ttl(GRACE),
        // More than one of the few people there are is many.
        max_missing: 1,
        max_clock_skew: ttl("2m"),
    })
}

fn client() -> ClientConnection {
    ClientConnection {
        host: "orders".to_owned(),
        port: 5432,
        sslmode: ClientSslMode::VerifyFull,
        sslrootcert: None,
        root_certificate: None,
    }
}

fn lockout() -> Lockout {
    let rule = LockoutRule { failures: 1_000_000, window: ttl("15m"), pause: ttl("15m") };
    Lockout { account: rule, everywhere: rule, source: rule }
}

fn policy() -> Policy {
    let profiles = ROLES.map(|(role, max_ttl, owned_objects)| {
        let (role, database) = (role.parse().unwrap(), "orders".parse().unwrap());
        Arc::new(Profile {
            max_leases: LeaseLimit::try_from(4).unwrap(),
            // So few are computed at once, in order; and the model's server knows only one.
            scram_iterations: ScramIterations::try_from(1).unwrap(),
            owned_objects,
            ..Profile::plain(role, database, ttl("15m"), ttl(max_ttl))
        })
    });
    let map = b"corp orders_read orders_read\ncorp orders_write orders_write\nduties operators operator\n";
    let maps = |name: &str| Maps {
        map: None,
        group_map: Some(name.parse().unwrap()),
        case: Case::Sensitive,
    };
    Policy {
        map: IdentMap::parse(Dialect::default(), "pg_ident.conf", map).unwrap(),
        ways: [("corp".parse().unwrap(), maps("corp"))].into(),
        access: maps("duties"),
        targets: vec![Target { cluster: "orders".parse().unwrap(), profiles: profiles.to_vec() }],
    }
}

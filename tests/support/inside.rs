//! A broker in the process of the test, between a real PostgreSQL, a real directory and a store of
//! the test's choice. It is made from a configuration file, as the program makes it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pgbridge::auth::ldap::LdapWay;
use pgbridge::auth::way::Way;
use pgbridge::auth::{Identity, Session};
use pgbridge::broker::{Broker, Caller, PartHealth, Parts, Request, Wish, Workers};
use pgbridge::clock::Clock;
use pgbridge::cluster::{Cluster, LeaseRoles};
use pgbridge::config;
use pgbridge::lease::{Lease, LeaseState, MarkerKey};
use pgbridge::names::{SessionToken, Ttl};
use pgbridge::store::sqlite::SqliteStore;
use pgbridge::store::{Change, LeaseFilter, Store};
use serde_json::{Value, json};
use uuid::Uuid;

use super::broker::{config as usual_config, write_own_files};
use super::{Directory, Postgres, SOON, Scratch};

/// PostgreSQL, a directory and what brokers are made of; all of it ends on drop.
pub struct Inside {
    pub postgres: Postgres,
    pub directory: Directory,
    eye: tokio_postgres::Client,
    scratch: Scratch,
}

/// A store's share of the cluster: what its brokers write into the marks and names of their roles,
/// and nobody else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(pub u16);

impl Share {
    fn broker(self) -> String {
        format!("b{}", self.0)
    }

    fn role_prefix(self) -> String {
        format!("pgb{:04x}_", self.0)
    }

    fn key(self) -> MarkerKey {
        MarkerKey::from_hex(&format!("{:064x}", self.0)).expect("a key")
    }
}

impl Inside {
    /// Starts both, with a configuration that `edit` makes of the usual one.
    pub async fn start(major: u32, edit: impl Fn(&Postgres, String) -> String) -> Self {
        let (postgres, directory) = (Postgres::start(major), Directory::start());
        let scratch = Scratch::new("inside");
        write_own_files(&scratch, &postgres, &directory);
        let text = edit(&postgres, usual_config(&postgres, &directory, "pgb_", 1));
        scratch.write("pgbridge.toml", &text, None);
        let eye = postgres.eye().await;
        Self { postgres, directory, eye, scratch }
    }

    /// The store in a file of that name, made when it is not there.
    pub fn store(&self, name: &str) -> Arc<SqliteStore> {
        Arc::new(SqliteStore::open(&self.file(name)).expect("a store can be made"))
    }

    /// A file that brokers use, such as a store.
    pub fn file(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// A broker that has not begun its work.
    pub fn broker(&self, share: Share, store: Arc<dyn Store>, clock: Clock) -> Broker {
        let loaded = config::load(&self.scratch.join("pgbridge.toml"));
        let config = loaded.unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        let mut settings = config.broker;
        settings.id = share.broker().parse().expect("a name");
        settings.terms.role_prefix = share.role_prefix().parse().expect("a prefix");
        let key = Arc::new(share.key());
        let clusters = config.clusters.into_iter().map(|entry| {
            let (id, prefix) = (settings.id.clone(), settings.terms.role_prefix.clone());
            let cluster = Cluster::new(entry.settings, id, Arc::clone(&key), prefix);
            let cluster = cluster.expect("usable settings");
            (Box::new(cluster) as Box<dyn LeaseRoles>, entry.client)
        });
        Broker::new(Parts {
            store,
            clock,
            ways: config
                .ways
                .into_iter()
                .map(|way| Arc::new(LdapWay::new(way).expect("a way")) as Arc<dyn Way>)
                .collect(),
            policy: config.policy,
            map_source: Some((config.map_source, config.map_reload_every)),
            clusters: clusters.collect(),
            terms: settings.terms,
            session: config.session,
            lockout: config.lockout,
            reconcile_every: settings.reconcile_every,
            max_clock_skew: settings.max_clock_skew,
            recheck_every: settings.recheck_every,
            recheck_grace: settings.recheck_grace,
            max_missing: settings.max_missing,
        })
    }

    /// Runs `text` as the superuser and gives the first column of its rows.
    pub async fn see(&self, text: &str) -> Vec<String> {
        let rows = self.eye.simple_query(text).await;
        let rows = rows.unwrap_or_else(|error| panic!("{text}: {error:?}"));
        let first = rows.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        first.map(str::to_owned).collect()
    }

    /// The lease roles on the cluster, whatever a broker thinks of them.
    pub async fn lease_roles(&self, share: Share) -> BTreeSet<String> {
        let prefix = share.role_prefix();
        let text = format!("SELECT rolname FROM pg_roles WHERE starts_with(rolname, '{prefix}')");
        self.see(&text).await.into_iter().collect()
    }

    /// Returns once the cluster holds the roles of the live leases and no other, no lease is on its
    /// way, and no transaction of a broker is left open. Gives the live leases.
    pub async fn in_order(&self, share: Share, store: &dyn Store, what: &str) -> Vec<Lease> {
        let open = "SELECT pid FROM pg_stat_activity \
                    WHERE usename = 'pgbridge' AND state LIKE 'idle in transaction%'";
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let leases = live_leases(store).await;
            let roles = self.lease_roles(share).await;
            let known: BTreeSet<String> =
                leases.iter().map(|lease| lease.role_name.to_string()).collect();
            let settled = leases.iter().all(|lease| lease.state == LeaseState::Active);
            if settled && known == roles && self.see(open).await.is_empty() {
                return leases;
            }
            let late = tokio::time::Instant::now() > deadline;
            assert!(!late, "{what}: roles {roles:?}\n{}", told(store, &leases).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Leases that are not over.
pub async fn live_leases(store: &dyn Store) -> Vec<Lease> {
    let states = LeaseState::ALL.into_iter().filter(|state| !state.is_final()).collect();
    let filter = LeaseFilter { states, ..LeaseFilter::default() };
    store.leases(&filter).await.expect("the store works")
}

/// Every audit record, oldest first.
pub async fn audit(store: &dyn Store) -> Vec<Value> {
    let entries = store.audit_after(0, u32::MAX).await.expect("the store works");
    let record = |json: &str| serde_json::from_str::<Value>(json).expect("a record is JSON");
    entries.iter().map(|entry| record(&entry.json)).collect()
}

/// What a test that failed shows.
async fn told(store: &dyn Store, leases: &[Lease]) -> String {
    let records = audit(store).await;
    let last: Vec<String> = records.iter().rev().take(12).map(Value::to_string).collect();
    format!("leases {leases:#?}\nlast records, newest first:\n{}", last.join("\n"))
}

/// A request of a test.
pub fn request() -> Request {
    Request { id: Uuid::new_v4().to_string(), client: [127, 0, 0, 1].into(), agent: None }
}

/// Ten minutes of `orders_read`.
pub fn wish() -> Wish {
    let ttl = Some(length("10m"));
    let role = Some("orders_read".to_owned());
    Wish { cluster: "orders".to_owned(), role, ttl, ..Wish::default() }
}

/// A length of time such as `10m`.
pub fn length(text: &str) -> Ttl {
    text.parse().expect("a length of time")
}

/// The machine's time.
pub fn now() -> Timestamp {
    Clock::system().now()
}

/// Alice, who may act as `orders_read`, as a session remembers her that begins now.
pub async fn alice(broker: &Broker, store: &dyn Store, now: Timestamp) -> Caller {
    remembered(broker, store, now, "alice", "orders-readers").await
}

/// Bob, who may act as `orders_read` and `orders_write`, as a session remembers him that begins now.
pub async fn bob(broker: &Broker, store: &dyn Store, now: Timestamp) -> Caller {
    remembered(broker, store, now, "bob", "orders-readers").await
}

/// Carol, an operator, as a session remembers her that begins now.
pub async fn carol(broker: &Broker, store: &dyn Store, now: Timestamp) -> Caller {
    remembered(broker, store, now, "carol", "operators").await
}

async fn remembered(
    broker: &Broker,
    store: &dyn Store,
    now: Timestamp,
    account: &str,
    group: &str,
) -> Caller {
    let token = SessionToken::random(&mut rand::rng());
    let text = json!({
        "principal": { "method": "ldap", "directory": "corp", "account": account },
        "groups": [format!("cn={group},ou=groups,dc=example,dc=test")],
        "authenticated_at": now,
        "expires_at": now + Duration::from_hours(24),
    });
    let identity = Identity::from_session_json(&text.to_string()).expect("an identity");
    let session = Session::begin(Uuid::new_v4(), token.hash(), identity, now);
    let begun = Change::BeginSession(Box::new(session));
    let subject = pgbridge::audit::Subject::Broker;
    let record = pgbridge::audit::Record::new(now, pgbridge::audit::Action::Login, subject);
    store.commit(vec![begun], vec![record]).await.expect("the store works");
    broker.authenticate(&request(), &token).await.expect("they have a session")
}

/// Starts the broker's work and returns once it has compared store and cluster.
pub async fn started(broker: &Broker, clock: &Clock) -> Workers {
    let workers = broker.start();
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let health = broker.health().await;
        if health.clusters.iter().all(|(_, part)| *part == PartHealth::Up) {
            return workers;
        }
        assert!(tokio::time::Instant::now() < deadline, "{health:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
        // So that the next answer is a new one.
        clock.advance(Duration::from_secs(1));
    }
}

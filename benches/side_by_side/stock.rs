//! A broker that starts with 100,000 live leases in its store, and their roles on the cluster.

use std::fmt::Write;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pgbridge::audit::{Action, Record, Subject};
use pgbridge::lease::{Lease, LeaseState, Marker, MarkerKey};
use pgbridge::mapping::{ObjectPolicy, RuleRef};
use pgbridge::names::{LeaseId, LeaseRoleName, Principal, RoleOid, RolePrefix};
use pgbridge::store::sqlite::SqliteStore;
use pgbridge::store::{Change, Store};

use super::measure::rounded;
use super::stand::Stand;
use super::support::{Postgres, Scratch};

const LEASES: usize = 100_000;
/// Leases made in one transaction.
const TOGETHER: usize = 1000;

pub async fn run() {
    let (send, prepared) = std::sync::mpsc::channel();
    let stand = Stand::start_prepared(move |scratch, postgres| {
        let leases = prepare(scratch, postgres);
        send.send(leases).expect("somebody waits for it");
    })
    .await;
    let leases = prepared.recv().expect("the leases were made");
    // One whole comparison later.
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!(
        "{}",
        serde_json::json!({
            "bench": "start_100k", "leases": leases,
            "seconds": rounded(stand.started_in.as_secs_f64()), "rss_mb": stand.peak_rss_mb(),
        })
    );
}

/// Writes the leases into the store, and makes their roles.
fn prepare(scratch: &Scratch, postgres: &Postgres) -> usize {
    let mut rng = rand::rng();
    let key = MarkerKey::random(&mut rng);
    scratch.write("marker.key", &key.expose_hex(), None);
    let ids: Vec<LeaseId> = (0..LEASES).map(|_| LeaseId::random(&mut rng)).collect();
    let (broker, cluster) = ("main".parse().expect("a name"), "orders".parse().expect("a name"));
    let mut leases: Vec<Lease> = ids.into_iter().map(lease).collect();
    for some in leases.chunks(TOGETHER) {
        let mut text = String::new();
        for lease in some {
            let (role, until) = (lease.role_name.as_str(), lease.expires_at);
            let mark = Marker::new(&key, &broker, &cluster, lease.id);
            let _ = writeln!(
                text,
                "CREATE ROLE {role} LOGIN VALID UNTIL '{until}' IN ROLE orders_write; \
                 COMMENT ON ROLE {role} IS '{mark}';"
            );
        }
        let file = scratch.write("roles.sql", &format!("BEGIN; {text} COMMIT;"), None);
        let mut psql = postgres.superuser("postgres");
        let made = psql.stdin(File::open(file).expect("it was just written")).status();
        assert!(made.expect("psql is installed").success(), "the roles cannot be made");
    }
    let oids =
        postgres.sql("postgres", "SELECT rolname, oid FROM pg_roles WHERE rolname LIKE 'pgb\\_%'");
    let oids: std::collections::HashMap<String, u32> =
        oids.into_iter().map(|row| (row[0].clone(), row[1].parse().expect("an OID"))).collect();
    for lease in &mut leases {
        lease.role_oid = oids.get(lease.role_name.as_str()).copied().map(RoleOid);
    }
    let path = scratch.join("pgbridge.db");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(write(Arc::new(SqliteStore::open(&path).expect("a new store")), leases));
    })
    .join()
    .expect("the leases are written");
    LEASES
}

async fn write(store: Arc<SqliteStore>, leases: Vec<Lease>) {
    for some in leases.chunks(TOGETHER) {
        let changes = some.iter().map(|lease| Change::OpenLease(Box::new(lease.clone()))).collect();
        let record = Record::new(now(), Action::LeaseIssued, Subject::Broker);
        store.commit(changes, vec![record]).await.expect("the store takes them");
    }
}

fn lease(id: LeaseId) -> Lease {
    let principal =
        Principal::Ldap { directory: "corp".parse().expect("a name"), account: "alice".into() };
    Lease {
        id,
        version: 2,
        state: LeaseState::Active,
        role_name: LeaseRoleName::new(&RolePrefix::default(), &principal, id),
        principal,
        account_id: None,
        cluster: "orders".parse().expect("a name"),
        database: "orders".parse().expect("a name"),
        role: "orders_write".parse().expect("a name"),
        role_oid: None,
        requested_at: now(),
        create_before: now(),
        expires_at: now() + Duration::from_hours(4),
        ceiling: now() + Duration::from_hours(8),
        owned_objects: ObjectPolicy::Reassign,
        request_key: None,
        reason: Some("ticket 4711".to_owned()),
        client: [127, 0, 0, 1].into(),
        rule: RuleRef { file: "pg_ident.conf".into(), line: 1 },
        revision: serde_json::from_value("r1".into()).expect("a revision is text"),
        because: None,
        end: None,
        access_ended_at: None,
        gone_at: None,
        attempts: 0,
        retry_at: None,
        blockers: Vec::new(),
    }
}

fn now() -> Timestamp {
    Timestamp::now()
}

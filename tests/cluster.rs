//! Lease roles on real servers, by a broker whose login is no superuser.

mod create;
mod faults;
mod hostile;
mod lanes;
mod limits;
mod locked;
mod many;
mod orphans;
mod quoting;
mod races;
mod residue;
mod revoke;

use std::fs;
use std::io::Write;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pgbridge::cluster::{
    Cluster, ClusterPassword, ClusterSettings, CreateError, Created, RoleTarget,
};
use pgbridge::dial::ServerTls;
use pgbridge::lease::{Lease, LeaseState, MarkerKey};
use pgbridge::mapping::{MapRevision, ObjectPolicy, Profile, RuleRef};
use pgbridge::names::{
    LeaseId, LeaseRoleName, Password, Principal, RolePrefix, ScramIterations, Ttl, Verifier,
};

use crate::support::{BROKER_LOGIN, BROKER_PASSWORD, Postgres, SOON, until, wait_for};

/// Both sides of the change of CREATEROLE in 16.
const MAJORS: [u32; 2] = [15, 16];

/// Every major that is supported.
const ALL_MAJORS: [u32; 6] = [13, 14, 15, 16, 17, 18];

/// Time enough to make a role.
pub const WITHIN: Duration = Duration::from_secs(30);

/// A server, and a broker's view of it.
struct Site {
    major: u32,
    postgres: Postgres,
    cluster: Cluster,
}

/// A lease role and what its holder knows.
struct Held {
    lease: Lease,
    password: Password,
    created: Created,
}

impl Site {
    fn start(major: u32) -> Self {
        let postgres = Postgres::start(major);
        let cluster = open(settings(&postgres), "b1", '7');
        Self { major, postgres, cluster }
    }

    /// Makes a role of `group`, with a lease of an hour.
    async fn hold(&self, group: &str) -> Held {
        self.try_hold(group).await.unwrap_or_else(|error| panic!("{group}: {error:?}"))
    }

    async fn try_hold(&self, group: &str) -> Result<Held, CreateError> {
        self.issue(lease(group), &profile(group), WITHIN).await
    }

    async fn issue(
        &self,
        mut lease: Lease,
        profile: &Profile,
        within: Duration,
    ) -> Result<Held, CreateError> {
        let (password, verifier) = credential();
        let created = self.cluster.create(&lease, profile, &verifier, hour(), within).await?;
        lease.role_oid = Some(created.role_oid);
        lease.state = LeaseState::Active;
        Ok(Held { lease, password, created })
    }

    /// Logs in as the holder does and runs `text`.
    fn use_it(&self, held: &Held, database: &str, text: &str) -> Result<Vec<Vec<String>>, String> {
        let (role, password) = (held.lease.role_name.as_str(), held.password.expose());
        self.postgres.sql_as(role, password, database, text)
    }

    /// One value that the superuser sees.
    #[track_caller]
    fn see(&self, text: &str) -> String {
        self.postgres.sql("postgres", text).concat().concat()
    }

    /// How many roles have the OID of `held`.
    #[track_caller]
    fn roles_of(&self, held: &Held) -> String {
        self.see(&format!("SELECT count(*) FROM pg_roles WHERE oid = {}", held.created.role_oid))
    }
}

/// A superuser's session with an open transaction; rolls back on drop.
struct Transaction(Child);

impl Site {
    /// Runs `statement` as the superuser and leaves its transaction open.
    fn hold_open(&self, statement: &str) -> Transaction {
        self.hold_open_in("postgres", statement)
    }

    /// The same in `database`.
    fn hold_open_in(&self, database: &str, statement: &str) -> Transaction {
        let mut psql = self.postgres.superuser(database);
        psql.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut session = psql.spawn().expect("psql is installed");
        let input = session.stdin.as_mut().expect("it has an input");
        writeln!(input, "BEGIN; {statement};").expect("it reads");
        let open = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'";
        wait_for("an open transaction", SOON, || (self.see(open) == "1").then_some(()));
        Transaction(session)
    }

    /// Returns once a session of the broker waits for a lock.
    async fn broker_is_waiting(&self) {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE usename = 'pgbridge' AND wait_event_type = 'Lock'";
        until("the broker to wait", async || (self.see(waiting) == "1").then_some(())).await;
    }

    /// Runs `text` as the superuser.
    #[track_caller]
    fn dba(&self, text: &str) {
        self.postgres.sql("postgres", text);
    }

    /// Makes a group, which the broker may hand on.
    #[track_caller]
    fn group(&self, quoted: &str) {
        self.dba(&format!("CREATE ROLE {quoted} NOLOGIN"));
        self.let_broker_hand_on(quoted);
    }

    #[track_caller]
    fn let_broker_hand_on(&self, quoted: &str) {
        if self.major >= 16 {
            let options = "WITH ADMIN TRUE, INHERIT FALSE, SET FALSE";
            self.dba(&format!("GRANT {quoted} TO pgbridge_admin {options}"));
        }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

impl Held {
    fn target(&self) -> RoleTarget {
        RoleTarget::of(&self.lease)
    }

    fn name(&self) -> &str {
        self.lease.role_name.as_str()
    }
}

pub fn settings(postgres: &Postgres) -> ClusterSettings {
    let roots = fs::read_to_string(postgres.ca_file()).expect("the authority's certificate");
    ClusterSettings {
        name: "orders".parse().expect("a name"),
        host: "127.0.0.1".parse().expect("an address"),
        port: postgres.port(),
        user: BROKER_LOGIN.parse().expect("a name"),
        password: ClusterPassword::from_file(BROKER_PASSWORD.to_owned()),
        database: "postgres".parse().expect("a name"),
        tls: ServerTls::VerifyFull { roots: Some(roots) },
        admin_role: Some("pgbridge_admin".parse().expect("a name")),
        attic_role: Some("pgbridge_attic".parse().expect("a name")),
        issue_connections: 4,
        revoke_connections: 2,
        connect_timeout: Duration::from_secs(15),
        statement_timeout: Duration::from_mins(1),
        lock_timeout: Duration::from_secs(10),
    }
}

/// Opens a cluster with a marker key of 64 times the same digit.
pub fn open(settings: ClusterSettings, broker: &str, digit: char) -> Cluster {
    let hex: String = [digit; 64].iter().collect();
    let key = Arc::new(MarkerKey::from_hex(&hex).expect("a key"));
    let broker = broker.parse().expect("a name");
    Cluster::new(settings, broker, key, RolePrefix::default()).expect("usable settings")
}

pub fn hour() -> Ttl {
    "1h".parse().expect("a length of time")
}

pub fn credential() -> (Password, Verifier) {
    let mut rng = rand::rng();
    let password = Password::random(&mut rng);
    let verifier = password.verifier(ScramIterations::DEFAULT, &mut rng);
    (password, verifier)
}

pub fn profile(group: &str) -> Profile {
    let (role, database) = (group.parse().expect("a name"), "orders".parse().expect("a name"));
    let plain = Profile::plain(role, database, hour(), hour());
    Profile { owned_objects: ObjectPolicy::Reassign, ..plain }
}

/// An intent of alice's for `group`, as the broker has written it down.
pub fn lease(group: &str) -> Lease {
    let id = LeaseId::random(&mut rand::rng());
    let directory = "corp".parse().expect("a name");
    let principal = Principal::Ldap { directory, account: "alice".into() };
    let now = Timestamp::UNIX_EPOCH;
    Lease {
        id,
        version: 1,
        state: LeaseState::Intent,
        role_name: LeaseRoleName::new(&RolePrefix::default(), &principal, id),
        principal,
        account_id: None,
        cluster: "orders".parse().expect("a name"),
        database: "orders".parse().expect("a name"),
        role: group.parse().expect("a name"),
        role_oid: None,
        requested_at: now,
        create_before: now + WITHIN,
        expires_at: now + hour().span(),
        ceiling: now + hour().span(),
        owned_objects: ObjectPolicy::Reassign,
        request_key: None,
        reason: None,
        client: [127, 0, 0, 1].into(),
        rule: RuleRef { file: "pg_ident.conf".into(), line: 1 },
        revision: revision(),
        because: None,
        end: None,
        access_ended_at: None,
        gone_at: None,
        attempts: 0,
        retry_at: None,
        blockers: Vec::new(),
    }
}

fn revision() -> MapRevision {
    serde_json::from_value("r1".into()).expect("a revision is text")
}

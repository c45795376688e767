//! What a test asks to know whether a broker and its cluster are in order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use reqwest::Method;
use rusqlite::OpenFlags;
use serde_json::Value;

use super::{Caller, SOON, TestBed};

/// Asks `probe` until it gives a value.
///
/// # Panics
/// When it has given none after a while, naming `what` was waited for.
pub async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited {SOON:?} for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The superuser's lock on the table of roles: nobody makes or changes one while it is held.
pub async fn locked_roles(bed: &TestBed) -> tokio_postgres::Client {
    let eye = bed.postgres.eye().await;
    let lock = "BEGIN; LOCK TABLE pg_authid IN SHARE MODE";
    eye.batch_execute(lock).await.expect("nobody holds a lock");
    eye
}

/// The process of the broker's session that waits for a lock, once there is one.
pub async fn waiting(bed: &TestBed) -> String {
    let waits = "SELECT pid FROM pg_stat_activity \
                 WHERE usename = 'pgbridge' AND wait_event_type = 'Lock'";
    until("the broker to wait for the lock", async || {
        bed.postgres.sql("postgres", waits).concat().first().cloned()
    })
    .await
}

impl TestBed {
    /// Whether the kernel knows a connection to the broker that the broker has not closed.
    pub fn has_clients(&self) -> bool {
        let url = self.url();
        let port = url.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        let here = format!(":{:04X}", port.expect("a port"));
        let table = fs::read_to_string("/proc/net/tcp").expect("the kernel tells");
        table.lines().skip(1).any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, _, state) = (fields.next(), fields.next(), fields.next());
            // Established, or closed by the client only.
            local.is_some_and(|local| local.ends_with(&here)) && matches!(state, Some("01" | "08"))
        })
    }

    /// Returns once nobody is connected to the broker.
    pub async fn is_left_alone(&self) {
        until("the broker to see that its client is gone", async || {
            (!self.has_clients()).then_some(())
        })
        .await;
    }

    /// Every record of the audit, with its number.
    pub fn records(&self) -> Vec<Value> {
        let mut export = self.program();
        export.args(["audit", "export", "--config"]).arg(self.file("pgbridge.toml"));
        let output = export.output().expect("pgbridge can be run");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("JSON lines");
        text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }

    /// Returns once a record of `action` about the lease `id` is there.
    pub async fn is_told(&self, action: &str, id: &str) {
        until(action, async || (self.told(action, id) > 0).then_some(())).await;
    }

    /// How many records there are of `action` about the lease `id`.
    pub fn told(&self, action: &str, id: &str) -> usize {
        let about = |record: &&Value| record["action"] == action && record["lease"] == id;
        self.records().iter().filter(about).count()
    }

    /// The roles of the person's live leases, as the broker tells; nothing while it does not.
    pub async fn live_roles(&self, token: &str) -> Option<BTreeSet<String>> {
        let path = "/v1/leases?state=intent,active,revoking,quarantined";
        let answer = self.call(Method::GET, path, Caller::Session(token), None).await;
        let leases = answer.json()["leases"].as_array()?.clone();
        leases.iter().map(|lease| lease["role_name"].as_str().map(str::to_owned)).collect()
    }

    /// The same once none of the leases is on its way to be made or to end.
    pub async fn roles_at_rest(&self, token: &str) -> BTreeSet<String> {
        until("nothing to be on its way", async || {
            let path = "/v1/leases?state=intent,revoking,quarantined";
            let way = self.call(Method::GET, path, Caller::Session(token), None).await;
            let is_none = way.json()["leases"].as_array().is_some_and(Vec::is_empty);
            if is_none { self.live_roles(token).await } else { None }
        })
        .await
    }

    /// Returns once the roles on the cluster are `roles`, and the person's live leases theirs.
    pub async fn in_order(&self, token: &str, roles: &[&str]) {
        let wanted: BTreeSet<String> = roles.iter().map(|role| (*role).to_owned()).collect();
        let mut seen = String::new();
        let deadline = tokio::time::Instant::now() + SOON;
        while tokio::time::Instant::now() < deadline {
            let (live, roles) = (self.live_roles(token).await, self.lease_roles());
            let roles: BTreeSet<String> = roles.into_iter().collect();
            if live.as_ref() == Some(&wanted) && roles == wanted {
                return;
            }
            seen = format!("leases {live:?}, roles {roles:?}, wanted {wanted:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{seen}\n{}", self.log());
    }

    /// Whether the role can log in, by the cluster's clock.
    pub fn has_login(&self, role: &str) -> bool {
        let query = format!(
            "SELECT 1 FROM pg_roles WHERE rolname = '{role}' AND rolcanlogin AND rolvaliduntil > now()"
        );
        !self.postgres.sql("postgres", &query).is_empty()
    }

    /// Whether the role can log in, or has a right by being in a group.
    pub fn has_access(&self, role: &str) -> bool {
        let query = format!(
            "SELECT 1 FROM pg_roles AS r WHERE rolname = '{role}' AND (rolcanlogin AND \
             coalesce(rolvaliduntil > now(), true) OR EXISTS (SELECT FROM pg_auth_members \
             WHERE member = r.oid))"
        );
        !self.postgres.sql("postgres", &query).is_empty()
    }

    /// Holds the audit against the leases in the file of the store: every record is there, in one
    /// row of numbers, and tells each lease's life once, as far as it has come.
    ///
    /// # Panics
    /// When it does not.
    pub fn assert_audit_is_whole(&self) {
        let records = self.records();
        let numbers: Vec<u64> =
            records.iter().map(|record| record["seq"].as_u64().expect("a number")).collect();
        let all: Vec<u64> = (1..).take(numbers.len()).collect();
        assert_eq!(numbers, all);
        let mut told: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for record in &records {
            // What failed or was refused moved nothing, but for what was never made.
            let moved = record["outcome"] == "done" || record["action"] == "lease.aborted";
            if let Some(lease) = record["lease"].as_str().filter(|_| moved) {
                let action = record["action"].as_str().expect("an action");
                *told.entry(lease).or_default().entry(action).or_default() += 1;
            }
        }
        for (id, state) in self.states() {
            let story = told.get(id.as_str()).cloned().unwrap_or_default();
            let count = |action: &str| story.get(action).copied().unwrap_or(0);
            let [issued, ended, revoked, lost, aborted] = [
                "lease.issued",
                "lease.revoke_requested",
                "lease.revoked",
                "lease.lost",
                "lease.aborted",
            ]
            .map(count);
            let (opened, access) = (count("lease.requested"), count("lease.access_ended"));
            assert!(opened == 1 && issued <= 1 && access <= 1, "{id} {state}: {story:?}");
            let fits = match state.as_str() {
                "intent" => [issued, ended, revoked, lost, aborted] == [0; 5],
                "active" => [issued, ended, revoked, lost, aborted] == [1, 0, 0, 0, 0],
                "revoking" | "quarantined" => [ended, revoked, lost, aborted] == [1, 0, 0, 0],
                "revoked" => [ended, revoked + lost, aborted] == [1 - lost, 1, 0],
                "aborted" => [issued, ended, revoked, lost, aborted] == [0, 0, 0, 0, 1],
                _ => false,
            };
            assert!(fits, "{id} {state}: {story:?}");
        }
    }

    /// Id and state of every lease, read from the file of the store.
    fn states(&self) -> Vec<(String, String)> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let store = rusqlite::Connection::open_with_flags(self.file("pgbridge.db"), flags);
        let store = store.expect("the store is a file");
        let mut leases = store.prepare("SELECT id, state FROM lease").expect("there are leases");
        let rows = leases.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.expect("it can be read").map(|row| row.expect("two texts")).collect()
    }
}

//! How leases end: how soon after the request the last session is gone, how many a second, and what
//! 5,000 that expire in one second do to whoever asks for a new one meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::time::{interval, sleep};
use tokio_postgres::{Client, Config};

use super::issue::{connect, tls};
use super::measure::{Tally, rounded};
use super::stand::Stand;
use super::wire::Wire;

/// Sessions that a lease has open when it is revoked.
const SESSIONS: usize = 10;
/// Leases that are revoked one after the other with so many sessions.
const ENDED: usize = 60;
/// Leases that each side of the comparison takes away, by so many clients.
const STOCK: usize = 1200;
const CLIENTS: usize = 8;
/// Leases that expire in one second.
const BURST: usize = 5000;
/// How often somebody asks for a lease before and during the burst, and for how long before.
const ASK_EVERY: Duration = Duration::from_millis(50);
const BEFORE: Duration = Duration::from_secs(20);
/// From the first of those leases until all expire.
const LEASED: Duration = Duration::from_secs(75);

/// The profile with one SCRAM round: what is measured is not the hashing.
const ROLE: &str = "orders_write";

pub async fn run() {
    let stand = Arc::new(Stand::start().await);
    access_ended(&stand).await;
    side_by_side(&stand).await;
    expire_burst(&stand).await;
}

/// A lease's id, role name and password.
pub struct Issued {
    pub id: String,
    role: String,
    password: String,
}

/// Issues one lease that lives for `ttl`.
pub async fn issue(wire: &mut Wire, token: &str, ttl: &str) -> Issued {
    let body = format!(r#"{{"cluster": "orders", "role": "{ROLE}", "ttl": "{ttl}"}}"#);
    let (status, answer) = wire.post("/v1/leases", Some(token), &body).await;
    assert_eq!(status, 201, "{answer}");
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    let text = |at: &str| answer.pointer(at).and_then(|text| text.as_str()).expect(at).to_owned();
    Issued { id: text("/lease/id"), role: text("/lease/role_name"), password: text("/password") }
}

/// From the request until the client of the last session sees its end.
async fn access_ended(stand: &Arc<Stand>) {
    let mut wire = Wire::connect(stand.port).await;
    let mut times = Tally::default();
    for _ in 0..ENDED {
        let lease = issue(&mut wire, &stand.token, "1h").await;
        let mut sessions = Vec::new();
        for _ in 0..SESSIONS {
            sessions.push(open(stand, &lease).await);
        }
        let begun = Instant::now();
        let (id, token, port) = (lease.id.clone(), stand.token.clone(), stand.port);
        let asked = tokio::spawn(async move {
            let mut wire = Wire::connect(port).await;
            wire.send("DELETE", &format!("/v1/leases/{id}"), Some(&token), "").await
        });
        for (_client, ended) in sessions {
            ended.await.expect("the session's task");
        }
        times.note(begun.elapsed());
        let (status, answer) = asked.await.expect("the request's task");
        assert_eq!(status, 200, "{answer}");
    }
    println!(
        "{}",
        serde_json::json!({
            "bench": "access_ended", "sessions": SESSIONS,
            "p50_ms": rounded(times.percentile_ms(0.5)), "p99_ms": rounded(times.percentile_ms(0.99)),
        })
    );
}

/// A session of the lease's role, and the task that ends with it.
async fn open(stand: &Stand, lease: &Issued) -> (Client, tokio::task::JoinHandle<()>) {
    let mut config = Config::new();
    config.host("127.0.0.1").port(stand.postgres.port()).dbname("orders");
    config.user(&lease.role).password(&lease.password);
    let connector = tokio_postgres_rustls::MakeRustlsConnect::new(tls(stand));
    let (client, connection) = config.connect(connector).await.expect("the lease lets us in");
    (client, tokio::spawn(async move { drop(connection.await) }))
}

/// Revoking by request, which is answered when the role is gone, beside the statements that a DBA
/// would run for the same, each on its own connection.
async fn side_by_side(stand: &Arc<Stand>) {
    let ids = leases(stand, STOCK, "1h").await;
    let stock = Arc::new(Mutex::new(VecDeque::from(ids)));
    let (mut ours, mut sql) = (Tally::default(), Tally::default());
    let token: Arc<str> = stand.token.as_str().into();
    let wires = Wire::connect_all(stand.port, CLIENTS).await;
    let revoke = {
        let (stock, token) = (Arc::clone(&stock), Arc::clone(&token));
        move |mut wire: Wire| {
            let (stock, token) = (Arc::clone(&stock), Arc::clone(&token));
            async move {
                let id = stock.lock().await.pop_front()?;
                let path = format!("/v1/leases/{id}");
                let (status, answer) = wire.send("DELETE", &path, Some(&token), "").await;
                assert_eq!(status, 200, "{answer}");
                assert!(answer.contains("\"revoked\""), "{answer}");
                Some(wire)
            }
        }
    };
    ours.until_done(wires, revoke).await;

    let roles = bare_roles(stand, STOCK).await;
    let stock = Arc::new(Mutex::new(VecDeque::from(roles)));
    let mut sessions = Vec::new();
    for _ in 0..CLIENTS {
        sessions.push(connect(stand).await);
    }
    let by_hand = move |client: Client| {
        let stock = Arc::clone(&stock);
        async move {
            let (name, oid) = stock.lock().await.pop_front()?;
            for statement in statements(&name, oid) {
                client.simple_query(&statement).await.expect("the server does it");
            }
            Some(client)
        }
    };
    sql.until_done(sessions, by_hand).await;
    let (ours_per_s, sql_per_s) = (ours.per_second(), sql.per_second());
    println!(
        "{}",
        serde_json::json!({
            "bench": "revoke", "clients": CLIENTS, "leases": STOCK,
            "ours_per_s": rounded(ours_per_s), "sql_per_s": rounded(sql_per_s),
            "ratio": rounded(ours_per_s / sql_per_s),
            "p50_ms": rounded(ours.percentile_ms(0.5)), "p99_ms": rounded(ours.percentile_ms(0.99)),
        })
    );
}

/// What a complete revocation of a role that left nothing takes, as a DBA would type it.
fn statements(name: &str, oid: u32) -> [String; 7] {
    [
        format!(
            "SELECT oid, rolname, shobj_description(oid, 'pg_authid') FROM pg_roles WHERE oid = {oid}"
        ),
        format!("SELECT roleid, member, grantor FROM pg_auth_members WHERE member = {oid}"),
        format!(
            "ALTER ROLE {name} NOLOGIN CONNECTION LIMIT 0 PASSWORD NULL VALID UNTIL '-infinity'; \
             REVOKE {ROLE} FROM {name}"
        ),
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = {oid}"),
        format!(
            "SELECT dbid, classid, objid FROM pg_shdepend \
             WHERE refclassid = 'pg_authid'::regclass AND refobjid = {oid}; \
             SELECT gid FROM pg_prepared_xacts WHERE owner = '{name}'"
        ),
        format!("DROP ROLE {name}"),
        format!(
            "SELECT EXISTS (SELECT FROM pg_roles WHERE oid = {oid}), \
             EXISTS (SELECT FROM pg_stat_activity WHERE usesysid = {oid})"
        ),
    ]
}

/// Issues `count` leases by several clients and gives their ids.
async fn leases(stand: &Arc<Stand>, count: usize, ttl: &str) -> Vec<String> {
    let mut tasks = Vec::new();
    for _ in 0..CLIENTS {
        let (stand, ttl) = (Arc::clone(stand), ttl.to_owned());
        tasks.push(tokio::spawn(async move {
            let mut wire = Wire::connect(stand.port).await;
            let mut ids = Vec::new();
            for _ in 0..count / CLIENTS {
                ids.push(issue(&mut wire, &stand.token, &ttl).await.id);
            }
            ids
        }));
    }
    let mut ids = Vec::new();
    for task in tasks {
        ids.extend(task.await.expect("the leases are issued"));
    }
    ids
}

async fn bare_roles(stand: &Stand, count: usize) -> Vec<(String, u32)> {
    let client = connect(stand).await;
    let mut roles = Vec::new();
    for number in 0..count {
        let name = format!("bare_end_{number:06}");
        let make =
            format!("CREATE ROLE {name} LOGIN IN ROLE {ROLE}; COMMENT ON ROLE {name} IS 'x'");
        client.simple_query(&make).await.expect("the server makes a role");
        let row = client.query_one("SELECT $1::text::regrole::oid", &[&name]).await;
        roles.push((name, row.expect("its OID").get::<_, u32>(0)));
    }
    roles
}

/// Lets 5,000 leases expire in one second, and asks for a new one twenty times a second all the
/// while; before that as often for twenty seconds.
async fn expire_burst(stand: &Arc<Stand>) {
    let ends_at = Instant::now() + LEASED;
    let mut tasks = Vec::new();
    for _ in 0..CLIENTS {
        let stand = Arc::clone(stand);
        tasks.push(tokio::spawn(async move {
            let mut wire = Wire::connect(stand.port).await;
            for _ in 0..BURST / CLIENTS {
                let left = ends_at.saturating_duration_since(Instant::now()).as_secs_f64().ceil();
                issue(&mut wire, &stand.token, &format!("{left}s")).await;
            }
        }));
    }
    for task in tasks {
        task.await.expect("the leases are issued");
    }
    let quiet = ends_at.saturating_duration_since(Instant::now());
    let quiet = quiet.checked_sub(BEFORE).expect("5,000 leases are issued in time");
    sleep(quiet).await;
    let before = ask_until(stand, |_| Instant::now() >= ends_at).await;
    let begun = Instant::now();
    let roles = connect(stand).await;
    let meanwhile = ask_until_gone(stand, &roles).await;
    let seconds = begun.elapsed().as_secs_f64();
    let (p99_before, p99) = (before.percentile_ms(0.99), meanwhile.percentile_ms(0.99));
    println!(
        "{}",
        serde_json::json!({
            "bench": "expire_burst", "leases": BURST, "seconds": rounded(seconds),
            "per_s": rounded(f64::from(u32::try_from(BURST).expect("a count")) / seconds),
            "issue_p50_ms_before": rounded(before.percentile_ms(0.5)),
            "issue_p50_ms": rounded(meanwhile.percentile_ms(0.5)),
            "issue_p99_ms_before": rounded(p99_before), "issue_p99_ms": rounded(p99),
            "ratio_p99": rounded(p99 / p99_before), "rss_mb": stand.peak_rss_mb(),
        })
    );
}

/// Asks for a lease again and again at an even pace, whether the last answer has come or not.
async fn ask_until(stand: &Arc<Stand>, is_over: impl Fn(usize) -> bool) -> Tally {
    let mut pace = interval(ASK_EVERY);
    let mut asked = Vec::new();
    while !is_over(asked.len()) {
        pace.tick().await;
        asked.push(tokio::spawn(ask(Arc::clone(stand))));
    }
    tally(asked).await
}

async fn ask_until_gone(stand: &Arc<Stand>, roles: &Client) -> Tally {
    // The roles of whoever asks meanwhile live an hour; all that ended are over by now.
    let left = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'pgb\\_%' AND
                    (rolvaliduntil IS NULL OR rolvaliduntil < now() + interval '30 minutes')";
    let mut pace = interval(ASK_EVERY);
    let (mut asked, mut looked) = (Vec::new(), Instant::now());
    loop {
        pace.tick().await;
        asked.push(tokio::spawn(ask(Arc::clone(stand))));
        if looked.elapsed() > Duration::from_millis(500) {
            looked = Instant::now();
            let row = roles.query_one(left, &[]).await.expect("the roles can be counted");
            if row.get::<_, i64>(0) == 0 {
                return tally(asked).await;
            }
        }
    }
}

async fn ask(stand: Arc<Stand>) -> Duration {
    let mut wire = Wire::connect(stand.port).await;
    let begun = Instant::now();
    issue(&mut wire, &stand.token, "1h").await;
    begun.elapsed()
}

async fn tally(asked: Vec<tokio::task::JoinHandle<Duration>>) -> Tally {
    let mut tally = Tally::default();
    for one in asked {
        tally.note(one.await.expect("the lease is issued"));
    }
    tally
}

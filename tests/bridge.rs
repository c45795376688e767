//! The whole way, with the real program between a real directory and a real PostgreSQL: a person
//! with a directory password gets a role that the map allows, uses it, and it is gone afterwards.

mod held_back;
mod logins;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Caller, SOON, TestBed, password_of, until, wait_for};

async fn issue(bed: &TestBed, caller: Caller<'_>, wish: Value) -> Answer {
    bed.call(Method::POST, "/v1/leases", caller, Some(wish)).await
}

fn read_orders() -> Value {
    json!({ "cluster": "orders", "role": "orders_read", "ttl": "10m" })
}

/// Issues a lease of `orders_read` and gives its id, role and password.
#[track_caller]
fn held(answer: &Answer) -> (String, String, String) {
    assert_eq!(answer.status, 201, "{answer:?}");
    (answer.text("/lease/id"), answer.text("/lease/role_name"), answer.text("/password"))
}

fn rows_about(bed: &TestBed, role: &str) -> Vec<Vec<String>> {
    let query = format!(
        "SELECT oid::text FROM pg_roles WHERE rolname = '{role}' UNION ALL \
         SELECT member::text FROM pg_auth_members JOIN pg_roles ON member = pg_roles.oid \
         WHERE rolname = '{role}' UNION ALL \
         SELECT pid::text FROM pg_stat_activity WHERE usename = '{role}'"
    );
    bed.postgres.sql("postgres", &query)
}

async fn whole_way(major: u32) {
    let bed = TestBed::start(major);
    let token = bed.login("alice").await;
    let alice = Caller::Session(&token);

    let offers = bed.call(Method::GET, "/v1/roles", alice, None).await.json();
    let roles: Vec<&str> = offers["roles"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|offer| offer["role"].as_str().expect("a role"))
        .collect();
    assert_eq!(roles, ["orders_read"]);

    let answer = issue(&bed, alice, read_orders()).await;
    let (id, role, password) = held(&answer);
    let count = "SELECT count(*) FROM sales.customer";
    let read = bed.postgres.sql_as(&role, &password, "orders", count);
    assert_eq!(read, Ok(vec![vec!["3".to_owned()]]));
    let refused = bed.postgres.sql_as(&role, &password, "orders", "DELETE FROM sales.customer");
    assert!(refused.is_err_and(|error| error.contains("permission denied")));
    let uri = answer.text("/uri");
    assert!(uri.contains("sslmode=verify-full") && uri.contains("sslrootcert="), "{uri}");
    used_by_uri(&bed, &uri);

    let gone = bed.call(Method::DELETE, &format!("/v1/leases/{id}"), alice, None).await;
    assert_eq!((gone.status, gone.text("/state").as_str()), (200, "revoked"), "{gone:?}");
    assert!(rows_about(&bed, &role).is_empty());
    assert!(bed.postgres.sql_as(&role, &password, "orders", count).is_err());
    assert!(bed.lease_roles().is_empty());
    the_audit_tells_the_story(&bed, &id);
}

/// The connection string works as it is in psql.
fn used_by_uri(bed: &TestBed, uri: &str) {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-A", "-t", uri, "-c", "SELECT current_user <> session_user"]);
    psql.env("PGGSSENCMODE", "disable");
    let output = psql.output().expect("psql is installed");
    assert!(output.status.success(), "{output:?}\n{}", bed.log());
}

fn the_audit_tells_the_story(bed: &TestBed, id: &str) {
    let records = bed.records();
    let story: Vec<&str> = records
        .iter()
        .filter(|record| record["lease"] == *id)
        .map(|record| record["action"].as_str().expect("an action"))
        .collect();
    let told = [
        "lease.requested",
        "lease.issued",
        "lease.revoke_requested",
        "lease.access_ended",
        "lease.revoked",
    ];
    assert_eq!(story, told);
    let issued = records.iter().find(|record| record["action"] == "lease.issued").expect("issued");
    assert_eq!(issued["subject"]["principal"]["account"], "alice");
    assert_eq!(issued["client"], "127.0.0.1");
    assert_eq!(issued["rule"]["line"], 3, "{issued}");
    assert_eq!(issued["outcome"], "done");
    assert_eq!(issued["map_revision"].as_str().map(str::len), Some(64));
}

#[tokio::test]
async fn a_directory_password_becomes_a_role_that_is_gone_afterwards_on_15() {
    whole_way(15).await;
}

#[tokio::test]
async fn a_directory_password_becomes_a_role_that_is_gone_afterwards_on_16() {
    whole_way(16).await;
}

#[test]
fn the_same_by_the_program_with_psql_which_leaves_nothing() {
    let bed = TestBed::start(16);
    bed.cli_login("alice");
    let run = |arguments: &[&str]| bed.cli("alice").args(arguments).output().expect("pgbridge");
    let count = "SELECT count(*) FROM sales.customer";
    let read = run(&["psql", "orders", "--", "-X", "-A", "-t", "-c", count]);
    assert!(read.status.success(), "{read:?}");
    assert_eq!(String::from_utf8_lossy(&read.stdout).trim(), "3");
    assert!(bed.lease_roles().is_empty());

    let refused = run(&["issue", "orders", "--role", "orders_write"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let issued = run(&["issue", "orders", "--format", "json"]);
    assert!(issued.status.success(), "{issued:?}");
    let issued: Value = serde_json::from_slice(&issued.stdout).expect("JSON");
    let id = issued["lease"]["id"].as_str().expect("an id");
    assert_eq!(bed.lease_roles().len(), 1);
    assert!(run(&["renew", id, "--ttl", "20m"]).status.success());
    assert!(run(&["revoke", id]).status.success());
    assert!(bed.lease_roles().is_empty());
    assert!(run(&["logout"]).status.success());
    assert_eq!(run(&["whoami"]).status.code(), Some(4));
}

#[tokio::test]
async fn one_call_with_name_and_password_is_enough() {
    let bed = TestBed::start(16);
    let password = password_of("alice");
    let answer = issue(&bed, Caller::Basic("alice", &password), read_orders()).await;
    let (_, role, database_password) = held(&answer);
    assert!(bed.postgres.sql_as(&role, &database_password, "orders", "SELECT 1").is_ok());
    let refused = issue(&bed, Caller::Basic("alice", "wrong"), read_orders()).await;
    assert_eq!(refused.status, 401);
}

/// Everything that is refused stands beside what is accepted and differs in one thing only.
#[tokio::test]
async fn each_wish_that_is_refused_has_a_twin_that_is_fulfilled() {
    let bed = TestBed::start(16);
    let (alice, bob) = (bed.login("alice").await, bed.login("bob").await);
    let (alice, bob) = (Caller::Session(&alice), Caller::Session(&bob));
    let wish = |cluster: &str, role: &str, ttl: &str| json!({ "cluster": cluster, "role": role, "ttl": ttl, "reason": "ticket 7" });
    let status = async |caller, wish| issue(&bed, caller, wish).await.status;

    assert_eq!(status(alice, wish("orders", "orders_read", "8h")).await, 201);
    assert_eq!(status(alice, wish("orders", "orders_read", "8h1s")).await, 422);
    assert_eq!(status(alice, wish("elsewhere", "orders_read", "8h")).await, 403);
    assert_eq!(status(alice, wish("orders", "orders_write", "1h")).await, 403);
    assert_eq!(status(bob, wish("orders", "orders_write", "1h")).await, 201);
    assert_eq!(status(alice, wish("orders", "pg_execute_server_program", "1h")).await, 403);
    assert_eq!(
        status(alice, wish("orders", "orders_read\"; DROP ROLE bob; --\n", "1h")).await,
        403
    );

    let mut without_reason = wish("orders", "orders_write", "1h");
    without_reason["reason"] = json!("  ");
    assert_eq!(status(bob, without_reason).await, 422);
    let mut in_database = wish("orders", "orders_read", "1h");
    in_database["database"] = json!("orders");
    assert_eq!(status(alice, in_database.clone()).await, 201);
    in_database["database"] = json!("reports");
    assert_eq!(status(alice, in_database).await, 422);

    let refusals = bed.records();
    let refused: BTreeSet<&str> = refusals
        .iter()
        .filter(|record| record["outcome"] == "refused")
        .filter_map(|record| record["cause"].as_str())
        .collect();
    for cause in ["unknown_cluster", "no_profile", "not_mapped", "unfit_wish"] {
        assert!(refused.contains(cause), "{cause} is not in the audit: {refused:?}");
    }
}

#[tokio::test]
async fn another_persons_lease_is_as_unknown_as_no_lease() {
    let bed = TestBed::start(15);
    let (alice, bob) = (bed.login("alice").await, bed.login("bob").await);
    let (id, role, _) = held(&issue(&bed, Caller::Session(&alice), read_orders()).await);
    let calls = [
        (Method::GET, String::new()),
        (Method::POST, "/renew".to_owned()),
        (Method::DELETE, String::new()),
    ];
    for (method, rest) in calls {
        let mut answers = Vec::new();
        for lease in [id.as_str(), "aaaaaaaaaaaaaaaa", "no-lease-id"] {
            let path = format!("/v1/leases/{lease}{rest}");
            let body = (method == Method::POST).then(|| json!({}));
            let answer = bed.call(method.clone(), &path, Caller::Session(&bob), body).await;
            let mut problem = answer.json();
            problem["request_id"] = Value::Null;
            problem["instance"] = Value::Null;
            let problem = problem.to_string().replace(lease, "LEASE");
            answers.push((answer.status, problem));
        }
        assert_eq!(answers[0].0, 404);
        assert_eq!(answers[0], answers[1]);
        assert_eq!(answers[1].0, answers[2].0);
    }
    assert_eq!(bed.lease_roles(), [role]);
    let own = format!("/v1/leases/{id}");
    assert_eq!(bed.call(Method::GET, &own, Caller::Session(&alice), None).await.status, 200);
}

#[tokio::test]
async fn an_operator_ends_the_leases_of_a_person_and_nobody_else_can() {
    let bed = TestBed::start(16);
    let (alice, carol) = (bed.login("alice").await, bed.login("carol").await);
    held(&issue(&bed, Caller::Session(&alice), read_orders()).await);
    let body = Some(json!({ "person": "ldap:corp:alice" }));
    let path = "/v1/operator/revoke";
    let refused = bed.call(Method::POST, path, Caller::Session(&alice), body.clone()).await;
    assert_eq!(refused.status, 403);
    assert_eq!(bed.lease_roles().len(), 1);
    let all = bed.call(Method::GET, "/v1/operator/leases", Caller::Session(&carol), None).await;
    assert_eq!(all.json()["leases"].as_array().map(Vec::len), Some(1));
    let ended = bed.call(Method::POST, path, Caller::Session(&carol), body).await;
    assert_eq!(ended.status, 200, "{ended:?}");
    assert!(bed.lease_roles().is_empty());
    // Her session is over too, or she would just ask again.
    let whoami = bed.call(Method::GET, "/v1/whoami", Caller::Session(&alice), None).await;
    assert_eq!(whoami.status, 401);
    bed.login("alice").await;
}

#[tokio::test]
async fn a_lease_ends_by_itself_and_is_not_revived() {
    let bed = TestBed::start(16);
    let token = bed.login("alice").await;
    let alice = Caller::Session(&token);
    let mut wish = read_orders();
    wish["ttl"] = json!("4s");
    let (id, role, password) = held(&issue(&bed, alice, wish).await);
    wait_for("the role to be gone", SOON, || bed.lease_roles().is_empty().then_some(()));
    assert!(rows_about(&bed, &role).is_empty());
    assert!(bed.postgres.sql_as(&role, &password, "orders", "SELECT 1").is_err());
    let renew = async |id: &str| {
        let path = format!("/v1/leases/{id}/renew");
        bed.call(Method::POST, &path, alice, Some(json!({}))).await.status
    };
    assert_eq!(renew(&id).await, 409);
    let (id, _, _) = held(&issue(&bed, alice, read_orders()).await);
    assert_eq!(renew(&id).await, 200);
}

#[tokio::test]
async fn renewing_moves_the_end_of_the_role_and_never_past_the_longest_ttl() {
    let bed = TestBed::start(15);
    let token = bed.login("alice").await;
    let alice = Caller::Session(&token);
    let (id, role, _) = held(&issue(&bed, alice, read_orders()).await);
    let ends_in = || {
        let query = format!(
            "SELECT round(extract(epoch FROM rolvaliduntil - now()) / 60) FROM pg_roles \
             WHERE rolname = '{role}'"
        );
        bed.postgres.sql("postgres", &query).concat().concat()
    };
    assert_eq!(ends_in(), "10");
    let path = format!("/v1/leases/{id}/renew");
    let renewed = bed.call(Method::POST, &path, alice, Some(json!({ "ttl": "1h" }))).await;
    assert_eq!(renewed.status, 200, "{renewed:?}");
    assert_eq!(ends_in(), "60");
    let refused = bed.call(Method::POST, &path, alice, Some(json!({ "ttl": "9h" }))).await;
    assert_eq!(refused.status, 422, "{refused:?}");
    let longest = bed.call(Method::POST, &path, alice, Some(json!({ "ttl": "8h" }))).await;
    assert_eq!(longest.text("/expires_at"), longest.text("/ceiling"));
}

#[tokio::test]
async fn asking_again_with_the_same_key_leaves_one_lease() {
    let bed = TestBed::start(16);
    let token = bed.login("alice").await;
    let alice = Caller::Session(&token);
    let mut wish = read_orders();
    wish["idempotency_key"] = json!("nightly-1");
    let (_, first, _) = held(&issue(&bed, alice, wish.clone()).await);
    let (_, second, password) = held(&issue(&bed, alice, wish.clone()).await);
    assert_ne!(first, second);
    let only = wait_for("the first to be gone", SOON, || {
        let roles = bed.lease_roles();
        (roles.len() == 1).then_some(roles)
    });
    assert_eq!(only, [second.as_str()]);
    assert!(bed.postgres.sql_as(&second, &password, "orders", "SELECT 1").is_ok());
    wish["idempotency_key"] = json!("nightly-2");
    held(&issue(&bed, alice, wish).await);
    assert_eq!(bed.lease_roles().len(), 2);
}

#[tokio::test]
async fn a_killed_broker_takes_its_work_up_again() {
    let mut bed = TestBed::start(16);
    let token = bed.login("alice").await;
    let mut wish = read_orders();
    wish["ttl"] = json!("6s");
    held(&issue(&bed, Caller::Session(&token), wish).await);
    let (id, kept, _) = held(&issue(&bed, Caller::Session(&token), read_orders()).await);
    bed.kill();
    let overdue =
        format!("SELECT 1 FROM pg_roles WHERE rolname <> '{kept}' AND rolvaliduntil < now()");
    wait_for("the first to be overdue", SOON, || {
        (!bed.postgres.sql("postgres", &overdue).is_empty()).then_some(())
    });
    assert_eq!(bed.lease_roles().len(), 2);
    bed.start_again();
    wait_for("the overdue role to be gone", SOON, || {
        (bed.lease_roles() == [kept.as_str()]).then_some(())
    });
    // The session and the lease have outlived the crash.
    let path = format!("/v1/leases/{id}");
    let gone = bed.call(Method::DELETE, &path, Caller::Session(&token), None).await;
    assert_eq!(gone.text("/state"), "revoked");
    assert!(bed.lease_roles().is_empty());
}

#[tokio::test]
async fn a_role_that_no_lease_knows_goes_and_one_without_our_mark_stays() {
    let mut bed = TestBed::start(16);
    let token = bed.login("alice").await;
    let (_, role, _) = held(&issue(&bed, Caller::Session(&token), read_orders()).await);
    let prefix = role.split('_').next().expect("a prefix").to_owned();
    let stranger = format!("{prefix}_stranger");
    bed.postgres.sql("postgres", &format!("CREATE ROLE {stranger} LOGIN"));
    bed.stop();
    // The store of yesterday: it knows nothing of today's lease, and the key is the same.
    for name in ["pgbridge.db", "pgbridge.db-wal", "pgbridge.db-shm"] {
        let _ = fs::remove_file(bed.file(name));
    }
    bed.start_again();
    wait_for("the orphan to be gone", SOON, || {
        (bed.lease_roles() == [stranger.as_str()]).then_some(())
    });
    let removed = bed.records();
    assert!(removed.iter().any(|record| record["action"] == "orphan.removed"), "{removed:?}");
}

#[tokio::test]
async fn a_role_that_a_dba_dropped_makes_its_lease_lost() {
    let bed = TestBed::start_with(15, |config| {
        config.replace("[broker]", "[broker]\nreconcile_every = \"1s\"")
    });
    let token = bed.login("alice").await;
    let (id, role, _) = held(&issue(&bed, Caller::Session(&token), read_orders()).await);
    bed.postgres.sql("postgres", &format!("DROP ROLE \"{role}\""));
    let path = format!("/v1/leases/{id}");
    let lease = until("the end of the lease", async || {
        let lease = bed.call(Method::GET, &path, Caller::Session(&token), None).await;
        (lease.text("/state") == "revoked").then_some(lease)
    })
    .await;
    assert_eq!(lease.text("/end"), "lost");
}

#[tokio::test]
async fn what_a_lease_role_owned_is_kept_in_the_attic() {
    let bed = TestBed::start(16);
    let token = bed.login("bob").await;
    let bob = Caller::Session(&token);
    let wish = json!({ "cluster": "orders", "role": "orders_write", "reason": "import" });
    let (id, role, password) = held(&issue(&bed, bob, wish).await);
    let make = "CREATE TABLE workbench.import AS SELECT * FROM sales.customer";
    bed.postgres.sql_as(&role, &password, "orders", make).expect("bob may make tables there");
    let gone = bed.call(Method::DELETE, &format!("/v1/leases/{id}"), bob, None).await;
    assert_eq!(gone.text("/state"), "revoked", "{gone:?}\n{}", bed.log());
    let owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'import'";
    assert_eq!(bed.postgres.sql("orders", owner), [["pgbridge_attic"]]);
}

#[tokio::test]
async fn a_cluster_that_is_down_issues_nothing_and_everything_ends_once_it_is_back() {
    let mut bed = TestBed::start(15);
    let token = bed.login("alice").await;
    let alice = Caller::Session(&token);
    let (id, _, _) = held(&issue(&bed, alice, read_orders()).await);
    bed.postgres.crash();
    let refused = issue(&bed, alice, read_orders()).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    let ending = bed.call(Method::DELETE, &format!("/v1/leases/{id}"), alice, None).await;
    assert_eq!((ending.status, ending.text("/state").as_str()), (202, "revoking"), "{ending:?}");
    bed.postgres.start_again();
    wait_for("the role to be gone", SOON, || bed.lease_roles().is_empty().then_some(()));
    assert_eq!(issue(&bed, alice, read_orders()).await.status, 201);
}

#[tokio::test]
async fn no_secret_is_in_any_log_audit_store_error_or_catalogue() {
    let bed = TestBed::start(16);
    bed.postgres.set("log_statement", "all");
    let token = bed.login("alice").await;
    let alice = Caller::Session(&token);
    let (id, role, password) = held(&issue(&bed, alice, read_orders()).await);
    bed.postgres.sql_as(&role, &password, "orders", "SELECT 1").expect("the password works");
    let broken = "canary-in-a-broken-body";
    let client = TestBed::client();
    let login = client.post(format!("{}/v1/login", bed.url()));
    let login = login.header("content-type", "application/json");
    let answer = login.body(format!(r#"{{"username": "x", "password": "{broken}"#)).send().await;
    let answer = answer.expect("an answer").text().await.expect("text");
    assert!(!answer.contains(broken), "{answer}");
    let statistics = bed.postgres.sql(
        "postgres",
        "SELECT query FROM pg_stat_statements UNION ALL SELECT query FROM pg_stat_activity",
    );
    bed.call(Method::DELETE, &format!("/v1/leases/{id}"), alice, None).await;
    bed.call(Method::POST, "/v1/logout", alice, None).await;

    let store = ["pgbridge.db", "pgbridge.db-wal"].map(|name| fs::read(bed.file(name)));
    let store =
        store.into_iter().flatten().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let places = [
        ("the broker's log", bed.log()),
        ("the directory's log", bed.directory.log()),
        ("the cluster's log", bed.postgres.log()),
        ("the cluster's statistics", statistics.concat().concat()),
        ("the audit", bed.records().iter().map(Value::to_string).collect()),
        ("the store", store.collect()),
    ];
    let secrets = [&token, &password, &password_of("alice"), broken];
    for (place, text) in &places {
        assert!(!text.is_empty(), "{place} is empty");
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} is in {place}");
        }
    }
    // The twin: what is no secret is there, so that the search finds what is there.
    assert!(places.iter().filter(|(_, text)| text.contains(&role)).count() >= 4);
}

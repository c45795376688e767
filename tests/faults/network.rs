//! The network between broker and cluster holds back, parts and heals.

use std::sync::OnceLock;

use reqwest::Method;
use serde_json::json;

use super::{
    SOON, assert_refused, held, held_in_the_end, is_in_state, issue, lease, often, revoke,
};
use crate::support::{
    Answer, Caller, Postgres, Proxy, StoreServer, TestBed, Towards, until, wait_for,
};

/// A broker whose way to the cluster leads through a proxy.
fn bed_behind_a_proxy(major: u32) -> (TestBed, Proxy) {
    let proxy = OnceLock::new();
    let bed = TestBed::start_with(major, |config| {
        let port = config.lines().skip_while(|line| *line != "name = \"orders\"");
        let port = port.skip(2).find_map(|line| line.strip_prefix("port = ")).map(str::to_owned);
        let port = port.expect("the cluster has a port");
        let own = proxy.get_or_init(|| Proxy::before(port.parse().expect("a port"))).port();
        often(&config).replace(
            &format!("\nport = {port}\n"),
            &format!("\nport = {own}\nclient_port = {port}\nconnect_timeout = \"2s\"\n"),
        )
    });
    (bed, proxy.into_inner().expect("the configuration was written"))
}

/// F-05.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_was_sent_and_comes_too_late_is_not_made() {
    let (bed, proxy) = bed_behind_a_proxy(16);
    let token = bed.login("alice").await;
    for _ in 0..2 {
        // The look at the cluster is still good, so the next thing sent is the role itself.
        let [_, role, _] = held(&bed, &token, "1h").await;
        proxy.hold(Towards::Server);
        let times_up = async {
            let query = "SELECT clock_timestamp() + interval '6 seconds'";
            let end = bed.postgres.sql("postgres", query).concat().concat();
            let over = format!("SELECT clock_timestamp() > '{end}'");
            until("the time to make a role to be over", async || {
                (bed.postgres.sql("postgres", &over) == [["t"]]).then_some(())
            })
            .await;
            proxy.heal();
        };
        let (answer, ()) = tokio::join!(issue(&bed, &token, "1h"), times_up);
        assert_refused(&answer);
        bed.in_order(&token, &[&role]).await;
        let id = bed.call(Method::GET, "/v1/leases?state=active", Caller::Session(&token), None);
        let id = id.await.text("/leases/0/id");
        assert_eq!(revoke(&bed, &token, &id).await.status, 200);
        bed.in_order(&token, &[]).await;
    }
}

/// F-05: the broker is killed, another life of it finds that no role was made and aborts the
/// lease; only then does what was sent arrive.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_comes_after_its_lease_was_aborted_is_not_made() {
    let (mut bed, proxy) = bed_behind_a_proxy(15);
    let token = bed.login("alice").await;
    // The look at the cluster is still good, so the next thing sent is the role itself.
    let [_, kept, _] = held(&bed, &token, "1h").await;
    proxy.hold_present(Towards::Server);
    let request = TestBed::client().post(format!("{}/v1/leases", bed.url()));
    let request = request.bearer_auth(&token).json(&super::wish("1h")).send();
    let asked = tokio::spawn(async move { request.await.is_ok() });
    let path = "/v1/leases?state=intent";
    let id = until("the intent, and the role to be under way", async || {
        let intents = bed.call(Method::GET, path, Caller::Session(&token), None).await;
        let id = intents.json().pointer("/leases/0/id")?.as_str()?.to_owned();
        (proxy.held_back(Towards::Server) > 500).then_some(id)
    })
    .await;
    bed.kill();
    assert!(!asked.await.expect("it does not panic"), "it was answered");
    bed.start_again();
    is_in_state(&bed, &token, &id, "aborted").await;
    bed.in_order(&token, &[&kept]).await;
    assert!(!bed.postgres.log().contains("too late to make this role"));
    proxy.heal();
    wait_for("it to arrive", SOON, || {
        bed.postgres.log().contains("too late to make this role").then_some(())
    });
    bed.in_order(&token, &[&kept]).await;
    assert_eq!((bed.told("lease.requested", &id), bed.told("lease.aborted", &id)), (1, 1));
}

/// F-35: the broker sees the cluster and not its store.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_way_to_the_store_nothing_is_issued_and_what_must_end_ends_when_there_is_one() {
    let server = StoreServer::start(16);
    server.make("store");
    let proxy = Proxy::before(server.postgres.port());
    let lines = server.lines("store");
    let lines =
        lines.replace(&format!(":{}/", server.postgres.port()), &format!(":{}/", proxy.port()));
    let bed =
        TestBed::start_with(15, |config| often(&config.replace("path = \"pgbridge.db\"", &lines)));
    let token = bed.login("alice").await;
    let [asked, asked_role, _] = held(&bed, &token, "1h").await;
    let [short, short_role, password] = held(&bed, &token, "8s").await;
    let [_, kept, kept_password] = held(&bed, &token, "1h").await;
    proxy.part();
    let refused = issue(&bed, &token, "1h").await;
    assert_refused(&refused);
    assert!(refused.status >= 500, "{refused:?}");
    assert!(revoke(&bed, &token, &asked).await.status >= 500);
    // Nobody can say which leases are due; the cluster itself lets nobody in whose time is over.
    wait_for("the end of log-ins", SOON, || {
        (!bed.has_access(&short_role)).then_some(()).or_else(|| {
            bed.postgres.sql_as(&short_role, &password, "orders", "SELECT 1").is_err().then_some(())
        })
    });
    assert!(bed.postgres.sql_as(&kept, &kept_password, "orders", "SELECT 1").is_ok());
    assert_eq!(bed.lease_roles().len(), 3);
    proxy.heal();
    is_in_state(&bed, &token, &short, "revoked").await;
    until("the other to be told to end", async || {
        let answer = revoke(&bed, &token, &asked).await;
        (answer.status == 200).then_some(())
    })
    .await;
    wait_for("the end of the role", SOON, || {
        (!bed.lease_roles().contains(&asked_role)).then_some(())
    });
    bed.in_order(&token, &[&kept]).await;
    held_in_the_end(&bed, &token, "1h").await;
}

/// F-35.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_way_to_the_cluster_nothing_is_issued_and_what_must_end_ends_when_there_is_one() {
    let (bed, proxy) = bed_behind_a_proxy(15);
    let token = bed.login("alice").await;
    let [asked, _, _] = held(&bed, &token, "1h").await;
    let [short, _, _] = held(&bed, &token, "8s").await;
    let [_, kept, _] = held(&bed, &token, "1h").await;
    proxy.part();
    let refused = issue(&bed, &token, "1h").await;
    assert_refused(&refused);
    let ended = revoke(&bed, &token, &asked).await;
    assert_eq!(ended.text("/state"), "revoking", "{ended:?}");
    is_in_state(&bed, &token, &short, "revoking").await;
    // Nobody decides about what nobody can see.
    assert_eq!(bed.lease_roles().len(), 3);
    proxy.heal();
    bed.in_order(&token, &[&kept]).await;
    held_in_the_end(&bed, &token, "1h").await;
}

/// F-32.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_hangs_keeps_no_other_one_waiting() {
    let frozen = Postgres::start(15);
    let proxy = Proxy::before(frozen.port());
    let bed = TestBed::start_with(16, |config| {
        let clusters = config.find("[[cluster]]").expect("there is one");
        let other = config[clusters..].replace("name = \"orders\"", "name = \"frozen\"");
        let port = other.lines().find_map(|line| line.strip_prefix("port = ")).expect("a port");
        let own = format!(
            "port = {}\nconnect_timeout = \"2s\"\nstatement_timeout = \"3s\"\n",
            proxy.port()
        );
        let other = other.replace(&format!("port = {port}\n"), &own);
        often(&format!("{config}\n{other}"))
    });
    let token = bed.login("alice").await;
    let there = async || -> Answer {
        let wish = json!({ "cluster": "frozen", "role": "orders_read", "ttl": "8s" });
        bed.call(Method::POST, "/v1/leases", Caller::Session(&token), Some(wish)).await
    };
    let on_frozen = until("the other cluster", async || {
        let answer = there().await;
        (answer.status == 201).then(|| answer.text("/lease/id"))
    })
    .await;
    proxy.hold(Towards::Server);
    proxy.hold(Towards::Client);
    let waits = async {
        let refused = there().await;
        assert_refused(&refused);
    };
    let goes_on = async {
        for _ in 0..5 {
            let [id, role, password] = held(&bed, &token, "1h").await;
            assert!(bed.postgres.sql_as(&role, &password, "orders", "SELECT 1").is_ok());
            let renew = format!("/v1/leases/{id}/renew");
            let renewed = bed.call(Method::POST, &renew, Caller::Session(&token), None).await;
            assert_eq!(renewed.status, 200, "{renewed:?}");
            let ended = revoke(&bed, &token, &id).await;
            assert_eq!(ended.text("/state"), "revoked", "{ended:?}");
        }
        let [_, role, _] = held(&bed, &token, "2s").await;
        wait_for("the end of the role", SOON, || {
            (!bed.lease_roles().contains(&role)).then_some(())
        });
    };
    tokio::join!(waits, goes_on);
    is_in_state(&bed, &token, &on_frozen, "revoking").await;
    proxy.heal();
    is_in_state(&bed, &token, &on_frozen, "revoked").await;
    bed.in_order(&token, &[]).await;
}

/// F-24.
#[tokio::test(flavor = "multi_thread")]
async fn access_ends_when_the_cluster_lets_nobody_in_any_more() {
    let bed = super::bed(16);
    let token = bed.login("alice").await;
    for obstacle in ["no connection left", "another password", "another pg_hba.conf"] {
        let [id, role, password] = held_in_the_end(&bed, &token, "1h").await;
        let mut taken = Vec::new();
        match obstacle {
            "no connection left" => taken = all_connections(&bed).await,
            "another password" => {
                bed.postgres.sql("postgres", "ALTER ROLE pgbridge PASSWORD 'rotated'");
            }
            _ => bed.postgres.admit("host all pgbridge 127.0.0.1/32 reject"),
        }
        // The answer may come before the role is gone; access ends by the connection that is kept.
        let ended = revoke(&bed, &token, &id).await;
        assert!([200, 202].contains(&ended.status), "{obstacle}: {ended:?}");
        wait_for("the end of access", SOON, || (!bed.has_access(&role)).then_some(()));
        drop(taken);
        match obstacle {
            "another password" => {
                let password = crate::support::BROKER_PASSWORD;
                let back = format!("ALTER ROLE pgbridge PASSWORD '{password}'");
                bed.postgres.sql("postgres", &back);
            }
            "another pg_hba.conf" => bed.postgres.admit(""),
            _ => {}
        }
        is_in_state(&bed, &token, &id, "revoked").await;
        assert!(bed.postgres.sql_as(&role, &password, "orders", "SELECT 1").is_err());
        bed.in_order(&token, &[]).await;
        assert_eq!(lease(&bed, &token, &id).await.text("/end"), "released");
    }
    let failed = bed.records().iter().filter(|record| record["action"] == "lease.lost").count();
    assert_eq!(failed, 0);
}

/// Takes every connection that is left to those who are no superuser.
async fn all_connections(bed: &TestBed) -> Vec<tokio_postgres::Client> {
    let mut taken = Vec::new();
    let free = "SELECT current_setting('max_connections')::int \
                - current_setting('superuser_reserved_connections')::int - count(*) \
                FROM pg_stat_activity WHERE backend_type = 'client backend'";
    loop {
        let left = bed.postgres.sql("postgres", free).concat().concat();
        // The one that asks is counted, and gone when the number is read.
        let Some(left) = left.parse::<usize>().ok().map(|left| left + 1).filter(|left| *left > 0)
        else {
            return taken;
        };
        for _ in 0..left {
            taken.push(bed.postgres.eye().await);
        }
        if left <= 1 {
            return taken;
        }
    }
}

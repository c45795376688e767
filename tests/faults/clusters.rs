//! A cluster restarts, is set back to a backup, or is a standby.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{assert_refused, bed, held, held_in_the_end, is_in_state, issue, lease, revoke};
use crate::support::{TestBed, until};

/// F-07.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_restarts_while_roles_are_made_and_ended_is_in_order_afterwards() {
    let mut bed = bed(16);
    let token = bed.login("alice").await;
    for turn in 0..3 {
        let mut held_before = Vec::new();
        for _ in 0..4 {
            held_before.push(held_in_the_end(&bed, &token, "1h").await);
        }
        let client = TestBed::client();
        let over = std::sync::Arc::new(AtomicBool::new(false));
        let ends = held_before.iter().map(|[id, _, _]| {
            let end = client.delete(format!("{}/v1/leases/{id}", bed.url()));
            end.bearer_auth(&token).send()
        });
        let ends: Vec<_> = ends.map(tokio::spawn).collect();
        let issues: Vec<_> = (0..4)
            .map(|_| {
                let (client, over) = (client.clone(), std::sync::Arc::clone(&over));
                let (url, token) = (format!("{}/v1/leases", bed.url()), token.clone());
                tokio::spawn(async move {
                    let mut issued = 0;
                    while !over.load(Ordering::Relaxed) {
                        let wish = client.post(&url).bearer_auth(&token).json(&super::wish("1h"));
                        let answer = wish.send().await.expect("the broker answers");
                        issued += usize::from(answer.status() == 201);
                    }
                    issued
                })
            })
            .collect();
        if turn == 1 {
            bed.postgres.crash();
        } else {
            bed.postgres.stop();
        }
        bed.postgres.start_again();
        over.store(true, Ordering::Relaxed);
        for end in ends {
            let answer = end.await.expect("it does not panic").expect("the broker answers");
            assert!([200, 202].contains(&answer.status().as_u16()), "{answer:?}");
        }
        let mut issued = 0;
        for issuing in issues {
            issued += issuing.await.expect("it does not panic");
        }
        for [id, _, _] in &held_before {
            is_in_state(&bed, &token, id, "revoked").await;
        }
        // Whoever got a password has a lease with a role; nobody else.
        let on_their_way = async || {
            let live = bed.live_roles(&token).await?;
            (live.len() == issued).then_some(live)
        };
        let live = until("the leases that were handed out", on_their_way).await;
        let roles: Vec<&str> = live.iter().map(String::as_str).collect();
        bed.in_order(&token, &roles).await;
        end_all(&bed, &token).await;
    }
}

async fn end_all(bed: &TestBed, token: &str) {
    let path = "/v1/leases?state=active";
    let answer = bed.call(reqwest::Method::GET, path, crate::support::Caller::Session(token), None);
    for lease in answer.await.json()["leases"].as_array().expect("a list") {
        let ended = revoke(bed, token, lease["id"].as_str().expect("an id")).await;
        assert_eq!(ended.status, 200, "{ended:?}");
    }
    bed.in_order(token, &[]).await;
}

/// F-08, F-09, F-10: a cluster that was set back looks like a fail-over to a replica that had not
/// received the last transactions.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_cluster_that_was_set_back_revoked_roles_end_again_and_new_leases_are_lost() {
    let mut bed = bed(15);
    let token = bed.login("alice").await;
    let [ended, ended_role, password] = held(&bed, &token, "1h").await;
    let [_, kept, _] = held(&bed, &token, "1h").await;
    bed.postgres.stop();
    bed.postgres.keep();
    bed.postgres.start_again();
    let ending = revoke(&bed, &token, &ended).await;
    assert_eq!(ending.status, 200, "{ending:?}");
    is_in_state(&bed, &token, &ended, "revoked").await;
    let [new, new_role, _] = held_in_the_end(&bed, &token, "1h").await;
    bed.in_order(&token, &[&kept, &new_role]).await;

    bed.postgres.stop();
    bed.postgres.set_back();
    bed.postgres.start_again();
    is_in_state(&bed, &token, &new, "revoked").await;
    assert_eq!(lease(&bed, &token, &new).await.text("/end"), "lost");
    bed.in_order(&token, &[&kept]).await;
    assert!(bed.postgres.sql_as(&ended_role, &password, "orders", "SELECT 1").is_err());
    bed.is_told("orphan.removed", &ended).await;
    assert_eq!(bed.told("orphan.removed", &ended), 1);
    assert_eq!(bed.told("lease.lost", &new), 1);
    assert_eq!(bed.told("lease.revoked", &ended), 1);
}

/// F-12.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_standby_nothing_is_issued_and_what_must_end_ends_once_it_is_promoted() {
    let mut bed = bed(16);
    let token = bed.login("alice").await;
    let [id, _, _] = held(&bed, &token, "1h").await;
    bed.postgres.stop();
    bed.postgres.make_standby();
    bed.postgres.start_again();
    until("an answer of the standby", async || {
        let refused = issue(&bed, &token, "1h").await;
        assert!(refused.status >= 500, "{refused:?}");
        assert_refused(&refused);
        let told = bed.records().pop()?;
        let detail = told["detail"].as_str().unwrap_or_default();
        (told["cause"] == "cluster_refused" && detail.contains("standby")).then_some(())
    })
    .await;
    let ended = revoke(&bed, &token, &id).await;
    assert_eq!(ended.text("/state"), "revoking", "{ended:?}");
    // No storm: pauses between attempts, each of which is written down.
    let attempts = |bed: &TestBed| {
        let failed =
            |record: &&serde_json::Value| record["lease"] == id && record["outcome"] == "failed";
        bed.records().iter().filter(failed).count()
    };
    assert!(attempts(&bed) < 5);
    bed.postgres.sql("postgres", "SELECT pg_promote()");
    is_in_state(&bed, &token, &id, "revoked").await;
    let [_, role, _] = held_in_the_end(&bed, &token, "1h").await;
    bed.in_order(&token, &[&role]).await;
}

/// F-12: what a DBA set for everybody does not reach the broker's own sessions.
#[tokio::test(flavor = "multi_thread")]
async fn where_transactions_are_read_only_by_default_roles_are_made_and_ended_all_the_same() {
    let bed = bed(15);
    let token = bed.login("alice").await;
    bed.postgres.set("default_transaction_read_only", "on");
    let [id, role, _] = held(&bed, &token, "1h").await;
    bed.in_order(&token, &[&role]).await;
    assert_eq!(revoke(&bed, &token, &id).await.text("/state"), "revoked");
    bed.in_order(&token, &[]).await;
}

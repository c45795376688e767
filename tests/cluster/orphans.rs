//! What becomes of the objects of a role, and what is written down of it, by a whole broker.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Caller, SOON, TestBed, wait_for};

/// Whose `workbench.mine` is, and how many rows it has.
const MINE: &str = "SELECT concat_ws(',', relowner::regrole, (SELECT count(*) FROM workbench.mine))
                    FROM pg_class WHERE oid = 'workbench.mine'::regclass";

fn bed(major: u32) -> TestBed {
    TestBed::start_with(major, |config| {
        config.replace("[broker]", "[broker]\nreconcile_every = \"1s\"")
    })
}

/// A lease of bob's with a table and a routine: its id and its role.
async fn maker(bed: &TestBed, token: &str) -> [String; 2] {
    let wish = json!({ "cluster": "orders", "role": "orders_write", "reason": "to try it" });
    let answer = bed.call(Method::POST, "/v1/leases", Caller::Session(token), Some(wish)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let (role, password) = (answer.text("/lease/role_name"), answer.text("/password"));
    let make = "CREATE TABLE workbench.mine (n integer); INSERT INTO workbench.mine VALUES (1);
                CREATE FUNCTION workbench.one() RETURNS integer LANGUAGE sql AS 'SELECT 1'";
    bed.postgres.sql_as(&role, &password, "orders", make).expect("the holder may");
    [answer.text("/lease/id"), role]
}

/// The records of `action`.
fn records(bed: &TestBed, action: &str) -> Vec<Value> {
    bed.records().into_iter().filter(|record| record["action"] == action).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_to_the_attic_is_written_down_with_the_end_of_the_lease() {
    for major in [13, 18] {
        let bed = bed(major);
        let token = bed.login("bob").await;
        let [id, _] = maker(&bed, &token).await;
        let path = format!("/v1/leases/{id}");
        let ended = bed.call(Method::DELETE, &path, Caller::Session(&token), None).await;
        assert_eq!(ended.text("/state"), "revoked", "{ended:?}");
        let told = records(&bed, "lease.revoked");
        assert_eq!(told.len(), 1);
        assert_eq!(
            told[0]["detail"],
            "2 objects in database orders now pgbridge_attic's: function workbench.one(), \
             table workbench.mine"
        );
        assert_eq!(bed.postgres.sql("orders", MINE), [["pgbridge_attic,1"]]);
    }
}

/// Nobody knows any more what was agreed about them, so they are kept.
#[tokio::test(flavor = "multi_thread")]
async fn the_objects_of_a_role_whose_lease_nobody_knows_are_kept() {
    for major in [13, 18] {
        let mut bed = bed(major);
        let token = bed.login("bob").await;
        maker(&bed, &token).await;
        bed.stop();
        for name in ["pgbridge.db", "pgbridge.db-wal", "pgbridge.db-shm"] {
            let _ = fs::remove_file(bed.file(name));
        }
        bed.start_again();
        wait_for("the orphan to be gone", SOON, || bed.lease_roles().is_empty().then_some(()));
        assert_eq!(bed.postgres.sql("orders", MINE), [["pgbridge_attic,1"]]);
        let told = records(&bed, "orphan.removed");
        let detail = told[0]["detail"].as_str().unwrap_or_default();
        assert!(
            detail.starts_with("2 objects in database orders now pgbridge_attic's"),
            "{detail}"
        );
    }
}

/// A role that a backup of the cluster brought back is treated as its lease says.
#[tokio::test(flavor = "multi_thread")]
async fn the_objects_of_a_role_that_is_back_are_treated_as_was_agreed() {
    for (policy, left) in [("keep", 1), ("drop", 0), ("reassign", 1)] {
        let agreed = format!("reason = \"required\"\nowned_objects = \"{policy}\"");
        let mut bed = TestBed::start_with(18, |config| {
            let config = config.replace("reason = \"required\"", &agreed);
            config.replace("[broker]", "[broker]\nreconcile_every = \"1s\"")
        });
        let token = bed.login("bob").await;
        let [id, role] = maker(&bed, &token).await;
        bed.postgres.stop();
        bed.postgres.keep();
        bed.postgres.start_again();
        bed.postgres.sql("orders", "DROP TABLE workbench.mine; DROP FUNCTION workbench.one");
        let path = format!("/v1/leases/{id}");
        bed.call(Method::DELETE, &path, Caller::Session(&token), None).await;
        wait_for("the role to be gone", SOON, || bed.lease_roles().is_empty().then_some(()));
        bed.postgres.stop();
        bed.postgres.set_back();
        bed.postgres.start_again();
        let told = wait_for("what became of the role that is back", SOON, || {
            records(&bed, "orphan.removed").pop()
        });
        let tables = "SELECT count(*) FROM pg_class WHERE relname = 'mine'";
        assert_eq!(bed.postgres.sql("orders", tables), [[left.to_string()]], "{policy}");
        if policy == "keep" {
            assert_eq!(told["outcome"], "failed", "{told}");
            let detail = told["detail"].as_str().unwrap_or_default();
            assert!(detail.contains("the role owns table workbench.mine"), "{detail}");
            assert_eq!(bed.lease_roles(), [role]);
            assert_eq!(bed.postgres.sql("orders", MINE), [[format!("{},1", bed.lease_roles()[0])]]);
        } else {
            assert!(bed.lease_roles().is_empty(), "{told}");
        }
    }
}

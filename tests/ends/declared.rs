//! Leases that an operator declares gone whose cluster is not in the configuration any more.

use std::fs;

use super::{Method, TestBed, Value, busy, issued, json, support, until};
use crate::support::Postgres;

/// D-10.
#[tokio::test]
async fn a_lease_whose_cluster_is_not_configured_is_declared_gone_and_its_role_goes_when_it_is() {
    let mut bed = TestBed::start_with(16, |config| busy(&config));
    let (alice, carol) = (bed.login("alice").await, bed.login("carol").await);
    let (id, role, _) = issued(&bed, &alice, "10m").await;
    bed.stop();
    let spare = Postgres::start(16);
    let path = bed.file("pgbridge.toml");
    let whole = fs::read_to_string(&path).expect("it was written");
    let [port, other] = [bed.postgres.port(), spare.port()].map(|port| format!("port = {port}\n"));
    let without = whole.replace("name = \"orders\"", "name = \"spare\"").replace(&port, &other);
    fs::write(&path, without).expect("it can be written");
    bed.start_again();

    let call = async |method: Method, path: &str, body: Option<Value>| {
        bed.call(method, path, support::Caller::Session(&carol), body).await
    };
    let declare = async || {
        let body = Some(json!({ "reason": "the host was taken down" }));
        call(Method::POST, &format!("/v1/operator/leases/{id}/declare-gone"), body).await
    };
    // What is not on offer any more is told to end, and nobody can take it away.
    until("the lease to be told to end", async || {
        let listed = call(Method::GET, "/v1/operator/leases?state=revoking", None).await;
        (listed.json()["leases"][0]["id"] == id).then_some(())
    })
    .await;
    // So nobody waits for that either.
    let (own, caller) = (format!("/v1/leases/{id}"), support::Caller::Session(&alice));
    let revoked = bed.call(Method::DELETE, &own, caller, None).await;
    assert_eq!(revoked.text("/state"), "revoking", "{revoked:?}");
    let declared = declare().await;
    assert_eq!((declared.status, declared.text("/state").as_str()), (200, "revoked"));
    let listed = call(Method::GET, "/v1/operator/leases?state=revoking", None).await;
    assert_eq!(listed.json()["leases"], json!([]));
    assert_eq!(bed.lease_roles(), [role]);
    let records = bed.records();
    let said = records.iter().rev().find(|record| record["action"] == "lease.declared_gone");
    let detail = said.and_then(|said| said["detail"].as_str()).expect("it is written down");
    assert!(detail.contains("not in the configuration"), "{detail}");
    assert!(detail.contains("the host was taken down"), "{detail}");

    bed.stop();
    fs::write(&path, whole).expect("it can be written");
    bed.start_again();
    until("the role to go", async || bed.lease_roles().is_empty().then_some(())).await;
    until("that to be told", async || (bed.told("orphan.removed", &id) == 1).then_some(())).await;
    assert_eq!(bed.told("lease.revoked", &id), 0);
}

//! Names that are given again, to somebody else.

use serde_json::{Value, json};

use super::{READERS, dn, held, issue, of_action, often, only_roles, renew, show};
use crate::support::{Caller, TestBed, password_of};

/// C-014. The name is given again before anybody looks, so that nobody is ever missing.
#[tokio::test]
async fn who_comes_to_the_name_of_another_gets_nothing_of_theirs() {
    let bed = TestBed::start_with(16, |config| often(&config));
    let (former, bob) = (bed.login("alice").await, bed.login("bob").await);
    let (former, bob) = (Caller::Session(&former), Caller::Session(&bob));
    let (id, _) = held(&issue(&bed, former, "orders_read").await);
    let (_, bobs_role) = held(&issue(&bed, bob, "orders_read").await);
    let (alice, password) = (dn("alice"), password_of("alice"));
    bed.directory.change(&format!(
        "dn: {alice}\nchangetype: delete\n\n\
         dn: {alice}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: alice\ncn: Alice\n\
         sn: Another\nuserPassword: {password}\n\n\
         dn: {READERS}\nchangetype: modify\nreplace: member\nmember: {}\n\n\
         dn: {READERS}\nchangetype: modify\nadd: member\nmember: {alice}\n",
        dn("bob")
    ));
    let other = bed.login("alice").await;
    let other = Caller::Session(&other);
    let path = format!("/v1/leases/{id}");
    assert_eq!(show(&bed, other, &path).await.status, 404);
    assert_eq!(renew(&bed, other, &id, json!({})).await.status, 404);
    assert_eq!(show(&bed, other, "/v1/leases").await.json()["leases"], json!([]));
    assert_eq!(show(&bed, former, "/v1/whoami").await.status, 401);
    let (_, others_role) = held(&issue(&bed, other, "orders_read").await);
    only_roles(&bed, &[&bobs_role, &others_role]);
    assert_eq!(show(&bed, other, "/v1/whoami").await.status, 200);

    let records = bed.records();
    let ended = of_action(&records, "lease.revoke_requested");
    let ended: Vec<_> = ended.iter().filter(|record| record["lease"] == *id).collect();
    let why = ended.first().and_then(|record| record["detail"].as_str()).expect("why");
    assert!(why.starts_with("account_replaced: "), "{why}");
    let refused = of_action(&records, "access.refused");
    let is_session = |record: &&&Value| record["cause"] == "account_replaced";
    assert_eq!(refused.iter().filter(is_session).count(), 1, "{refused:?}");
    assert!(of_action(&records, "person.gone").is_empty());
}

//! A directory that does not show people any more: one who left loses what they had, and when many
//! are missing at once nothing ends until it shows them again or an operator says so.

use reqwest::Method;
use serde_json::{Value, json};

use super::{answer_of, dn, held, issue, of_action, often, only_roles, renew, show};
use crate::support::{Caller, TestBed, until};

/// A broker that holds people back when more than one is missing.
fn bed() -> TestBed {
    TestBed::start_with(16, |config| {
        often(&config).replace("[broker]", "[broker]\nmax_missing = 1")
    })
}

/// Renames entries, so that nobody of these is found, or lets them have their names again.
fn rename(bed: &TestBed, people: &[(&str, &str)]) {
    let record = |(from, to): &(&str, &str)| {
        format!("dn: {}\nchangetype: modrdn\nnewrdn: uid={to}\ndeleteoldrdn: 1\n\n", dn(from))
    };
    bed.directory.change(&people.iter().map(record).collect::<String>());
}

const AWAY: [(&str, &str); 2] = [("alice", "not-alice"), ("bob", "not-bob")];
const BACK: [(&str, &str); 2] = [("not-alice", "alice"), ("not-bob", "bob")];

/// The value of a metric, as it is written.
async fn metric(bed: &TestBed, named: &str) -> String {
    let metrics = show(bed, Caller::Nobody, "/metrics").await.body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(named));
    line.unwrap_or_default().trim().to_owned()
}

/// Returns once the metric has a value that `is` one of those waited for.
async fn until_metric(bed: &TestBed, named: &str, is: impl Fn(u64) -> bool) {
    until(named, async || metric(bed, named).await.parse().is_ok_and(&is).then_some(())).await;
}

const HELD_BACK: &str = "pgbridge_people_held_back{way=\"corp\"}";
const MISSING: &str = "pgbridge_rechecks_total{way=\"corp\",result=\"missing\"}";

fn told(records: &[Value]) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().expect("a word").to_owned();
    let told = of_action(records, "people.missing");
    told.iter().map(|record| (word(&record["outcome"]), word(&record["cause"]))).collect()
}

#[tokio::test]
async fn when_many_are_missing_nothing_ends_and_all_is_as_before_once_they_are_shown() {
    let bed = bed();
    let tokens = [bed.login("alice").await, bed.login("bob").await, bed.login("carol").await];
    let [alice, bob, carol] = tokens.each_ref().map(|token| Caller::Session(token));
    let (alices, alices_role) = held(&issue(&bed, alice, "orders_read").await);
    let (bobs, bobs_role) = held(&issue(&bed, bob, "orders_read").await);
    assert_eq!(metric(&bed, HELD_BACK).await, "0");
    rename(&bed, &AWAY);

    until_metric(&bed, HELD_BACK, |held| held == 2).await;
    // At once nothing is renewed and nothing issued.
    for (caller, id) in [(alice, &alices), (bob, &bobs)] {
        assert_eq!(renew(&bed, caller, id, json!({})).await.status, 401);
        assert_eq!(issue(&bed, caller, "orders_read").await.status, 401);
    }
    // Nothing ends, however often they are looked for.
    let looks: u64 = metric(&bed, MISSING).await.parse().expect("a number");
    until_metric(&bed, MISSING, |now| now > looks + 12).await;
    only_roles(&bed, &[&alices_role, &bobs_role]);
    assert_eq!(show(&bed, carol, "/v1/whoami").await.status, 200);
    let now = bed.records();
    assert_eq!(told(&now), [("refused".to_owned(), "held_back".to_owned())]);
    assert!(of_action(&now, "person.gone").is_empty(), "{now:#?}");
    let refusals = of_action(&now, "access.refused");
    let refused = refusals.iter().filter(|record| record["cause"] == "unknown_account");
    assert!((2..20).contains(&refused.count()), "{refusals:#?}");

    rename(&bed, &BACK);
    answer_of(200, || renew(&bed, alice, &alices, json!({}))).await;
    answer_of(200, || renew(&bed, bob, &bobs, json!({}))).await;
    until_metric(&bed, HELD_BACK, |held| held == 0).await;
    only_roles(&bed, &[&alices_role, &bobs_role]);
    let over = ("done".to_owned(), "over".to_owned());
    assert_eq!(told(&bed.records()).last(), Some(&over));
}

#[tokio::test]
async fn an_operator_ends_what_those_have_who_are_held_back_and_nothing_else() {
    let bed = bed();
    let tokens = [bed.login("alice").await, bed.login("bob").await, bed.login("carol").await];
    let [alice, bob, carol] = tokens.each_ref().map(|token| Caller::Session(token));
    let (_, alices_role) = held(&issue(&bed, alice, "orders_read").await);
    let (_, bobs_role) = held(&issue(&bed, bob, "orders_write").await);
    let wish = json!({ "cluster": "orders", "role": "reports_read" });
    let (_, carols) = held(&bed.call(Method::POST, "/v1/leases", carol, Some(wish)).await);
    let revoke = async |caller, which: Value| {
        bed.call(Method::POST, "/v1/operator/revoke", caller, Some(which)).await
    };
    let nobody = revoke(carol, json!({ "missing_from": "corp" })).await;
    assert_eq!((nobody.status, nobody.json()["leases"].clone()), (200, json!([])));
    rename(&bed, &AWAY);
    until_metric(&bed, HELD_BACK, |held| held == 2).await;

    let dry = revoke(carol, json!({ "missing_from": "corp", "dry_run": true })).await;
    assert_eq!(dry.json()["leases"].as_array().map(Vec::len), Some(2), "{dry:?}");
    let other = revoke(carol, json!({ "missing_from": "other", "dry_run": true })).await;
    assert_eq!(other.json()["leases"], json!([]), "{other:?}");
    only_roles(&bed, &[&alices_role, &bobs_role, &carols]);
    // Of one role: the logins stay.
    let one = revoke(carol, json!({ "missing_from": "corp", "role": "orders_read" })).await;
    assert_eq!(one.status, 200, "{one:?}");
    only_roles(&bed, &[&bobs_role, &carols]);
    bed.cli_login("carol");
    let mut all = bed.cli("carol");
    let all = all.args(["revoke", "--missing-from", "corp", "--yes"]).output().expect("it runs");
    assert!(all.status.success(), "{all:?}");
    only_roles(&bed, &[&carols]);

    // Their logins are over, and so there is nobody to be held back.
    until_metric(&bed, HELD_BACK, |held| held == 0).await;
    rename(&bed, &BACK);
    for gone in [alice, bob] {
        assert_eq!(show(&bed, gone, "/v1/whoami").await.status, 401);
    }
    assert_eq!(show(&bed, carol, "/v1/whoami").await.status, 200);
    let records = bed.records();
    let ended = of_action(&records, "lease.revoke_requested");
    let by_operator = ended.iter().filter(|record| record["cause"] == "operator");
    assert_eq!(by_operator.count(), 2, "{ended:#?}");
    let logins: Vec<&Value> = ended
        .iter()
        .filter(|record| record["lease"].is_null())
        .map(|record| &record["detail"])
        .collect();
    assert!(logins.contains(&&json!("every login, of people missing from `corp`")), "{logins:?}");
}

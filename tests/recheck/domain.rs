//! People of Active Directory, from their login to their end.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::{answer_of, held, issue, of_action, often, only_roles, renew, show};
use crate::support::{
    AD_GROUPS, AD_SERVICE_DN, Answer, Caller, DomainController, Scratch, TestBed, password_of,
};

/// A broker in front of the domain: who is in `orders-readers` by its DN, and in `orders-writers` by
/// its SID. The map is read from `files`.
fn bed(controller: &DomainController, files: &Scratch) -> TestBed {
    let writers = controller.sid(&format!("CN=orders-writers,{AD_GROUPS}"));
    let map = files.write(
        "pg_ident.conf",
        &format!(
            "corp-groups \"CN=orders-readers,{AD_GROUPS}\" orders_read\n\
             corp-groups {writers} orders_write\n\
             duties \"CN=auditors,{AD_GROUPS}\" auditor\n"
        ),
        None,
    );
    let section = format!(
        r#"[[ldap]]
name = "corp"
directory_type = "active_directory"
group_map = "corp-groups"
ldapserver = ["{}"]
ldapscheme = "ldaps"
ca_file = "ca.pem"
ldapbasedn = "DC=ad,DC=test"
ldapbinddn = "{AD_SERVICE_DN}"
ldapbindpasswd_file = "corp.password"
netbios_domain = "ADTEST"

"#,
        controller.address()
    );
    TestBed::start_with(16, |config| {
        let config = often(&config).replace("\"pg_ident.conf\"", &format!("\"{}\"", map.display()));
        let (begin, end) = (config.find("[[ldap]]"), config.find("[[cluster]]"));
        let (begin, end) = begin.zip(end).expect("both are there");
        format!("{}{section}{}", &config[..begin], &config[end..])
    })
}

async fn login(bed: &TestBed, username: &str, password: &str) -> Answer {
    let body = json!({ "username": username, "password": password });
    bed.call(Method::POST, "/v1/login", Caller::Nobody, Some(body)).await
}

#[tokio::test]
async fn c_050_whoever_logs_in_by_another_of_their_names_has_what_they_had() {
    let Some(controller) = DomainController::start() else { return };
    let files = Scratch::new("domain");
    let bed = bed(&controller, &files);
    let token = login(&bed, r"ADTEST\alice", &password_of("alice")).await.text("/token");
    let alice = Caller::Session(&token);
    let (id, role) = held(&issue(&bed, alice, "orders_read").await);
    for typed in ["alice@AD.TEST", "Alice", "CN=alice,OU=people,DC=ad,DC=test"] {
        let token = login(&bed, typed, &password_of("alice")).await.text("/token");
        let again = Caller::Session(&token);
        assert_eq!(show(&bed, again, "/v1/whoami").await.text("/principal"), "ldap:alice");
        assert_eq!(show(&bed, again, &format!("/v1/leases/{id}")).await.text("/state"), "active");
    }
    only_roles(&bed, &[&role]);
    // Failures at all names count as one account's.
    for typed in ["carol", r"ADTEST\carol", "carol@ad.test", "CAROL", r"adtest\Carol"] {
        assert_eq!(login(&bed, typed, "wrong").await.status, 401, "{typed}");
    }
    assert_eq!(login(&bed, "carol@ad.test", &password_of("carol")).await.status, 401);
    let last = bed.records().into_iter().rfind(|record| record["outcome"] == "refused");
    assert_eq!(last.expect("a refusal")["cause"], "account_locked_out");
    assert_eq!(login(&bed, "bob", &password_of("bob")).await.status, 200);
}

#[tokio::test]
async fn c_049_an_account_that_ends_loses_what_it_had_and_its_refusal_looks_like_any_other() {
    let Some(controller) = DomainController::start() else { return };
    let files = Scratch::new("domain");
    let bed = bed(&controller, &files);
    let tokens = [bed.login("alice").await, bed.login("bob").await];
    let [alice, bob] = tokens.each_ref().map(|token| Caller::Session(token));
    let (_, kept) = held(&issue(&bed, alice, "orders_read").await);
    let (bobs, _) = held(&issue(&bed, bob, "orders_read").await);
    held(&issue(&bed, bob, "orders_write").await);
    assert_eq!(issue(&bed, alice, "orders_write").await.status, 403);
    assert_eq!(renew(&bed, bob, &bobs, json!({})).await.status, 200);
    controller.modify("bob", "replace: userAccountControl\nuserAccountControl: 514");

    answer_of(401, || renew(&bed, bob, &bobs, json!({}))).await;
    only_roles(&bed, &[&kept]);
    answer_of(401, || show(&bed, bob, "/v1/whoami")).await;
    assert_eq!(show(&bed, alice, "/v1/whoami").await.status, 200);
    let records = bed.records();
    let told = of_action(&records, "person.gone").into_iter();
    let told: BTreeSet<_> =
        told.map(|gone| format!("{} {}", gone["person"], gone["cause"])).collect();
    assert_eq!(told, [r#""ldap:corp:bob" "account_disabled""#.to_owned()].into());

    let mut texts = BTreeSet::new();
    for (person, password) in [("bob", "bob-directory-password"), ("alice", "wrong")] {
        let refused = login(&bed, person, password).await;
        assert_eq!(refused.status, 401, "{person}");
        let mut problem = refused.json();
        problem["request_id"] = Value::Null;
        texts.insert(problem.to_string());
    }
    assert_eq!(texts.len(), 1, "{texts:?}");
    let records = bed.records();
    let causes =
        of_action(&records, "login").into_iter().filter(|record| record["outcome"] == "refused");
    let causes: Vec<&Value> = causes.map(|record| &record["cause"]).collect();
    assert_eq!(causes, ["account_disabled", "wrong_password"]);
}

//! Keytabs that are wrong, missing, old, weak, or renewed while the broker runs; and clocks apart.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{Realm, SERVICE, show, token, who};
use crate::support::initiator::{Initiator, Wishes};
use pgbridge::auth::kerberos::{KerberosSettings, KerberosWay};
use pgbridge::auth::way::{Unproven, Way};

#[tokio::test]
async fn a_keytab_is_renewed_without_a_restart() {
    let realm = Realm::start();
    let way = realm.way();
    let (before, kept) = (token(&realm.alice), fs::read(&realm.keytab).unwrap());
    assert!(show(&way, before).await.is_ok());

    // The KDC has new keys, the keytab not yet: who comes with a new ticket is refused.
    realm.kdc.change_keys("HTTP/localhost", "aes256-cts:normal");
    let new = || realm.token_of("alice", "new");
    assert_eq!(who(&way, new()).await, Err("ticket_of_another_key"));
    // Added to the file, as `ktadd` does: new tickets and old ones are taken.
    realm.kdc.keytab("HTTP/localhost", "service.keytab");
    assert!(show(&way, new()).await.is_ok());
    assert!(show(&way, token(&realm.alice)).await.is_ok());

    // Another file in its place, without the old keys.
    let fresh = realm.kdc.keytab("HTTP/localhost", "fresh.keytab");
    fs::rename(fresh, &realm.keytab).unwrap();
    assert!(show(&way, new()).await.is_ok());
    assert_eq!(who(&way, token(&realm.alice)).await, Err("ticket_of_another_key"));

    // Removed, and brought back as it was at first.
    fs::remove_file(&realm.keytab).unwrap();
    assert_eq!(who(&way, new()).await, Err("keytab_unusable"));
    assert!(matches!(way.probe().await, Err(Unproven::Outage(_))));
    fs::write(&realm.keytab, kept).unwrap();
    assert!(show(&way, token(&realm.alice)).await.is_ok());
    way.probe().await.unwrap();
}

#[tokio::test]
async fn a_keytab_that_cannot_be_used_lets_nobody_in_and_counts_for_nobody() {
    let realm = Realm::start();
    realm.kdc.add(&["HTTP/other.corp.test"]);
    let other = realm.kdc.keytab("HTTP/other.corp.test", "other.keytab");
    let noise = realm.keytab.with_file_name("noise.keytab");
    fs::write(&noise, "no keytab").unwrap();
    let missing = realm.keytab.with_file_name("missing.keytab");
    for keytab in [other.clone(), noise, missing, "/".into(), "/dev/zero".into()] {
        let way = KerberosWay::new(KerberosSettings { keytab, ..realm.settings() });
        let refused = way.probe().await.unwrap_err();
        assert!(matches!(refused, Unproven::Outage(_)), "{refused}");
        assert_eq!(who(&way, token(&realm.alice)).await, Err("keytab_unusable"));
    }
    let service = "HTTP/other.corp.test@CORP.TEST".parse().unwrap();
    let way = KerberosWay::new(KerberosSettings { keytab: other, service, ..realm.settings() });
    way.probe().await.unwrap();
}

#[tokio::test]
async fn of_a_keytab_with_several_services_only_the_configured_one_is_taken() {
    let realm = Realm::start();
    realm.kdc.add(&["HTTP/other.corp.test"]);
    realm.kdc.keytab("HTTP/other.corp.test", "service.keytab");
    let way = realm.way();
    let other = "HTTP/other.corp.test@CORP.TEST";
    let for_other = || Initiator::new(&realm.alice, other, &Wishes::default()).token();
    assert_eq!(who(&way, for_other()).await, Err("ticket_for_another_service"));
    assert!(show(&way, token(&realm.alice)).await.is_ok());
    let service = other.parse().unwrap();
    let way = KerberosWay::new(KerberosSettings { service, ..realm.settings() });
    assert!(show(&way, for_other()).await.is_ok());
}

#[tokio::test]
async fn a_weak_key_is_not_used_also_when_a_good_one_stands_beside_it() {
    let realm = Realm::start();
    let way = realm.way();
    assert!(show(&way, token(&realm.alice)).await.is_ok());
    realm.kdc.change_keys("HTTP/localhost", "arcfour-hmac:normal");
    realm.kdc.keytab("HTTP/localhost", "service.keytab");
    let weak = realm.token_of("alice", "weak");
    let refused = who(&way, weak).await;
    assert!(refused.is_err(), "{refused:?}");
    // Who has a ticket by the good key of before is still let in.
    assert!(show(&way, token(&realm.alice)).await.is_ok());
    let alone = realm.kdc.keytab("HTTP/localhost", "weak.keytab");
    assert_eq!(fs::metadata(&alone).unwrap().permissions().mode() & 0o077, 0);
    let way = KerberosWay::new(KerberosSettings { keytab: alone, ..realm.settings() });
    let refused = way.probe().await.unwrap_err();
    assert_eq!(refused.reason().word, "keytab_unusable");
    assert!(refused.to_string().contains("RC4"), "{refused}");

    realm.kdc.change_keys("HTTP/localhost", "aes128-cts:normal");
    realm.kdc.keytab("HTTP/localhost", "service.keytab");
    assert!(show(&realm.way(), realm.token_of("alice", "good")).await.is_ok());
}

#[tokio::test]
async fn clocks_may_be_five_minutes_apart_and_no_more() {
    let realm = Realm::start();
    // The KDC has its own opinion of clocks, so the ticket is there before.
    realm.kdc.fetch(&realm.alice, SERVICE);
    let way = realm.way();
    let by = |ahead: i32| {
        let wishes = Wishes { ahead, ..Wishes::default() };
        Initiator::new(&realm.alice, SERVICE, &wishes).token()
    };
    // Time goes on meanwhile: an accepted token comes nearer to the broker's clock. A client that is
    // too far behind does not use its ticket at all.
    assert_eq!(who(&way, by(299)).await, Ok("gss:alice@CORP.TEST".to_owned()));
    assert_eq!(who(&way, by(310)).await, Err("clock_skew"));
    assert_eq!(who(&way, by(-200)).await, Ok("gss:alice@CORP.TEST".to_owned()));
    assert_eq!(who(&way, by(3600)).await, Err("clock_skew"));
}

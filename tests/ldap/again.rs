//! Looking people up again, who are not there to type a password.

use jiff::Timestamp;
use pgbridge::auth::ldap::{BindMode, Find, LdapSettings, LdapWay};
use pgbridge::auth::way::Standing;
use pgbridge::names::Principal;

use super::{
    GROUPS, ODD_GROUP, PEOPLE, READERS, WEIRD_NAME, WRITERS, by_prefix, clear, group_search,
    impatient, in_time, ldaps, port_of, service, starttls,
};
use crate::support::Directory;

/// How `account` stands, by its word or its groups.
async fn stands(settings: LdapSettings, account: &str) -> Result<Vec<String>, String> {
    let directory = settings.name.clone();
    let principal = Principal::Ldap { directory, account: account.to_owned() };
    let way = LdapWay::new(settings).unwrap();
    match in_time(way.look_again(&principal, now())).await {
        Standing::Good(identity) => {
            assert_eq!(*identity.principal(), principal);
            assert_eq!(identity.authenticated_at(), now());
            Ok(identity.groups().iter().map(|group| group.as_str().to_owned()).collect())
        }
        Standing::Gone(reason) => Err(format!("gone: {}", reason.word)),
        Standing::Missing(reason) => Err(format!("missing: {}", reason.word)),
        Standing::Unknown(reason) => Err(format!("unknown: {}", reason.word)),
        Standing::OnlyAtLogin => Err("only at login".to_owned()),
    }
}

/// 2026-11-20 20:00:00 UTC.
fn now() -> Timestamp {
    "2026-11-20T20:00:00Z".parse().unwrap()
}

#[tokio::test]
async fn whoever_is_looked_up_again_is_found_by_their_account_with_their_groups_of_now() {
    let directory = Directory::start();
    for way in [clear, starttls, ldaps] {
        assert_eq!(stands(way(&directory), "bob").await.unwrap(), [READERS, WRITERS]);
    }
    let weird = stands(clear(&directory), WEIRD_NAME).await.unwrap();
    assert_eq!(weird, [ODD_GROUP]);
    let searched = LdapSettings { groups: group_search("(member=$dn)"), ..clear(&directory) };
    assert_eq!(stands(searched, "bob").await.unwrap(), [READERS, WRITERS]);
    directory.change(&format!(
        "dn: {WRITERS}\nchangetype: modify\nreplace: member\nmember: uid=alice,{PEOPLE}\n"
    ));
    assert_eq!(stands(clear(&directory), "bob").await.unwrap(), [READERS]);
    assert_eq!(stands(clear(&directory), "alice").await.unwrap(), [READERS, WRITERS]);
    // Nobody bound as them for it.
    assert!(!directory.log().contains("BIND dn=\"uid="), "{}", directory.log());
    // By the account and not by what somebody types: a name of another case is another account.
    assert_eq!(stands(clear(&directory), "BOB").await.unwrap_err(), "missing: renamed");
    let by_mail = || LdapSettings { account_attribute: "mail".into(), ..clear(&directory) };
    assert_eq!(stands(by_mail(), "bob@example.test").await.unwrap(), [READERS]);
    assert_eq!(stands(by_mail(), "bob").await.unwrap_err(), "missing: unknown_account");
}

#[tokio::test]
async fn whoever_could_not_log_in_any_more_is_gone_and_an_outage_takes_nobody_away() {
    let mut directory = Directory::start();
    for (account, word) in [
        ("nobody", "missing: unknown_account"),
        ("dave", "gone: locked"),
        ("*", "missing: unknown_account"),
        ("alice)(uid=*", "missing: unknown_account"),
        // Which of the two it is nobody knows, and neither is gone.
        ("twin", "unknown: several_entries"),
    ] {
        let standing = stands(clear(&directory), account).await;
        assert_eq!(standing.unwrap_err(), word, "{account}");
    }
    let change = |lines: &str| {
        directory.change(&format!("dn: uid=alice,{PEOPLE}\nchangetype: modify\n{lines}\n"));
    };
    change("add: pwdEndTime\npwdEndTime: 20261120195959Z");
    assert_eq!(stands(clear(&directory), "alice").await.unwrap_err(), "gone: account_expired");
    change("replace: pwdEndTime\npwdEndTime: 20261120200001Z");
    assert_eq!(stands(clear(&directory), "alice").await.unwrap(), [READERS]);
    // Locked after wrong passwords, which passes: nobody ends another's work by guessing.
    change("add: pwdAccountLockedTime\npwdAccountLockedTime: 20261120195900Z");
    assert_eq!(stands(clear(&directory), "alice").await.unwrap(), [READERS]);
    // Who may log in is what the filter of the login finds.
    let filter = "(&(|(uid=$username)(mail=$username))(!(employeeType=gone)))";
    let filtered = || {
        let find = Find::Filter(filter.into());
        let service = Some(service());
        let bind = BindMode::Search { base_dn: PEOPLE.into(), service, find };
        LdapSettings { bind, ..clear(&directory) }
    };
    assert_eq!(stands(filtered(), "alice").await.unwrap(), [READERS]);
    change("add: employeeType\nemployeeType: gone");
    assert_eq!(stands(filtered(), "alice").await.unwrap_err(), "missing: unknown_account");
    assert_eq!(stands(clear(&directory), "alice").await.unwrap(), [READERS]);

    let bind_only = LdapSettings { bind: by_prefix(), ..clear(&directory) };
    assert_eq!(stands(bind_only, "nobody").await.unwrap_err(), "only at login");
    let find = Find::Attribute("uid".into());
    let bind = BindMode::Search { base_dn: PEOPLE.into(), service: None, find };
    let anonymous = LdapSettings { bind, ..clear(&directory) };
    assert_eq!(stands(anonymous, "alice").await.unwrap_err(), "unknown: search_failed");
    let settings = || impatient(port_of(&directory.ldap_url()));
    directory.hang();
    assert_eq!(stands(settings(), "nobody").await.unwrap_err(), "unknown: directory_timeout");
    directory.resume();
    assert_eq!(stands(settings(), "bob").await.unwrap(), [READERS, WRITERS]);
    let settings = settings();
    directory.stop();
    assert_eq!(stands(settings, "nobody").await.unwrap_err(), "unknown: directory_unreachable");
}

/// A directory that was restored empty, or is searched in the wrong place, takes nobody away.
#[tokio::test]
async fn where_nobody_can_be_found_nobody_is_gone() {
    let directory = Directory::start();
    let searched = |base_dn: &str, attribute: &str| {
        let find = Find::Attribute(attribute.into());
        let bind = BindMode::Search { base_dn: base_dn.into(), service: Some(service()), find };
        LdapSettings { bind, account_attribute: attribute.into(), ..clear(&directory) }
    };
    let everybody = || searched(PEOPLE, "uid");
    assert_eq!(stands(everybody(), "nobody").await.unwrap_err(), "missing: unknown_account");
    assert_eq!(stands(everybody(), "alice").await.unwrap(), [READERS]);
    for (base_dn, attribute) in [(GROUPS, "uid"), (PEOPLE, "mailbox")] {
        let standing = stands(searched(base_dn, attribute), "alice").await;
        assert_eq!(standing.unwrap_err(), "unknown: nobody_there", "{base_dn} {attribute}");
    }
}

//! Accounts of Active Directory that are no person's, or may not be used; and controllers that refuse,
//! hang or are down. Each refusal has its accepted twin beside it.

use pgbridge::auth::ldap::{BindMode, DirectoryType, Find, LdapSettings, LdapWay};

use super::super::{admitted, in_time, login, refused};
use super::{by_logon_name, clear, dn, ldaps, stands, starttls};
use crate::support::samba::person;
use crate::support::{DOMAIN, DomainController, password_of};

/// C-049, and the twin of each: the same account before, and after it was put in order.
#[tokio::test]
async fn c_049_each_reason_to_refuse_a_right_password_has_its_own_word() {
    let Some(controller) = DomainController::start() else { return };
    let password = password_of("bob");
    let lockout = |most: u32| {
        controller.change(&format!(
            "dn: {DOMAIN}\nchangetype: modify\nreplace: lockoutThreshold\nlockoutThreshold: {most}\n"
        ));
    };
    for (word, standing, break_it, mend_it) in [
        (
            "account_disabled",
            Some("gone: account_disabled"),
            "replace: userAccountControl\nuserAccountControl: 514",
            "replace: userAccountControl\nuserAccountControl: 512",
        ),
        (
            "account_expired",
            Some("gone: account_expired"),
            "replace: accountExpires\naccountExpires: 133000000000000000",
            "replace: accountExpires\naccountExpires: 0",
        ),
        (
            "must_change_password",
            Some("gone: must_change_password"),
            "replace: pwdLastSet\npwdLastSet: 0",
            "replace: pwdLastSet\npwdLastSet: -1",
        ),
    ] {
        assert_eq!(admitted(clear(&controller), "bob", &password).await.0, "bob", "{word}");
        controller.modify("bob", break_it);
        let refusal = login(clear(&controller), "bob", &password).await.unwrap_err();
        assert_eq!(refusal.kind(), word);
        assert!(!refusal.is_outage(), "{word}");
        // Who does not know the password learns nothing.
        assert_eq!(refused(clear(&controller), "bob", "wrong").await, "wrong_password", "{word}");
        assert_eq!(stands(clear(&controller), "bob").await.err().as_deref(), standing);
        assert!(stands(clear(&controller), "alice").await.is_ok());
        controller.modify("bob", mend_it);
    }
    assert_eq!(admitted(clear(&controller), "bob", &password).await.0, "bob");

    // A lock that passes ends nobody's work: anybody could lock another out by guessing.
    lockout(2);
    for _ in 0..2 {
        assert_eq!(refused(clear(&controller), "bob", "wrong").await, "wrong_password");
    }
    assert_eq!(refused(clear(&controller), "bob", &password).await, "locked");
    assert!(stands(clear(&controller), "bob").await.is_ok());
    controller.modify("bob", "replace: lockoutTime\nlockoutTime: 0");
    assert_eq!(admitted(clear(&controller), "bob", &password).await.0, "bob");
}

/// C-047: a computer is one by what it is, and not only by the `$` of its name.
#[tokio::test]
async fn c_047_machines_are_nobody() {
    let Some(controller) = DomainController::start() else { return };
    let machine = |name: &str, account: &str| {
        person(&dn(name), account, "machine-password", "")
            .replace("objectClass: user", "objectClass: computer")
            .replace("userAccountControl: 512", "userAccountControl: 4096")
    };
    controller.change(&machine("web01", "web01$"));
    // A user account with the `$`, and one called as the machine without it.
    controller.change(&person(&dn("pretender"), "alice$", "machine-password", ""));
    for typed in ["web01", "web01$", r"ADTEST\web01$", "web01@ad.test", "web01$@ad.test"] {
        let refusal = refused(clear(&controller), typed, "machine-password").await;
        assert_eq!(refusal, "unknown_account", "{typed}");
    }
    assert_eq!(refused(clear(&controller), "alice$", "machine-password").await, "machine_account");
    assert_eq!(refused(clear(&controller), "alice", "machine-password").await, "wrong_password");
    // A search of one's own finds it, and it is a machine whatever it is called.
    let searched = || {
        let BindMode::Search { base_dn, service, .. } = by_logon_name(DOMAIN) else { panic!() };
        let find = Find::Attribute("cn".into());
        let bind = BindMode::Search { base_dn, service, find };
        LdapSettings { bind, account_attribute: "cn".into(), ..clear(&controller) }
    };
    assert_eq!(refused(searched(), "web01", "machine-password").await, "machine_account");
    assert_eq!(admitted(searched(), "alice", &password_of("alice")).await.0, "alice");
    controller.add_person("web01x", "person-password", "");
    assert_eq!(admitted(clear(&controller), "web01x", "person-password").await.0, "web01x");
}

/// C-040 and C-043: this directory says yes to a bind without a password.
#[tokio::test]
async fn c_040_a_blank_password_is_never_sent() {
    let Some(controller) = DomainController::start() else { return };
    for blank in ["", " ", "\0\0", "\t \u{a0}\n"] {
        for typed in ["alice", "alice@ad.test", r"ADTEST\alice"] {
            let refusal = refused(clear(&controller), typed, blank).await;
            assert_eq!(refusal, "blank_password", "{blank:?}");
        }
    }
    assert_eq!(admitted(clear(&controller), "alice", &password_of("alice")).await.0, "alice");
}

/// C-044: every search of the whole domain is answered with references to other partitions.
#[tokio::test]
async fn c_044_references_to_other_partitions_say_nothing_about_anybody() {
    let Some(controller) = DomainController::start() else { return };
    let refusal = login(clear(&controller), "nobody", "x").await.unwrap_err();
    assert_eq!((refusal.kind(), refusal.is_outage()), ("unknown_account", false));
    let gone = stands(clear(&controller), "nobody").await.unwrap_err();
    assert_eq!(gone, "missing: unknown_account");
    // They are there: in a directory of which that is not known they would be a reason to doubt.
    let plain = LdapSettings { directory_type: DirectoryType::Ldap, ..clear(&controller) };
    assert_eq!(refused(plain, "nobody", "x").await, "referral");
    in_time(LdapWay::new(clear(&controller)).unwrap().probe()).await.unwrap();
}

/// A domain controller as it is installed takes no password in clear, and says so.
#[tokio::test]
async fn a_controller_that_wants_tls_is_told_from_a_wrong_password() {
    let Some(controller) = DomainController::start_with("") else { return };
    let by_suffix = || {
        let (prefix, suffix) = (String::new(), "@ad.test".into());
        BindMode::Simple { prefix, suffix, base_dn: Some(DOMAIN.into()) }
    };
    for bind in [by_logon_name(DOMAIN), by_suffix()] {
        let settings = LdapSettings { bind, ..clear(&controller) };
        let refusal = login(settings, "alice", &password_of("alice")).await.unwrap_err();
        assert_eq!((refusal.kind(), refusal.is_outage()), ("tls_needed", true));
        assert!(refusal.to_string().contains("`ldaptls = true`"), "{refusal}");
    }
    for way in [starttls, ldaps] {
        assert_eq!(admitted(way(&controller), "alice", &password_of("alice")).await.0, "alice");
    }
}

/// C-054, of which the rest is shown with servers that behave as none should.
#[tokio::test]
async fn c_054_the_next_controller_is_asked_when_one_hangs_or_is_down() {
    let (Some(mut first), Some(second)) = (DomainController::start(), DomainController::start())
    else {
        return;
    };
    let settings = || LdapSettings {
        servers: vec![first.address(), second.address()],
        timeout: "3s".parse().unwrap(),
        ..clear(&first)
    };
    let alice = login(settings(), "alice", &password_of("alice")).await.unwrap();
    first.hang();
    let hung = login(settings(), "alice", &password_of("alice")).await.unwrap();
    assert_eq!(hung, alice, "the same account at another controller");
    assert_eq!(refused(settings(), "alice", "wrong").await, "wrong_password");
    first.resume();
    let both = settings();
    first.stop();
    assert_eq!(login(both, "alice", &password_of("alice")).await.unwrap(), alice);
}

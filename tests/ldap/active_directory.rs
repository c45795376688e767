//! Active Directory, by a real domain controller of Samba: one person by all their names, the groups
//! that the directory counts, and accounts that end. The names of cases are those of the security
//! reference (C-040 to C-054).

mod refusals;

use std::fmt::Write as _;
use std::fs;

use jiff::Timestamp;
use pgbridge::auth::Identity;
use pgbridge::auth::ldap::{
    BindMode, DirectoryType, Find, GroupLookup, LdapSettings, LdapWay, Scheme, SearchBounds,
    ServiceAccount, StartTls, TokenGroups,
};
use pgbridge::auth::way::Standing;
use pgbridge::names::{LoginPassword, Principal};

use super::{TOO_LONG, admitted, in_time, login, refused, settings};
use crate::support::samba::person;
use crate::support::{
    AD_GROUPS, AD_PEOPLE, AD_SERVICE_DN, DOMAIN, DomainController, SERVICE_PASSWORD, password_of,
};

/// 2026-11-20 20:00:00 UTC.
fn now() -> Timestamp {
    "2026-11-20T20:00:00Z".parse().unwrap()
}

fn by_logon_name(base_dn: &str) -> BindMode {
    let service = ServiceAccount {
        bind_dn: AD_SERVICE_DN.into(),
        bind_password: LoginPassword::new(SERVICE_PASSWORD.into()),
    };
    let find = Find::LogonName { netbios_domain: Some("ADTEST".into()) };
    BindMode::Search { base_dn: base_dn.into(), service: Some(service), find }
}

/// Search+bind in clear in the whole domain; each test changes what it is about.
fn clear(controller: &DomainController) -> LdapSettings {
    let tokens = Some(TokenGroups { names_below: DOMAIN.into() });
    LdapSettings {
        directory_type: DirectoryType::ActiveDirectory,
        servers: vec![controller.address()],
        port: None,
        bind: by_logon_name(DOMAIN),
        account_attribute: "sAMAccountName".into(),
        groups: GroupLookup { member_of: None, search: None, tokens },
        ..settings(389)
    }
}

fn ca_of(controller: &DomainController) -> Vec<u8> {
    fs::read(controller.ca_file()).unwrap()
}

fn ldaps(controller: &DomainController) -> LdapSettings {
    LdapSettings { scheme: Scheme::Ldaps, ca: Some(ca_of(controller)), ..clear(controller) }
}

fn starttls(controller: &DomainController) -> LdapSettings {
    LdapSettings { tls: StartTls::Yes, ca: Some(ca_of(controller)), ..clear(controller) }
}

/// The SID of the domain, before the number of the account.
fn domain_sid(identity: &Identity) -> String {
    let mut groups = identity.groups().iter();
    let primary = groups.find_map(|group| group.as_str().strip_suffix("-513"));
    primary.expect("everybody is in Domain Users").to_owned()
}

/// The DNs among the groups, sorted.
fn names(groups: &[String]) -> Vec<&str> {
    groups.iter().map(String::as_str).filter(|group| !group.starts_with("S-1-")).collect()
}

fn group(name: &str, members: &[&str]) -> String {
    let members = members.iter().map(|dn| format!("member: {dn}\n"));
    let members = members.collect::<String>();
    format!(
        "dn: CN={name},{AD_GROUPS}\nchangetype: add\nobjectClass: group\nsAMAccountName: {name}\n\
         {members}\n"
    )
}

fn dn(name: &str) -> String {
    format!("CN={name},{AD_PEOPLE}")
}

/// How `account` stands: its groups, or a word.
async fn stands(settings: LdapSettings, account: &str) -> Result<Identity, String> {
    let principal =
        Principal::Ldap { directory: settings.name.clone(), account: account.to_owned() };
    let way = LdapWay::new(settings).unwrap();
    match in_time(way.look_again(&principal, now())).await {
        Standing::Good(identity) => Ok(identity),
        Standing::Gone(reason) => Err(format!("gone: {}", reason.word)),
        Standing::Missing(reason) => Err(format!("missing: {}", reason.word)),
        Standing::Unknown(reason) => Err(format!("unknown: {}", reason.word)),
        Standing::OnlyAtLogin => Err("only at login".to_owned()),
    }
}

/// C-050.
#[tokio::test]
async fn c_050_all_names_of_one_person_are_one_subject() {
    let Some(controller) = DomainController::start() else { return };
    let password = password_of("alice");
    let alice = login(clear(&controller), "alice", &password).await.unwrap();
    assert_eq!(alice.principal().key(), "ldap:corp:alice");
    assert!(alice.account_id().is_some());
    for way in [clear, starttls, ldaps] {
        for typed in [
            "alice",
            "Alice",
            "alice@ad.test",
            "alice@AD.TEST",
            "ALICE@ad.test",
            r"ADTEST\alice",
            r"adtest\ALICE",
            "CN=alice,OU=people,DC=ad,DC=test",
            "cn=Alice,ou=PEOPLE,dc=ad,dc=test",
        ] {
            let same = login(way(&controller), typed, &password).await.unwrap();
            assert_eq!(same, alice, "{typed}");
            assert_eq!(
                refused(way(&controller), typed, "wrong").await,
                "wrong_password",
                "{typed}"
            );
        }
    }
    for stranger in [
        "alice@other.test",
        r"OTHER\alice",
        r"ad.test\alice",
        r"ADTEST\alice@ad.test",
        "alice@ad.test@ad.test",
        "CN=alice,OU=people,DC=other,DC=test",
        "CN=alice",
        "nobody",
    ] {
        let refusal = login(clear(&controller), stranger, &password).await.unwrap_err();
        assert_eq!(refusal.kind(), "unknown_account", "{stranger}");
        assert!(!refusal.is_outage(), "{stranger}");
    }
    // A name of another suffix is whose the directory says.
    controller.modify("carol", "replace: userPrincipalName\nuserPrincipalName: alice@other.test");
    let carol = login(clear(&controller), "alice@other.test", &password_of("carol")).await.unwrap();
    assert_eq!(carol.principal().key(), "ldap:corp:carol");
    assert_eq!(refused(clear(&controller), "alice@other.test", &password).await, "wrong_password");
    for typed in ["carol", "carol@ad.test", r"ADTEST\carol"] {
        assert_eq!(login(clear(&controller), typed, &password_of("carol")).await.unwrap(), carol);
    }
}

/// C-050: each spelling more would be a counter of failures more, so there is one of each form.
#[tokio::test]
async fn c_050_another_spelling_of_a_name_is_nobodys() {
    let Some(controller) = DomainController::start() else { return };
    let password = password_of("alice");
    let sid = controller.sid(&dn("alice"));
    for typed in [
        r"CN=\61lice,OU=people,DC=ad,DC=test",
        "cn=Alice, ou=people, dc=ad, dc=test",
        &format!("<SID={sid}>"),
        "älice",
        "al\u{200b}ice",
    ] {
        for password in [password.as_str(), "wrong"] {
            assert_eq!(
                refused(clear(&controller), typed, password).await,
                "unknown_account",
                "{typed}"
            );
        }
    }
    for typed in ["CN=alice,OU=people,DC=ad,DC=test", "cn=ALICE,ou=people,dc=AD,dc=test"] {
        assert_eq!(admitted(clear(&controller), typed, &password).await.0, "alice", "{typed}");
    }
    // By a search or a DN of one's own, too.
    let by_dn = |typed: &'static str| {
        let BindMode::Search { base_dn, service, .. } = by_logon_name(DOMAIN) else { panic!() };
        let find = Find::Filter("(distinguishedName=$username)".into());
        let bind = BindMode::Search { base_dn, service, find };
        (LdapSettings { bind, ..clear(&controller) }, typed)
    };
    let (settings, typed) = by_dn("CN=alice,OU=people,DC=ad,DC=test");
    assert_eq!(admitted(settings, typed, &password).await.0, "alice");
    let (settings, typed) = by_dn(r"CN=\61lice,OU=people,DC=ad,DC=test");
    assert_eq!(refused(settings, typed, &password).await, "unknown_account");
    let bind = || {
        let (prefix, suffix) = ("CN=".into(), format!(",{AD_PEOPLE}"));
        BindMode::Simple { prefix, suffix, base_dn: None }
    };
    let settings = LdapSettings { bind: bind(), ..clear(&controller) };
    assert_eq!(admitted(settings, "Alice", &password).await.0, "alice");
}

/// C-050: an account may be called otherwise before the `@`, and has its own name there all the same.
/// That another one is given that name the directory refuses by itself.
#[tokio::test]
async fn c_050_a_name_before_the_suffix_is_one_accounts_alone() {
    let Some(controller) = DomainController::start() else { return };
    let bob = login(clear(&controller), "bob", &password_of("bob")).await.unwrap();
    controller.modify("bob", "replace: userPrincipalName\nuserPrincipalName: robert@ad.test");
    for typed in ["robert@ad.test", "bob@ad.test", "bob"] {
        let same = login(clear(&controller), typed, &password_of("bob")).await.unwrap();
        assert_eq!(same, bob, "{typed}");
    }
    assert_eq!(refused(clear(&controller), "robert", &password_of("bob")).await, "unknown_account");
    controller.modify("carol", "replace: userPrincipalName\nuserPrincipalName: bobby@ad.test");
    let carol = admitted(clear(&controller), "bobby@ad.test", &password_of("carol")).await;
    assert_eq!(carol.0, "carol");
}

/// C-050: a prefix or a suffix of the configuration makes the same subject too.
#[tokio::test]
async fn c_050_a_bind_without_a_search_makes_the_same_subject() {
    let Some(controller) = DomainController::start() else { return };
    let searched = login(clear(&controller), "alice", &password_of("alice")).await.unwrap();
    for (prefix, suffix) in [("", "@ad.test"), (r"ADTEST\", "")] {
        let settings = || {
            let (prefix, suffix, base_dn) = (prefix.into(), suffix.into(), Some(DOMAIN.into()));
            let bind = BindMode::Simple { prefix, suffix, base_dn };
            LdapSettings { bind, ..clear(&controller) }
        };
        for typed in ["alice", "ALICE"] {
            let bound = login(settings(), typed, &password_of("alice")).await.unwrap();
            assert_eq!(bound, searched, "{typed} {suffix}");
        }
        assert_eq!(refused(settings(), "alice", &password_of("bob")).await, "wrong_password");
    }
}

/// C-014: names are given again, identifiers are not.
#[tokio::test]
async fn c_014_an_account_is_the_same_wherever_it_stands_and_another_of_its_name_is_not() {
    let Some(controller) = DomainController::start() else { return };
    let alice = login(clear(&controller), "alice", &password_of("alice")).await.unwrap();
    let seen = stands(clear(&controller), "alice").await.unwrap();
    assert_eq!(seen.account_id(), alice.account_id());
    assert_eq!(alice.as_seen_in(&seen), Some(alice.clone()));

    // Married and moved; the name of the account stays.
    controller.change(&format!(
        "dn: {}\nchangetype: modrdn\nnewrdn: CN=Alice Baker\ndeleteoldrdn: 1\nnewsuperior: {DOMAIN}\n",
        dn("alice")
    ));
    let moved = stands(clear(&controller), "alice").await.unwrap();
    assert_eq!(alice.as_seen_in(&moved), Some(alice.clone()));
    assert_eq!(
        login(clear(&controller), "alice", &password_of("alice")).await.unwrap().account_id(),
        alice.account_id()
    );

    controller.change(&format!("dn: CN=Alice Baker,{DOMAIN}\nchangetype: delete\n"));
    assert_eq!(stands(clear(&controller), "alice").await.unwrap_err(), "missing: unknown_account");
    controller.add_person("alice", "another-alice", "userPrincipalName: alice@ad.test");
    let other = login(clear(&controller), "alice", "another-alice").await.unwrap();
    assert_eq!(other.principal(), alice.principal());
    assert_ne!(other.account_id(), alice.account_id());
    let seen = stands(clear(&controller), "alice").await.unwrap();
    assert_eq!(alice.as_seen_in(&seen), None);
    assert_eq!(seen.account_id(), other.account_id());
}

/// C-046: a group is its SID or its whole DN.
#[tokio::test]
async fn c_046_groups_are_nested_ones_and_the_primary_one_by_sid_and_by_dn() {
    let Some(controller) = DomainController::start() else { return };
    let elsewhere = format!("OU=elsewhere,{DOMAIN}");
    controller.change(&format!(
        "dn: {elsewhere}\nchangetype: add\nobjectClass: organizationalUnit\n\n\
         dn: CN=dba,{elsewhere}\nchangetype: add\nobjectClass: group\nsAMAccountName: dba-elsewhere\n\n\
         {}{}",
        group("dba", &[&format!("CN=orders-readers,{AD_GROUPS}")]),
        group("top", &[&format!("CN=dba,{AD_GROUPS}")]),
    ));
    // Round and round.
    controller.change(&format!(
        "dn: CN=orders-readers,{AD_GROUPS}\nchangetype: modify\nadd: member\n\
         member: CN=top,{AD_GROUPS}\n"
    ));
    let alice = login(clear(&controller), "alice", &password_of("alice")).await.unwrap();
    let groups: Vec<String> =
        alice.groups().iter().map(|group| group.as_str().to_owned()).collect();
    assert_eq!(
        names(&groups),
        [
            format!("CN=Domain Users,CN=Users,{DOMAIN}"),
            format!("CN=Users,CN=Builtin,{DOMAIN}"),
            format!("CN=dba,{AD_GROUPS}"),
            format!("CN=orders-readers,{AD_GROUPS}"),
            format!("CN=top,{AD_GROUPS}"),
        ]
    );
    let sids = groups.iter().filter(|group| group.starts_with("S-1-")).count();
    assert_eq!(sids, 5, "{groups:?}");
    assert!(groups.contains(&"S-1-5-32-545".to_owned()), "{groups:?}");
    assert!(groups.contains(&format!("{}-513", domain_sid(&alice))), "{groups:?}");

    // The other of that name is another group.
    controller.change(&format!(
        "dn: CN=dba,{elsewhere}\nchangetype: modify\nadd: member\nmember: {}\n",
        dn("carol")
    ));
    let (_, carol) = admitted(clear(&controller), "carol", &password_of("carol")).await;
    assert!(carol.contains(&format!("CN=dba,{elsewhere}")), "{carol:?}");
    assert!(!carol.contains(&format!("CN=dba,{AD_GROUPS}")), "{carol:?}");
    // Whose names are looked up elsewhere are groups by their SIDs alone.
    let tokens = Some(TokenGroups { names_below: AD_GROUPS.into() });
    let lookup = GroupLookup { member_of: None, search: None, tokens };
    let narrow = LdapSettings { groups: lookup, ..clear(&controller) };
    let (_, few) = admitted(narrow, "carol", &password_of("carol")).await;
    assert_eq!((names(&few).len(), few.len()), (0, 3), "{few:?}");
    // At a look too.
    assert_eq!(stands(clear(&controller), "alice").await.unwrap().groups(), alice.groups());
}

/// C-051.
#[tokio::test]
async fn c_051_two_thousand_groups_with_circles_are_all_there() {
    let Some(controller) = DomainController::start() else { return };
    // Carol is in 1,000 groups; each of them is in another one, and that in it.
    let (carol, mut changes) = (dn("carol"), String::new());
    for number in 0..1000 {
        changes += &group(&format!("g{number}"), &[&carol]);
        changes += &group(&format!("h{number}"), &[&format!("CN=g{number},{AD_GROUPS}")]);
        let _ = write!(
            changes,
            "dn: CN=g{number},{AD_GROUPS}\nchangetype: modify\nadd: member\n\
             member: CN=h{number},{AD_GROUPS}\n\n"
        );
    }
    controller.change(&changes);
    let (_, groups) = admitted(clear(&controller), "carol", &password_of("carol")).await;
    // And Domain Users, and Users.
    assert_eq!((names(&groups).len(), groups.len()), (2002, 4004));
    let (_, bobs) = admitted(clear(&controller), "bob", &password_of("bob")).await;
    assert_eq!(names(&bobs).len(), 4);
}

/// C-041 and C-042.
#[tokio::test]
async fn c_041_names_full_of_special_characters_get_their_own_groups() {
    let Some(controller) = DomainController::start() else { return };
    let odd = [
        r"*)(|(memberOf\=\2a",
        r"\\2a",
        r"a\,b",
        r"\#hash",
        r"\ lead",
        r#"a\+b \<c\> \"d\" \;"#,
        "jürgen",
        "CN\\=dba",
    ];
    let mut changes = String::new();
    for (number, name) in odd.iter().enumerate() {
        let base64 = |text: &str| {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.encode(text)
        };
        let person_dn = format!("CN={name},{AD_PEOPLE}");
        let group_dn = format!("CN={name},{AD_GROUPS}");
        let account = format!("odd ({number}) #'&");
        let one = person(&person_dn, &account, "odd-password", "");
        changes +=
            &one.replace(&format!("dn: {person_dn}\n"), &format!("dn:: {}\n", base64(&person_dn)));
        let _ = write!(
            changes,
            "dn:: {}\nchangetype: add\nobjectClass: group\nsAMAccountName: group{number}\n\
             member:: {}\n\n",
            base64(&group_dn),
            base64(&person_dn)
        );
    }
    controller.change(&changes);
    let mut seen = Vec::new();
    for number in 0..odd.len() {
        let account = format!("odd ({number}) #'&");
        let (who, groups) = admitted(clear(&controller), &account, "odd-password").await;
        assert_eq!(who, account);
        let own: Vec<&str> =
            names(&groups).into_iter().filter(|name| name.ends_with(AD_GROUPS)).collect();
        assert_eq!(own.len(), 1, "{account}: {groups:?}");
        seen.push(own[0].to_owned());
        let mut looked: Vec<String> = stands(clear(&controller), &account)
            .await
            .unwrap()
            .groups()
            .iter()
            .map(|group| group.as_str().to_owned())
            .collect();
        looked.sort();
        assert_eq!(looked, groups, "{account}");
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), odd.len(), "{seen:?}");
    for typed in [
        "*",
        "odd*",
        "odd (0",
        "*)(sAMAccountName=*",
        r"\2a",
        r"ADTEST\*",
        "*@ad.test",
        "alice)(|(cn=*",
        "CN=*,OU=people,DC=ad,DC=test",
        "CN=alice,OU=people,DC=ad,DC=test)(cn=*",
        "alice\0",
    ] {
        let refusal = login(clear(&controller), typed, "odd-password").await.unwrap_err();
        let kinds = ["unknown_account", "impossible_name"];
        assert!(kinds.contains(&refusal.kind()), "{typed}: {refusal}");
    }
}

#[tokio::test]
async fn everybody_of_a_domain_is_shown_with_all_their_groups() {
    let Some(controller) = DomainController::start() else { return };
    let bounds = SearchBounds { people: 100, time: TOO_LONG };
    let all = in_time(LdapWay::new(clear(&controller)).unwrap().everybody(now(), bounds)).await;
    let all = all.unwrap();
    let mut people: Vec<&str> = all.people.iter().map(|(name, _)| name.as_str()).collect();
    people.sort_unstable();
    // Guest and krbtgt are disabled, and the controller is a machine.
    assert_eq!(people, ["Administrator", "alice", "bob", "carol", "dns-dc1", "pgbridge"]);
    let bob = all.people.iter().find(|(name, _)| name == "bob").unwrap();
    assert!(bob.1.iter().any(|group| group.as_str() == format!("CN=orders-writers,{AD_GROUPS}")));
}

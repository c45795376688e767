//! Logging in against a real OpenLDAP, and against servers that behave as none should.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy knows `#[test]` functions as tests, not what they call"
)]

mod impostor;

use std::fs;
use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use pgbridge::auth::Identity;
use pgbridge::auth::ldap::{
    BindMode, Find, GroupLookup, GroupSearch, LdapRefusal, LdapSettings, LdapWay, Scheme,
    ServiceAccount, StartTls,
};
use pgbridge::auth::way::Standing;
use pgbridge::names::{LoginPassword, Principal};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Directory, SERVICE_DN, SERVICE_PASSWORD, TestCa, password_of};
use impostor::{Impostor, extended_response, message, nested, result_of, tlv};

const PEOPLE: &str = "ou=people,dc=example,dc=test";
const GROUPS: &str = "ou=groups,dc=example,dc=test";
const READERS: &str = "cn=orders-readers,ou=groups,dc=example,dc=test";
const WRITERS: &str = "cn=orders-writers,ou=groups,dc=example,dc=test";
const ODD_GROUP: &str = r"cn=odd\2C name \22quoted\22,ou=groups,dc=example,dc=test";
const WEIRD_NAME: &str = r"we, ird (x)*\";

/// Far above every bound that these tests set: to end a test that would hang.
const TOO_LONG: Duration = Duration::from_mins(1);

fn port_of(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().parse().unwrap()
}

fn service() -> ServiceAccount {
    ServiceAccount {
        bind_dn: SERVICE_DN.into(),
        bind_password: LoginPassword::new(SERVICE_PASSWORD.into()),
    }
}

fn by_search() -> BindMode {
    let find = Find::Attribute("uid".into());
    BindMode::Search { base_dn: PEOPLE.into(), service: Some(service()), find }
}

fn by_prefix() -> BindMode {
    BindMode::Simple { prefix: "uid=".into(), suffix: format!(",{PEOPLE}"), base_dn: None }
}

/// Search+bind in clear at `port` of this machine; each test changes what it is about.
fn settings(port: u16) -> LdapSettings {
    LdapSettings {
        name: "corp".parse().unwrap(),
        servers: vec!["127.0.0.1".into()],
        port: Some(port),
        scheme: Scheme::Ldap,
        tls: StartTls::No,
        ca: None,
        bind: by_search(),
        account_attribute: "uid".into(),
        groups: GroupLookup { member_of: Some("memberOf".into()), search: None },
        timeout: "10s".parse().unwrap(),
        deadline: "30s".parse().unwrap(),
        lifetime: "8h".parse().unwrap(),
    }
}

/// The same where somebody hangs on purpose: short, and long enough for a busy machine.
fn impatient(port: u16) -> LdapSettings {
    LdapSettings { timeout: "3s".parse().unwrap(), ..settings(port) }
}

fn clear(directory: &Directory) -> LdapSettings {
    settings(port_of(&directory.ldap_url()))
}

fn ca_of(directory: &Directory) -> Vec<u8> {
    fs::read(directory.ca_file()).unwrap()
}

fn ldaps(directory: &Directory) -> LdapSettings {
    let (scheme, ca) = (Scheme::Ldaps, Some(ca_of(directory)));
    LdapSettings { scheme, ca, ..settings(port_of(&directory.ldaps_url())) }
}

fn starttls(directory: &Directory) -> LdapSettings {
    LdapSettings { tls: StartTls::Yes, ca: Some(ca_of(directory)), ..clear(directory) }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(TOO_LONG, work).await.expect("this must never hang")
}

async fn login_at(way: &LdapWay, name: &str, password: &str) -> Result<Identity, LdapRefusal> {
    let password = LoginPassword::new(password.into());
    in_time(way.login(name, &password, Timestamp::UNIX_EPOCH)).await
}

async fn login(
    settings: LdapSettings,
    name: &str,
    password: &str,
) -> Result<Identity, LdapRefusal> {
    login_at(&LdapWay::new(settings).unwrap(), name, password).await
}

/// Who got in, and their groups.
async fn admitted(settings: LdapSettings, name: &str, password: &str) -> (String, Vec<String>) {
    let identity = login(settings, name, password).await.unwrap();
    let groups = identity.groups().iter().map(|group| group.as_str().to_owned()).collect();
    (identity.principal().subject().to_owned(), groups)
}

/// Why somebody did not get in.
async fn refused(settings: LdapSettings, name: &str, password: &str) -> &'static str {
    login(settings, name, password).await.unwrap_err().kind()
}

async fn alice_gets_in(settings: LdapSettings) {
    let alice = admitted(settings, "alice", &password_of("alice")).await;
    assert_eq!(alice, ("alice".into(), vec![READERS.into()]));
}

/// Hands on everything from `address` to `port` of 127.0.0.1, and back.
async fn relay(address: &str, from: u16, port: u16) -> u16 {
    let listener = TcpListener::bind((address, from)).await.unwrap();
    let at = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    at
}

#[tokio::test]
async fn both_modes_prove_a_password_over_ldaps_starttls_and_on_this_machine() {
    let directory = Directory::start();
    for way in [ldaps, starttls, clear] {
        for mode in [by_search, by_prefix] {
            let settings = || LdapSettings { bind: mode(), ..way(&directory) };
            alice_gets_in(settings()).await;
            assert_eq!(refused(settings(), "alice", "wrong").await, "wrong_password");
            assert_eq!(refused(settings(), "alice", &password_of("bob")).await, "wrong_password");
        }
    }
}

#[tokio::test]
async fn an_identity_is_the_directorys_and_good_for_its_lifetime() {
    let directory = Directory::start();
    let alice = login(clear(&directory), "alice", &password_of("alice")).await.unwrap();
    assert_eq!(alice.principal().key(), "ldap:corp:alice");
    assert_eq!(alice.authenticated_at(), Timestamp::UNIX_EPOCH);
    assert_eq!(alice.expires_at().as_second(), 8 * 3600);
}

#[tokio::test]
async fn a_server_that_cannot_show_a_trusted_certificate_of_its_name_gets_nothing() {
    let directory = Directory::start();
    let stranger = Some(TestCa::new().pem().into_bytes());
    let relayed = relay("127.0.0.2", 0, port_of(&directory.ldaps_url())).await;
    let relayed_clear = relay("127.0.0.2", 0, port_of(&directory.ldap_url())).await;
    let elsewhere = || vec!["127.0.0.2".into()];
    for settings in [
        LdapSettings { ca: stranger.clone(), ..ldaps(&directory) },
        LdapSettings { ca: stranger, ..starttls(&directory) },
        LdapSettings { servers: elsewhere(), port: Some(relayed), ..ldaps(&directory) },
        LdapSettings { servers: elsewhere(), port: Some(relayed_clear), ..starttls(&directory) },
    ] {
        assert_eq!(refused(settings, "alice", &password_of("alice")).await, "directory_tls");
    }
    assert!(!directory.log().contains("BIND dn=\"uid=alice"), "{}", directory.log());
    // The relay itself is no obstacle, and neither is the authority.
    let relayed =
        LdapSettings { servers: elsewhere(), port: Some(relayed_clear), ..clear(&directory) };
    alice_gets_in(relayed).await;
    alice_gets_in(LdapSettings { servers: vec!["localhost".into()], ..ldaps(&directory) }).await;
}

#[tokio::test]
async fn every_reason_to_refuse_a_right_password_has_its_own_word() {
    let directory = Directory::start();
    for mode in [by_search, by_prefix] {
        let settings = || LdapSettings { bind: mode(), ..clear(&directory) };
        for (name, password, kind) in [
            ("dave", password_of("dave"), "locked"),
            ("frank", "frank-password".into(), "password_expired"),
            ("erin", "erin-password".into(), "must_change_password"),
        ] {
            let refusal = login(settings(), name, &password).await.unwrap_err();
            assert_eq!(refusal.kind(), kind, "{name}");
            assert!(!refusal.is_outage(), "{name}");
        }
        alice_gets_in(settings()).await;
    }
    assert_eq!(refused(clear(&directory), "nobody", "x").await, "unknown_account");
    assert_eq!(refused(clear(&directory), "twin", "twin-password").await, "several_entries");
    let one_twin = LdapSettings { bind: by_prefix(), ..clear(&directory) };
    assert_eq!(admitted(one_twin, "twin", "twin-password").await.0, "twin");
}

#[tokio::test]
async fn a_name_that_leads_nowhere_costs_a_bind_too_but_never_with_what_was_typed() {
    let directory = Directory::start();
    assert_eq!(refused(clear(&directory), "nobody", "x").await, "unknown_account");
    let log = directory.log();
    let decoy = format!("BIND dn=\"cn=pgbridge asks for nobody,{PEOPLE}\"");
    assert_eq!(log.matches(&decoy).count(), 1, "{log}");
    assert_eq!(refused(clear(&directory), "twin", "twin-password").await, "several_entries");
    assert_eq!(directory.log().matches(&decoy).count(), 2);
}

#[tokio::test]
async fn a_blank_password_is_never_sent_not_even_where_it_would_succeed() {
    let directory = Directory::start_with("allow bind_anon_cred bind_anon_dn");
    // This directory does say yes to a bind without a password (RFC 4513 section 5.1.2).
    let (driver, mut ldap) = ldap3::LdapConnAsync::new(&directory.ldap_url()).await.unwrap();
    tokio::spawn(driver.drive());
    let yes = ldap.simple_bind(&format!("uid=alice,{PEOPLE}"), "").await.unwrap();
    assert_eq!(yes.rc, 0);
    let before = directory.log().matches("BIND dn=").count();
    for mode in [by_search, by_prefix] {
        for blank in ["", " ", "\0", "\0\0\0", "\t \u{a0}\n"] {
            let settings = LdapSettings { bind: mode(), ..clear(&directory) };
            assert_eq!(refused(settings, "alice", blank).await, "blank_password", "{blank:?}");
        }
    }
    assert_eq!(directory.log().matches("BIND dn=").count(), before);
    alice_gets_in(clear(&directory)).await;
}

#[tokio::test]
async fn a_password_goes_out_as_it_was_typed() {
    let directory = Directory::start();
    directory.change(&format!(
        "dn: uid=bob,{PEOPLE}\nchangetype: modify\nreplace: userPassword\nuserPassword:: {}\n",
        "ICBzcGFjZWQgIA==" // "  spaced  "
    ));
    assert_eq!(admitted(clear(&directory), "bob", "  spaced  ").await.0, "bob");
    for other in ["spaced", " spaced ", "  spaced", "  SPACED  "] {
        assert_eq!(refused(clear(&directory), "bob", other).await, "wrong_password", "{other:?}");
    }
}

#[tokio::test]
async fn no_name_is_more_than_a_name() {
    let directory = Directory::start();
    let long = "a".repeat(100_000);
    let star_filter = "*".repeat(200);
    let names = [
        "*",
        "a*",
        "*)(uid=*",
        "alice)(|(uid=*",
        "alice)(uid=alice",
        r"\2a",
        r"\61lice",
        "alice\0",
        "\0",
        "alice,ou=x",
        "alice,ou=people,dc=example,dc=test",
        "alice+cn=Alice Archer",
        "#616c696365",
        "uid=alice",
        "alice\nbob",
        "$username",
        "",
        " ",
        &star_filter,
        &long,
    ];
    let by_filter = || {
        let filter = "(&(objectClass=inetOrgPerson)(|(uid=$username)(mail=$username)))";
        let find = Find::Filter(filter.into());
        BindMode::Search { base_dn: PEOPLE.into(), service: Some(service()), find }
    };
    for mode in [by_search, by_filter, by_prefix] {
        let settings = || LdapSettings { bind: mode(), ..clear(&directory) };
        let way = LdapWay::new(settings()).unwrap();
        for name in names {
            let outcome = login_at(&way, name, &password_of("alice")).await;
            let kind = outcome.unwrap_err().kind();
            let kinds = ["unknown_account", "wrong_password", "impossible_name"];
            assert!(kinds.contains(&kind), "{kind}: {name:.40}");
        }
        alice_gets_in(settings()).await;
    }
    let by_mail = LdapSettings { bind: by_filter(), ..clear(&directory) };
    assert_eq!(admitted(by_mail, "alice@example.test", &password_of("alice")).await.0, "alice");
}

#[tokio::test]
async fn a_name_full_of_special_characters_gets_its_own_account_and_groups() {
    let directory = Directory::start();
    let expected = (WEIRD_NAME.to_owned(), vec![ODD_GROUP.to_owned()]);
    for mode in [by_search, by_prefix] {
        for groups in [by_member_of(), group_search("(member=$dn)")] {
            let settings = LdapSettings { bind: mode(), groups, ..clear(&directory) };
            assert_eq!(admitted(settings, WEIRD_NAME, "weird-password").await, expected);
        }
    }
    assert_eq!(admitted(clear(&directory), "jürgen", "juergen-password").await.0, "jürgen");
}

#[tokio::test]
async fn the_account_is_what_the_directory_writes_and_not_what_was_typed() {
    let directory = Directory::start();
    for mode in [by_search, by_prefix] {
        for typed in ["bob", "BOB", "Bob", " bob", "bob "] {
            let settings = LdapSettings { bind: mode(), ..clear(&directory) };
            let (account, groups) = admitted(settings, typed, &password_of("bob")).await;
            assert_eq!(account, "bob", "{typed:?}");
            assert_eq!(groups, [READERS, WRITERS], "{typed:?}");
        }
    }
    let settings = || LdapSettings { account_attribute: "mail".into(), ..clear(&directory) };
    assert_eq!(admitted(settings(), "bob", &password_of("bob")).await.0, "bob@example.test");
}

#[tokio::test]
async fn an_account_needs_exactly_one_value_and_is_no_machine() {
    let directory = Directory::start();
    directory.change(&format!(
        "dn: uid=bob,{PEOPLE}\nchangetype: modify\nadd: mail\nmail: second@example.test\n\n\
         dn: uid=host$,{PEOPLE}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: host$\n\
         cn: host\nsn: host\nuserPassword: host-password\n"
    ));
    let by_mail = || LdapSettings { account_attribute: "mail".into(), ..clear(&directory) };
    assert_eq!(refused(by_mail(), "bob", &password_of("bob")).await, "unreadable_account");
    assert_eq!(refused(by_mail(), "erin", "erin-password").await, "must_change_password");
    assert_eq!(refused(by_mail(), "twin", "twin-password").await, "several_entries");
    assert_eq!(refused(by_mail(), WEIRD_NAME, "weird-password").await, "unreadable_account");
    assert_eq!(admitted(by_mail(), "alice", &password_of("alice")).await.0, "alice@example.test");
    // The reason is for whoever knows the password.
    assert_eq!(refused(by_mail(), "bob", "wrong").await, "wrong_password");

    assert_eq!(refused(clear(&directory), "host$", "host-password").await, "machine_account");
    assert_eq!(refused(clear(&directory), "host$", "wrong").await, "wrong_password");
}

fn by_member_of() -> GroupLookup {
    GroupLookup { member_of: Some("memberOf".into()), search: None }
}

fn group_search(filter: &str) -> GroupLookup {
    let search = GroupSearch { base_dn: GROUPS.into(), filter: filter.into() };
    GroupLookup { member_of: None, search: Some(search) }
}

#[tokio::test]
async fn groups_are_the_same_by_attribute_by_search_and_by_both() {
    let directory = Directory::start();
    let both = GroupLookup { member_of: Some("MEMBEROF".into()), ..group_search("(member=$dn)") };
    let neither = GroupLookup { member_of: None, search: None };
    for mode in [by_search, by_prefix] {
        let of_bob = async |groups: &GroupLookup| {
            let groups = groups.clone();
            let settings = LdapSettings { bind: mode(), groups, ..clear(&directory) };
            admitted(settings, "bob", &password_of("bob")).await.1
        };
        for groups in [&by_member_of(), &group_search("(member=$dn)"), &both] {
            assert_eq!(of_bob(groups).await, [READERS, WRITERS], "{groups:?}");
        }
        let one = group_search("(&(member=$dn)(cn=orders-writers))");
        assert_eq!(of_bob(&one).await, [WRITERS]);
        assert_eq!(of_bob(&neither).await, [""; 0]);
    }
}

#[tokio::test]
async fn two_thousand_groups_are_all_there_or_nobody_gets_in() {
    let directory = Directory::start();
    let group = |number| {
        format!(
            "dn: cn=g{number},{GROUPS}\nchangetype: add\nobjectClass: groupOfNames\n\
             cn: g{number}\nmember: uid=carol,{PEOPLE}\n\n"
        )
    };
    directory.change(&(0..1999).map(group).collect::<String>());
    let carol = admitted(clear(&directory), "carol", &password_of("carol")).await;
    assert_eq!(carol.1.len(), 2001);
    // slapd gives 500 entries to a search unless told otherwise: a part is not taken for all.
    let cut = LdapSettings { groups: group_search("(member=$dn)"), ..clear(&directory) };
    assert_eq!(refused(cut, "carol", &password_of("carol")).await, "unreadable_groups");

    let generous =
        Directory::start_with("sizelimit size.soft=500 size.hard=500 size.prtotal=unlimited");
    generous.change(&(0..1999).map(group).collect::<String>());
    let paged = LdapSettings { groups: group_search("(member=$dn)"), ..clear(&generous) };
    assert_eq!(admitted(paged, "carol", &password_of("carol")).await.1.len(), 2001);
}

#[tokio::test]
async fn a_service_account_that_cannot_bind_is_an_outage_and_nobodys_wrong_guess() {
    let directory = Directory::start();
    let wrong = ServiceAccount { bind_password: LoginPassword::new("wrong".into()), ..service() };
    for service in [Some(wrong), None] {
        let kind = if service.is_some() { "service_bind" } else { "search_failed" };
        let find = Find::Attribute("uid".into());
        let bind = BindMode::Search { base_dn: PEOPLE.into(), service, find };
        let settings = LdapSettings { bind, ..clear(&directory) };
        let refusal = login(settings, "alice", &password_of("alice")).await.unwrap_err();
        assert_eq!(refusal.kind(), kind);
        assert!(refusal.is_outage());
    }
    alice_gets_in(clear(&directory)).await;
}

#[tokio::test]
async fn the_next_server_is_asked_only_when_one_cannot_judge() {
    let directory = Directory::start();
    let port = port_of(&directory.ldap_url());
    let servers = |hosts: &[&str]| {
        let servers = hosts.iter().map(ToString::to_string).collect();
        LdapSettings { servers, ..impatient(port) }
    };
    // Nobody listens at 127.0.0.2; somebody who never answers at 127.0.0.3.
    let silent = Impostor::listen("127.0.0.3", port, vec![]);
    alice_gets_in(servers(&["127.0.0.2", "127.0.0.1"])).await;
    alice_gets_in(servers(&["127.0.0.3", "127.0.0.1"])).await;
    let busy = message(1, &result_of(0x61, 51));
    let _busy = Impostor::listen("127.0.0.4", port, vec![busy]);
    alice_gets_in(servers(&["127.0.0.4", "127.0.0.1"])).await;

    let nobody = login(servers(&["127.0.0.2", "127.0.0.3"]), "alice", "x").await.unwrap_err();
    assert_eq!(nobody.kind(), "directory_unavailable");
    let text = nobody.to_string();
    assert!(text.contains(&format!("127.0.0.2:{port}")), "{text}");
    assert!(text.contains(&format!("127.0.0.3:{port}`: no answer in time")), "{text}");

    let before = silent.heard().len();
    let refusal = refused(servers(&["127.0.0.1", "127.0.0.3"]), "alice", "wrong").await;
    assert_eq!(refusal, "wrong_password");
    assert_eq!(silent.heard().len(), before, "a refusal was taken to the next server");
}

#[tokio::test]
async fn a_directory_that_is_down_or_hangs_refuses_in_time_and_recovers() {
    let mut directory = Directory::start();
    for way in [clear, starttls, ldaps] {
        for mode in [by_search, by_prefix] {
            let patient = || LdapSettings { bind: mode(), ..way(&directory) };
            let hasty = LdapSettings { timeout: "1s".parse().unwrap(), ..patient() };
            let hasty = LdapWay::new(hasty).unwrap();
            directory.hang();
            let login = login_at(&hasty, "alice", &password_of("alice")).await.map(drop);
            for outcome in [login, in_time(hasty.probe()).await] {
                let refusal = outcome.unwrap_err();
                assert_eq!(refusal.kind(), "directory_timeout");
                assert!(refusal.is_outage());
                // By the bound of one operation, not by that of the whole login.
                assert!(refusal.to_string().ends_with("no answer in time"), "{refusal}");
            }
            directory.resume();
            alice_gets_in(patient()).await;
            in_time(LdapWay::new(patient()).unwrap().probe()).await.unwrap();
        }
    }
    let settings = clear(&directory);
    directory.stop();
    let way = LdapWay::new(settings).unwrap();
    let refusal = login_at(&way, "alice", &password_of("alice")).await.unwrap_err();
    assert_eq!(refusal.kind(), "directory_unreachable");
    assert_eq!(in_time(way.probe()).await.unwrap_err().kind(), "directory_unreachable");
    directory.start_again();
    login_at(&way, "alice", &password_of("alice")).await.unwrap();
}

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

#[tokio::test]
async fn a_probe_shows_what_a_login_would_meet() {
    let directory = Directory::start();
    for way in [clear, starttls, ldaps] {
        for mode in [by_search, by_prefix] {
            let settings = LdapSettings { bind: mode(), ..way(&directory) };
            in_time(LdapWay::new(settings).unwrap().probe()).await.unwrap();
        }
    }
    let wrong = ServiceAccount { bind_password: LoginPassword::new("wrong".into()), ..service() };
    let find = Find::Attribute("uid".into());
    let bind = BindMode::Search { base_dn: PEOPLE.into(), service: Some(wrong), find };
    let way = LdapWay::new(LdapSettings { bind, ..clear(&directory) }).unwrap();
    assert_eq!(in_time(way.probe()).await.unwrap_err().kind(), "service_bind");
    for (base_dn, attribute, word) in [
        (PEOPLE, "uid", "ready"),
        (PEOPLE, "sAMAccountName", "nobody_there"),
        (GROUPS, "uid", "nobody_there"),
        ("ou=nowhere,dc=example,dc=test", "uid", "search_failed"),
    ] {
        let find = Find::Attribute(attribute.into());
        let bind = BindMode::Search { base_dn: base_dn.into(), service: Some(service()), find };
        let account_attribute = attribute.into();
        let settings = LdapSettings { bind, account_attribute, ..clear(&directory) };
        let probed = in_time(LdapWay::new(settings).unwrap().probe()).await;
        assert_eq!(probed.map_or_else(|refusal| refusal.kind(), |()| "ready"), word, "{base_dn}");
    }
}

#[tokio::test]
async fn an_attribute_for_groups_that_nobody_has_is_told() {
    let mut directory = Directory::start();
    let way = |member_of: Option<&str>, bind: BindMode, directory: &Directory| {
        let groups = GroupLookup { member_of: member_of.map(Into::into), search: None };
        LdapWay::new(LdapSettings { groups, bind, ..clear(directory) }).unwrap()
    };
    for (member_of, bind) in
        [(Some("memberOf"), by_search()), (None, by_search()), (Some("memberOff"), by_prefix())]
    {
        assert_eq!(in_time(way(member_of, bind, &directory).oddity()).await, None, "{member_of:?}");
    }
    let mistyped = way(Some("memberOff"), by_search(), &directory);
    let oddity = in_time(mistyped.oddity()).await.unwrap();
    assert!(oddity.contains("`corp`") && oddity.contains("`memberOff`"), "{oddity}");
    directory.stop();
    assert_eq!(in_time(mistyped.oddity()).await, None);
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

#[tokio::test]
async fn a_whole_login_ends_at_its_deadline() {
    let silent = Impostor::listen("127.0.0.1", 0, vec![]);
    let _also = Impostor::listen("127.0.0.2", silent.port(), vec![]);
    let settings = LdapSettings {
        servers: vec!["127.0.0.1".into(), "127.0.0.2".into()],
        timeout: "2s".parse().unwrap(),
        deadline: "3s".parse().unwrap(),
        ..settings(silent.port())
    };
    let refusal = login(settings, "alice", "x").await.unwrap_err();
    assert_eq!(refusal.kind(), "directory_timeout");
    let text = refusal.to_string();
    assert!(text.ends_with("the time for the whole login was over"), "{text}");
}

#[tokio::test]
async fn a_referral_is_not_followed_and_gets_no_password() {
    let directory = Directory::start();
    let elsewhere = Impostor::listen("127.0.0.1", 0, vec![]);
    // `control` makes the entry itself a referral (RFC 3296).
    directory.change(&format!(
        "dn: ou=partner,{PEOPLE}\ncontrol: 2.16.840.1.113730.3.4.2 true\nchangetype: add\n\
         objectClass: referral\nobjectClass: extensibleObject\nou: partner\n\
         ref: ldap://127.0.0.1:{}/ou=people,dc=partner,dc=test\n",
        elsewhere.port()
    ));
    // The search passes the reference: who is here gets in, who may be there does not.
    alice_gets_in(clear(&directory)).await;
    assert_eq!(refused(clear(&directory), "zoe", "zoe-password").await, "referral");
    // The search begins behind it.
    let find = Find::Attribute("uid".into());
    let base_dn = format!("ou=partner,{PEOPLE}");
    let bind = BindMode::Search { base_dn, service: Some(service()), find };
    let behind = LdapSettings { bind, ..clear(&directory) };
    assert_eq!(refused(behind, "alice", &password_of("alice")).await, "referral");
    assert_eq!(elsewhere.heard(), b"");
}

#[tokio::test]
async fn a_bind_answered_with_a_referral_is_a_refusal() {
    let elsewhere = Impostor::listen("127.0.0.1", 0, vec![]);
    let url = format!("ldap://127.0.0.1:{}/", elsewhere.port());
    let referral = [tlv(0x0a, &[10]), tlv(4, b""), tlv(4, b""), tlv(0xa3, &tlv(4, url.as_bytes()))];
    let answer = message(1, &tlv(0x61, &referral.concat()));
    let referring = Impostor::listen("127.0.0.1", 0, vec![answer]);
    let settings = LdapSettings { bind: by_prefix(), ..settings(referring.port()) };
    assert_eq!(refused(settings, "alice", "s3cret").await, "referral");
    assert_eq!(elsewhere.heard(), b"");
}

#[tokio::test]
async fn without_tls_nothing_follows_starttls() {
    let directory = Directory::start();
    let refusing = message(1, &extended_response(53));
    let accepting_then_clear =
        [message(1, &extended_response(0)), message(1, &result_of(0x61, 0))].concat();
    for answer in [refusing, accepting_then_clear, message(1, &result_of(0x61, 0))] {
        let server = Impostor::listen("127.0.0.1", 0, vec![answer.clone()]);
        let settings = LdapSettings {
            tls: StartTls::Yes,
            ca: Some(ca_of(&directory)),
            ..impatient(server.port())
        };
        let settings = LdapSettings { bind: by_prefix(), ..settings };
        let kind = refused(settings, "alice", "s3cret-canary").await;
        assert!(["directory_tls", "directory_protocol"].contains(&kind), "{kind}: {answer:?}");
        let heard = server.heard();
        assert!(!holds(&heard, "canary"), "the password went out in clear");
        assert!(!holds(&heard, "alice"), "the name went out in clear");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_answer_ends_one_attempt_and_nothing_else() {
    let directory = Directory::start();
    let port = port_of(&directory.ldap_url());
    let closes_within = message(1, &result_of(0x61, 0))[..5].to_vec();
    let long = message(1, &tlv(0x61, &vec![b'x'; 10_000_000]));
    for (answer, kind) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "directory_protocol"),
        (nested(100_000), "directory_protocol"),
        (vec![0x30, 0x84, 0x7f, 0xff, 0xff, 0xff], "directory_protocol"),
        (long, "directory_protocol"),
        // Well-formed, and of shapes that no bind response has.
        (message(1, &tlv(0x61, b"")), "directory_protocol"),
        (message(1, &tlv(0x61, &tlv(4, b"x"))), "directory_protocol"),
        (tlv(0x30, b""), "directory_unreachable"),
        (closes_within, "directory_unreachable"),
    ] {
        let server = Impostor::hanging_up("127.0.0.1", 0, vec![answer.clone()]);
        let way = || LdapSettings { bind: by_prefix(), ..settings(server.port()) };
        let shown = &answer[..answer.len().min(20)];
        assert_eq!(refused(way(), "alice", "x").await, kind, "{shown:?}");
        // Before TLS anybody on the way could send it.
        let tls = LdapSettings { tls: StartTls::Yes, ca: Some(ca_of(&directory)), ..way() };
        assert!(login(tls, "alice", "x").await.unwrap_err().is_outage(), "{shown:?}");
        alice_gets_in(settings(port)).await;
    }
}

#[tokio::test]
async fn answers_without_end_are_cut_off() {
    let entry = message(2, &tlv(0x64, &[tlv(4, b"cn=a,dc=x"), tlv(0x30, b"")].concat()));
    let reference = message(2, &tlv(0x73, &tlv(4, &vec![b'x'; 1 << 20])));
    let bound = || message(1, &result_of(0x61, 0));
    for (answers, kind) in
        [(entry.repeat(10_000), "several_entries"), (reference.repeat(9), "directory_protocol")]
    {
        let server = Impostor::listen("127.0.0.1", 0, vec![bound(), answers]);
        assert_eq!(refused(settings(server.port()), "alice", "x").await, kind);
    }
}

/// The answer to a search: one entry with these attributes, and the end.
fn found(id: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
    let entry = [tlv(4, b"cn=Alice,dc=x"), tlv(0x30, &attributes.concat())].concat();
    [message(id, &tlv(0x64, &entry)), message(id, &result_of(0x65, 0))].concat()
}

fn attribute(name: &str, values: &[&str]) -> Vec<u8> {
    let values: Vec<u8> = values.iter().flat_map(|value| tlv(4, value.as_bytes())).collect();
    tlv(0x30, &[tlv(4, name.as_bytes()), tlv(0x31, &values)].concat())
}

fn holds(heard: &[u8], part: &str) -> bool {
    heard.windows(part.len()).any(|window| window == part.as_bytes())
}

/// Only Active Directory lets people bind as `alice@corp.test`, and there one account may have
/// another's name as its `userPrincipalName`.
#[tokio::test]
async fn a_password_that_binds_under_an_account_name_is_proven_for_its_entry_too() {
    let script = vec![message(1, &result_of(0x61, 0)), found(2, &[attribute("uid", &["alice"])])];
    let server = Impostor::listen("127.0.0.1", 0, script);
    let way = || {
        let (prefix, suffix) = (String::new(), "@corp.test".into());
        let bind = BindMode::Simple { prefix, suffix, base_dn: Some("dc=x".into()) };
        LdapSettings { bind, ..settings(server.port()) }
    };
    assert_eq!(admitted(way(), "Alice", "s3cret").await.0, "alice");
    let bind_as = |name: &str| [name.as_bytes(), b"\x80\x06s3cret"].concat();
    let heard = server.heard();
    for name in ["Alice@corp.test", "cn=Alice,dc=x"] {
        let bind = bind_as(name);
        assert!(heard.windows(bind.len()).any(|part| part == bind), "no bind as {name}");
    }
    assert_eq!(refused(way(), "bob@corp.test", "s3cret").await, "impossible_name");
    assert!(!holds(&server.heard(), "bob"));
}

/// Active Directory gives 1,500 values of an attribute at a time; Samba gives them all.
#[tokio::test]
async fn groups_that_come_in_parts_are_all_asked_for_or_nobody_gets_in() {
    let person = [attribute("uid", &["alice"]), attribute("memberOf;range=0-1", &["cn=a", "cn=b"])];
    let conversation = |last_part: Vec<u8>| {
        vec![message(1, &result_of(0x61, 0)), found(2, &person), found(3, &[last_part])]
    };
    let all = conversation(attribute("memberOf;range=2-*", &["cn=c"]));
    let server = Impostor::listen("127.0.0.1", 0, all);
    let alice = admitted(settings(server.port()), "alice", "x").await;
    assert_eq!(alice, ("alice".into(), vec!["cn=a".into(), "cn=b".into(), "cn=c".into()]));
    assert!(holds(&server.heard(), "memberOf;range=2-*"));

    for broken in [attribute("memberOf;range=2-*", &[]), attribute("memberOf", &["cn=c"])] {
        let server = Impostor::listen("127.0.0.1", 0, conversation(broken));
        assert_eq!(refused(settings(server.port()), "alice", "x").await, "unreadable_groups");
    }
}

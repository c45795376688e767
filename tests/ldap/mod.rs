//! Logging in against a real OpenLDAP, and against servers that behave as none should.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy knows `#[test]` functions as tests, not what they call"
)]

mod active_directory;
mod again;
mod everybody;
mod impostor;
mod strange;

use std::fs;
use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use pgbridge::auth::Identity;
use pgbridge::auth::ldap::{
    BindMode, DirectoryType, Find, GroupLookup, GroupSearch, LdapRefusal, LdapSettings, LdapWay,
    Scheme, ServiceAccount, StartTls,
};
use pgbridge::names::LoginPassword;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Directory, SERVICE_DN, SERVICE_PASSWORD, TestCa, password_of};

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
        directory_type: DirectoryType::Ldap,
        servers: vec!["127.0.0.1".into()],
        port: Some(port),
        scheme: Scheme::Ldap,
        tls: StartTls::No,
        ca: None,
        bind: by_search(),
        account_attribute: "uid".into(),
        groups: GroupLookup { member_of: Some("memberOf".into()), search: None, tokens: None },
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
    GroupLookup { member_of: Some("memberOf".into()), search: None, tokens: None }
}

fn group_search(filter: &str) -> GroupLookup {
    let search = GroupSearch { base_dn: GROUPS.into(), filter: filter.into() };
    GroupLookup { member_of: None, search: Some(search), tokens: None }
}

#[tokio::test]
async fn groups_are_the_same_by_attribute_by_search_and_by_both() {
    let directory = Directory::start();
    let both = GroupLookup { member_of: Some("MEMBEROF".into()), ..group_search("(member=$dn)") };
    let neither = GroupLookup { member_of: None, search: None, tokens: None };
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
        let groups =
            GroupLookup { member_of: member_of.map(Into::into), search: None, tokens: None };
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

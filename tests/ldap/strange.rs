//! Servers that behave as none should.

use pgbridge::auth::ldap::{BindMode, Find, LdapSettings, StartTls};

use super::impostor::{Impostor, extended_response, message, nested, result_of, tlv};
use super::{
    PEOPLE, admitted, alice_gets_in, by_prefix, ca_of, clear, impatient, login, port_of, refused,
    service, settings,
};
use crate::support::{Directory, password_of};

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

/// Maps are asked about shorter names only, so nobody is let in by a part of their groups.
#[tokio::test]
async fn whoever_is_in_a_group_of_too_long_a_name_does_not_get_in() {
    let group = |bytes: usize| format!("cn={}", "g".repeat(bytes - 3));
    let server = |groups: &[&str]| {
        let person = [attribute("uid", &["alice"]), attribute("memberOf", groups)];
        let script = vec![message(1, &result_of(0x61, 0)), found(2, &person)];
        Impostor::listen("127.0.0.1", 0, script)
    };
    let (fits, long) = (group(1024), group(1025));
    let good = server(&["cn=a", &fits]);
    let (account, groups) = admitted(settings(good.port()), "alice", "x").await;
    assert_eq!((account.as_str(), groups.len()), ("alice", 2));
    let bad = server(&["cn=a", &long]);
    let refusal = login(settings(bad.port()), "alice", "x").await.unwrap_err();
    assert_eq!(refusal.kind(), "group_too_long");
    assert!(refusal.to_string().contains("1025 bytes"), "{refusal}");
    assert!(refusal.is_outage(), "the right password counts as a wrong one");
}

//! `[[kerberos]]`: each mistake beside its accepted twin.

use pgbridge::auth::kerberos::ChannelBinding;
use pgbridge::names::Shape;

use super::{GOOD, MAP, Office};

const SECTION: &str = r#"[[kerberos]]
name = "tickets"
map = "tickets"
service = "HTTP/web.corp.test@CORP.TEST"
keytab_file = "web.keytab"
realms = ["CORP.TEST"]
kdc = "mit"
"#;

/// AES with 256 bits and SHA-1, and RC4 (RFC 3961 section 8).
const AES: u8 = 18;
const RC4: u8 = 23;

/// A keytab with one key of each kind for `HTTP/web.corp.test@CORP.TEST`, which happens to be text.
fn keytab(kinds: &[u8]) -> String {
    keytab_of("web.corp.test", kinds)
}

fn keytab_of(host: &str, kinds: &[u8]) -> String {
    let mut file = vec![5, 2];
    for kind in kinds {
        let mut entry = vec![0, 2];
        for part in ["CORP.TEST", "HTTP", host] {
            entry.extend([0, u8::try_from(part.len()).unwrap()]);
            entry.extend(part.as_bytes());
        }
        entry.extend([0, 0, 0, 1, 0, 0, 0, 0, 1, 0, *kind, 0, 1, 7]);
        file.extend([0, 0, 0, u8::try_from(entry.len()).unwrap()]);
        file.extend(entry);
    }
    String::from_utf8(file).unwrap()
}

fn office() -> Office {
    let office = Office::new();
    let map = format!("{MAP}tickets alice@CORP.TEST orders_read\n");
    office.put("pg_ident.conf", &map, 0o644);
    office.put("web.keytab", &keytab(&[AES]), 0o600);
    office
}

/// The good configuration with `SECTION`, in which `from` is replaced once.
fn with(from: &str, to: &str) -> String {
    assert!(SECTION.contains(from), "{from}");
    GOOD.replacen("[[ldap]]", &format!("{}[[ldap]]", SECTION.replacen(from, to, 1)), 1)
}

#[track_caller]
fn refused(from: &str, to: &str, told: &str) {
    let refused = office().refused(&with(from, to));
    assert!(refused.contains(told), "{told}\nis not in\n{refused}");
    assert_eq!(
        refused.lines().filter(|line| line.starts_with("pgbridge.toml")).count(),
        1,
        "{refused}"
    );
}

#[test]
fn a_section_says_who_is_let_in_and_by_which_keys() {
    let config = office().good(&with("", ""));
    let [way] = &config.kerberos[..] else { panic!("one section is one way in") };
    assert_eq!(way.service.as_str(), "HTTP/web.corp.test@CORP.TEST");
    assert_eq!(
        (&way.realms[..], &way.shapes[..]),
        (&["CORP.TEST".to_owned()][..], &[Shape::Person][..])
    );
    assert_eq!(way.channel_binding, ChannelBinding::Offered);
    assert_eq!(way.lifetime, config.session.absolute);
    assert!(config.policy.ways.contains_key(&way.name) && config.notes.is_empty());
    let shapes =
        with("realms", "shapes = [\"person\", \"machine\"]\nchannel_binding = \"off\"\nrealms");
    let config = office().good(&shapes);
    assert_eq!(config.kerberos[0].shapes, [Shape::Person, Shape::Machine]);
    assert_eq!(config.kerberos[0].channel_binding, ChannelBinding::Off);
}

#[test]
fn tickets_alone_are_enough_to_log_in_by() {
    let (before, rest) = GOOD.split_once("[[ldap]]").unwrap();
    let cluster = rest.find("[[cluster]]").unwrap();
    let only = format!("{before}{SECTION}{}", &rest[cluster..]);
    let config = office().good(&only);
    assert!(config.ways.is_empty() && config.kerberos.len() == 1);
    let none = format!("{before}{}", &rest[cluster..]);
    assert!(office().refused(&none).contains("nobody could log in"));
}

#[test]
fn every_slip_in_a_section_is_told() {
    refused("name = \"tickets\"", "name = \"corp\"", "`name`");
    refused("map = \"tickets\"\n", "", "`map` is missing in [[kerberos]]");
    refused("map = \"tickets\"", "map = \"ticket\"", "no line in the map file");
    let more = "map = \"tickets\"\ngroup_map = \"tickets\"";
    refused("map = \"tickets\"", more, "`group_map` in [[kerberos]] can match nothing");
    for service in ["HTTP/web.corp.test", "alice@CORP.TEST", "krbtgt/X@CORP.TEST", r"HTTP/a\\/b@C"]
    {
        let line = format!("service = \"{service}\"");
        refused(
            "service = \"HTTP/web.corp.test@CORP.TEST\"",
            &line,
            "must be a service with its realm",
        );
    }
    refused("[\"CORP.TEST\"]", "[]", "`realms`");
    refused("realms = [\"CORP.TEST\"]\n", "", "`realms` is missing in [[kerberos]]");
    refused("kdc = \"mit\"\n", "", "`kdc` is missing in [[kerberos]]");
    refused("kdc = \"mit\"", "kdc = \"heimdal\"", "`kdc`");
    for realm in ["", "@CORP.TEST", "a/b", "WELLKNOWN:ANONYMOUS"] {
        refused("[\"CORP.TEST\"]", &format!("[\"{realm}\"]"), "must be a realm");
    }
    let with_more = |line: &str| format!("{line}\nrealms");
    refused("realms", &with_more("shapes = []"), "nobody could log in");
    refused("realms", &with_more("shapes = [\"reserved\"]"), "`shapes`");
    refused("realms", &with_more("channel_binding = \"maybe\""), "`channel_binding`");
    refused("realms", &with_more("strip_realm = true"), "`strip_realm` is no key of [[kerberos]]");
}

#[test]
fn a_binding_that_is_required_needs_tls() {
    let required = with("realms", "channel_binding = \"required\"\nrealms");
    assert!(office().refused(&required).contains("needs TLS"));
    let tls = "[server]\ncertificate_file = \"server.crt\"\nkey_file = \"server.key\"";
    office().good(&required.replacen("[server]", tls, 1));
}

#[test]
fn a_keytab_is_opened_and_what_is_wrong_with_it_is_told() {
    let told = |name: &str, content: &str, mode: u32| {
        let office = office();
        office.put("web.keytab", &keytab(&[AES]), 0o600);
        office.put(name, content, mode);
        office.load(&with("", "")).map(|config| config.notes.len())
    };
    assert_eq!(told("web.keytab", &keytab(&[AES]), 0o600), Ok(0));
    assert_eq!(told("web.keytab", &keytab(&[RC4, AES]), 0o600), Ok(1));
    let refused = |content: &str, mode: u32, what: &str| {
        let told = told("web.keytab", content, mode).unwrap_err();
        assert!(told.contains("`keytab_file`") && told.contains(what), "{told}");
        assert!(told.contains("hint: "), "{told}");
    };
    refused(&keytab(&[AES]), 0o640, "others may read");
    refused("", 0o600, "is no keytab");
    refused("secret", 0o600, "is no keytab");
    refused(&keytab(&[AES])[..40], 0o600, "damaged");
    refused(&keytab(&[]), 0o600, "it is empty");
    refused(&keytab(&[RC4]), 0o600, "RC4");
    let other = keytab_of("other.corp.test", &[AES]);
    refused(&other, 0o600, "its keys are those of `HTTP/other.corp.test@CORP.TEST`");
    let missing = office().refused(&with("web.keytab", "no.keytab"));
    assert!(missing.contains("names a file that does not exist"), "{missing}");
}

#[test]
fn no_map_reads_the_keytab() {
    let office = office();
    let map = format!("{MAP}tickets @web.keytab orders_read\n");
    office.put("pg_ident.conf", &map, 0o644);
    let refused = office.refused(&with("", ""));
    assert!(refused.contains("pg_ident.conf:3"), "{refused}");
}

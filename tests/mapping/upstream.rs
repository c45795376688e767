//! What PostgreSQL's own tests ask of a map, asked of servers and of us side by side: the map part
//! of `003_peer.pl`, `004_file_inclusion.pl`, `001_auth.pl` (Kerberos), `001_server.pl` (OAuth) and
//! `001_ssltests.pl`.
//!
//! The system user comes from a certificate in place of a socket's peer, a ticket or a token; the
//! map cannot tell. Where a login of theirs fails only after the map has said yes, as that of a
//! group role that cannot log in, the map's yes is what is asked for here.

use std::path::Path;

use pgbridge::mapping::MapDecision;

use super::certificate::{Attribute, Subject};
use super::login::{Loaded, Said};
use super::oracle::{Asked, Oracle, agree, shown};
use super::rows::{compare_rows, prepare_rows};

const MAJORS: [u32; 6] = [13, 14, 15, 16, 17, 18];

/// Asks both whether `user` may be `role` by the only map, that `text` is the file of.
#[track_caller]
fn side_by_side(oracle: &Oracle, text: &str, user: &str, role: &str) -> MapDecision {
    let asked = Asked { map: 0, user: user.into(), role: role.into() };
    let (said, decision) = oracle.both(text.as_bytes(), &asked);
    let place = format!("PostgreSQL {}: {text:?}, {user:?} as {role:?}", oracle.server.major);
    let said = said.unwrap_or_else(|words| panic!("{place}: the server refuses it:\n{words}"));
    let decision = decision.unwrap_or_else(|| panic!("{place}: we refuse it"));
    assert!(agree(&said, &decision), "{place}: the server says {said:?}, we say {decision:?}");
    decision
}

fn allows(decision: &MapDecision) -> bool {
    matches!(decision, MapDecision::Allowed(_))
}

const PEER_ROLES: &str = r#"
CREATE ROLE testmapuser LOGIN;
CREATE ROLE testmapgroup NOLOGIN;
GRANT testmapgroup TO testmapuser;
CREATE ROLE "testmapgroupliteral\1" LOGIN;
GRANT "testmapgroupliteral\1" TO testmapuser;
"#;

/// System user and database user of a line, the role that is asked for, and whether the map says
/// yes from 16 on. Up to 15 the two need only agree.
const PEER: [(&str, &str, &str, bool); 21] = [
    ("osuser", "testmapuser", "testmapuser", true),
    ("osuser", "all", "testmapuser", true),
    ("osuser", "\"all\"", "testmapuser", false),
    ("osuser", "/^testm.*$", "testmapuser", true),
    ("osuser", "/^doesnotmatch.*$", "testmapuser", false),
    ("/^.*ser$", "testmapuser", "testmapuser", true),
    ("/^.*ser$", "/^testm.*$", "testmapuser", true),
    ("/^.*ser$", "all", "testmapuser", true),
    ("/^osuser(.*)$", "test\\1mapuser", "testmapuser", true),
    ("/^osuser(.*)$", "\"test\\1mapuser\"", "testmapuser", true),
    ("/^osuser(.*)$", "test\\1map\\1user", "testmapuser", false),
    ("/^osuser$", "\\1testmapuser", "testmapuser", false),
    ("/^.*osuserosuser$", "testmapuser", "testmapuser", false),
    ("osuser", "+testmapgroup", "testmapuser", true),
    ("osuser", "+testmapgroup", "testmapgroup", true),
    ("osuser", "\"+testmapgroup\"", "testmapuser", false),
    ("/^.*ser$", "+testmapgroup", "testmapuser", true),
    ("/^.*ser$", "+testmapgroup", "testmapgroup", true),
    ("/^.*ser(.*)$", "+testmapgroupliteral\\1", "testmapuser", true),
    ("/^.*ser(.*)$", "\"/^testmapgroupliteral\\\\1$\"", "testmapgroupliteral\\1", true),
    ("/^.*ser(.*)$", "\"/^testmapgroupliteral\\\\1$\"", "testmapuser", false),
];

/// `003_peer.pl`.
#[test]
fn the_cases_of_the_peer_test_are_decided_alike() {
    for major in MAJORS {
        let oracle = Oracle::start(major, &["mypeermap"], PEER_ROLES);
        for (system_user, database_user, role, wanted) in PEER {
            let line = format!("mypeermap {system_user} {database_user}\n");
            let decision = side_by_side(&oracle, &line, "osuser", role);
            if major >= 16 {
                assert_eq!(allows(&decision), wanted, "{line:?} as {role}: {decision:?}");
            }
        }
    }
}

/// `003_peer.pl`: the very words, which end up in the server's log and in our explanation.
#[test]
fn a_missing_capture_fails_in_the_servers_words() {
    const WORDS: &str = "regular expression \"^osuser$\" has no subexpressions as requested by \
        backreference in \"\\1testmapuser\"";
    for major in MAJORS {
        let oracle = Oracle::start(major, &["mypeermap"], "");
        let line = "mypeermap /^osuser$ \\1testmapuser\nmypeermap osuser testmapuser\n";
        match side_by_side(&oracle, line, "osuser", "testmapuser") {
            MapDecision::Failed { rule, reason } => {
                assert_eq!(rule.line, 1);
                assert_eq!(reason, WORDS);
            }
            other => panic!("{other:?}"),
        }
        assert!(oracle.server.postgres.log().contains(WORDS), "PostgreSQL {major} says otherwise");
    }
}

/// `004_file_inclusion.pl`: the files, from the directory of the data.
const INCLUDED: [(&str, &str); 9] = [
    ("pg_ident_pre.conf", "pre foo bar\n"),
    ("ident_pos/pg_ident_pos.conf", "pos foo bar\ninclude pg_ident_pos2.conf\n"),
    ("ident_pos/pg_ident_pos2.conf", "pos2 foo bar\npos3 foo bar\n"),
    ("ident_inc_if/some", "if_some foo bar\n"),
    ("ident_inc/01_z.conf", "dir_z foo bar\n"),
    ("ident_inc/02_a.conf", "dir_a foo bar\n"),
    ("ident_inc/garbageconf", "should not be included\n"),
    ("ident_inc/.hidden.conf", "should not be included\n"),
    ("ident_inc/03_b.conf/deeper.conf", "should not be included\n"),
];
const INCLUDING: &str = "\
include ../pg_ident_pre.conf
test a b
include ../ident_pos/pg_ident_pos.conf
include_if_exists ../ident_inc_if/none
include_if_exists ../ident_inc_if/some
include_dir ../ident_inc
";
/// What the view shows of them: the last part of the file's path, the line and the map's name.
const INCLUDED_ROWS: [(&str, u32, &str); 8] = [
    ("pg_ident_pre.conf", 1, "pre"),
    ("pg_ident_custom.conf", 2, "test"),
    ("pg_ident_pos.conf", 1, "pos"),
    ("pg_ident_pos2.conf", 1, "pos2"),
    ("pg_ident_pos2.conf", 2, "pos3"),
    ("some", 1, "if_some"),
    ("01_z.conf", 1, "dir_z"),
    ("02_a.conf", 1, "dir_a"),
];

#[test]
fn included_files_are_read_alike() {
    for major in MAJORS {
        let maps = ["pre", "test", "pos", "pos2", "pos3", "if_some", "dir_z", "dir_a", "should"];
        let mut oracle = Oracle::start(major, &maps, "");
        prepare_rows(&oracle);
        for (path, content) in INCLUDED {
            oracle.server.write(Path::new(path), content.as_bytes());
        }
        oracle.server.move_main_file("subdir2/pg_ident_custom.conf");
        let loaded = oracle.server.load(INCLUDING.as_bytes());
        let ours = oracle.ours();
        if major < 16 {
            assert!(matches!(loaded, Loaded::Refused(_)), "PostgreSQL {major} has no includes");
            assert!(ours.is_err(), "PostgreSQL {major} has no includes");
            continue;
        }
        assert!(matches!(loaded, Loaded::Whole), "PostgreSQL {major}: {loaded:?}");
        let ours = ours.expect("PostgreSQL accepts it");
        assert_eq!(compare_rows(&oracle, &ours, INCLUDING.as_bytes()), INCLUDED_ROWS.len());
        for (file, line, map) in INCLUDED_ROWS {
            let (user, role) = if map == "test" { ("a", "b") } else { ("foo", "bar") };
            let index = maps.iter().position(|name| *name == map).expect("a map of the list");
            let asked = Asked { map: index, user: user.into(), role: role.into() };
            assert_eq!(oracle.ask(std::slice::from_ref(&asked)), [Said::Allowed], "{map}");
            match oracle.decide(&ours, &asked) {
                MapDecision::Allowed(rule) => {
                    assert!(rule.file.ends_with(file), "{map} is in {rule}, not in {file}");
                    assert_eq!(rule.line, line, "{map}");
                }
                other => panic!("{map}: {other:?}"),
            }
        }
        let garbage = Asked { map: 8, user: b"not".to_vec(), role: b"be".to_vec() };
        assert_eq!(oracle.ask(std::slice::from_ref(&garbage)), [Said::Denied]);
        assert_eq!(oracle.decide(&ours, &garbage), MapDecision::NoMatch);
    }
}

/// `001_auth.pl` of Kerberos: a principal without a line, then with the line for its realm.
#[test]
fn a_principal_is_mapped_by_its_realm_alone() {
    const LINE: &str = "mymap  /^(.*)@EXAMPLE.COM$  \\1\n";
    for major in MAJORS {
        let oracle = Oracle::start(major, &["mymap"], "");
        let ask = |text, user, role| allows(&side_by_side(&oracle, text, user, role));
        assert!(!ask("", "test1@EXAMPLE.COM", "test1"));
        assert!(ask(LINE, "test1@EXAMPLE.COM", "test1"));
        assert!(!ask(LINE, "test1@EXAMPLE.COM", "test2"));
        assert!(!ask(LINE, "test1@EXAMPLE.ORG", "test1"));
    }
}

/// `001_server.pl` of the OAuth validator.
#[test]
fn a_token_is_mapped_by_the_name_in_it() {
    const LINE: &str = "\noauthmap\tuser@example.com\ttest\n";
    for major in MAJORS {
        let oracle = Oracle::start(major, &["oauthmap"], "");
        let ask = |user, role| allows(&side_by_side(&oracle, LINE, user, role));
        assert!(!ask("test", "test"));
        assert!(!ask("testalt", "testalt"));
        assert!(ask("user@example.com", "test"));
        assert!(!ask("user@example.com", "testalt"));
    }
}

/// `001_ssltests.pl`: the same certificate by its whole name, by an expression over that, and by its
/// common name.
#[test]
fn a_certificate_is_mapped_by_its_common_name_or_by_its_whole_name() {
    const TEXT: &str = "\
# MAPNAME SYSTEM-USERNAME                                         PG-USERNAME
dn        \"CN=ssltestuser-dn,OU=Testing,OU=Engineering,O=PGDG\"    ssltestuser
dnre      \"/^.*OU=Testing,.*$\"                                    ssltestuser
cn        ssltestuser-dn                                          ssltestuser
";
    const WHOLE_NAME: &str = "CN=ssltestuser-dn,OU=Testing,OU=Engineering,O=PGDG";
    let subject: Subject = vec![
        (Attribute::Organization, b"PGDG".to_vec()),
        (Attribute::Unit, b"Engineering".to_vec()),
        (Attribute::Unit, b"Testing".to_vec()),
        (Attribute::CommonName, b"ssltestuser-dn".to_vec()),
    ];
    for major in MAJORS {
        let mut oracle = Oracle::start(major, &["cn", "dn", "dnre"], "");
        if major >= 14 {
            oracle.server.admit("hostssl by_dn all 127.0.0.1/32 cert clientname=DN map=dn");
            oracle.server.admit("hostssl by_dnre all 127.0.0.1/32 cert clientname=DN map=dnre");
        }
        assert!(matches!(oracle.server.load(TEXT.as_bytes()), Loaded::Whole));
        let ours = oracle.ours().expect("PostgreSQL accepts it");
        let cases =
            [("d0", 0, "ssltestuser-dn"), ("by_dn", 1, WHOLE_NAME), ("by_dnre", 2, WHOLE_NAME)];
        for (database, map, user) in cases.into_iter().take(if major >= 14 { 3 } else { 1 }) {
            for (role, wanted) in [("ssltestuser", Said::Allowed), ("anotheruser", Said::Denied)] {
                let said = oracle.server.login(database, &subject, role.as_bytes());
                assert_eq!(said, wanted, "PostgreSQL {major}, {database} as {role}");
                let asked = Asked { map, user: user.into(), role: role.into() };
                let decision = oracle.decide(&ours, &asked);
                assert!(
                    agree(&said, &decision),
                    "{} as {role}: {decision:?}",
                    shown(user.as_bytes())
                );
            }
        }
    }
}

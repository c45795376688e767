//! Names without regard to case: `krb_caseins_users`, which PostgreSQL has for principals alone.
//!
//! Of the servers here only Debian's can take a ticket; how 16 and newer compare is the same, but
//! for `+role` and expressions in the place of the role, which they have and 15 has not.

use std::fmt::Write as _;
use std::path::Path;
use std::thread;

use pgbridge::mapping::{Case, IdentMap, MapDecision, Memberships, Question};

use super::login::{Loaded, MapServer};
use super::oracle::{dialect, map_name};
use crate::support::kdc::{Kdc, REALM};

/// Without the realm. The last two differ in a letter that is none of ASCII.
const PEOPLE: [&str; 5] = ["alice", "ALICE", "Bob", "\u{e9}va", "\u{c9}va"];

/// Fields behind the name of the map.
const LINES: [&str; 10] = [
    "alice@CORP.TEST orders_read",
    "ALICE@corp.test Orders_Read",
    "\"Alice@Corp.Test\" \"ALL\"",
    "alice orders_read",
    "\u{e9}va@corp.test orders_read",
    "/^(.*)@CORP\\.TEST$ \\1",
    "/^alice@CORP\\.TEST$ Orders_Read",
    "/^(a|A)(.*)@corp\\.test$ x\\1",
    "/^(.*)@CORP\\.TEST$ X\\1",
    "bob@CORP.TEST \\1",
];

const ROLES: [&str; 7] =
    ["orders_read", "ORDERS_read", "alice", "xBOB", "\u{e9}va", "\u{c9}VA", "all"];

const MAJOR: u32 = 15;

/// A server that takes tickets, one map for each line, and the people of a realm.
struct Realm {
    kdc: Kdc,
    server: MapServer,
    text: String,
}

impl Realm {
    fn start() -> Self {
        let kdc = Kdc::start();
        kdc.add(&PEOPLE);
        kdc.add(&["postgres/localhost"]);
        let mut server = MapServer::start(MAJOR, &[]);
        let keytab = kdc.keytab("postgres/localhost", "postgres.keytab");
        let keys = std::fs::read(keytab).expect("the keys are there");
        server.write(Path::new("postgres.keytab"), &keys);
        server.postgres.set("krb_server_keyfile", "postgres.keytab");
        let mut text = String::new();
        for (index, line) in LINES.iter().enumerate() {
            server.admit(&format!(
                "hostssl k{index} all 127.0.0.1/32 gss map=m{index} include_realm=1"
            ));
            let _ = writeln!(text, "m{index} {line}");
        }
        assert!(matches!(server.load(text.as_bytes()), Loaded::Whole), "the lines are a map");
        Self { kdc, server, text }
    }

    /// Whether the server lets whoever has this ticket in by the map of `index`, as far as the map
    /// goes: no such database is there.
    fn allows(&self, ticket: &[(&'static str, String)], index: usize, role: &str) -> bool {
        let mut psql = self.server.postgres.over_loopback(role, &format!("k{index}"));
        psql.envs(ticket.iter().map(|(name, value)| (name, value))).args(["-c", "SELECT 1"]);
        let output = psql.output().expect("psql is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        let is_denied = said.contains("GSSAPI authentication failed for user");
        // What is asked only behind the map.
        let refusals = ["does not exist", "is not permitted to log in"];
        let is_decided = is_denied || refusals.iter().any(|words| said.contains(words));
        assert!(is_decided, "no decision: {said}");
        !is_denied
    }
}

#[test]
fn names_without_regard_to_case_are_those_of_postgresql() {
    let realm = Realm::start();
    let map = IdentMap::parse(dialect(MAJOR), "pg_ident.conf", realm.text.as_bytes());
    let map = map.expect("the lines are a map");
    let mut by_case = Vec::new();
    for (case, setting) in [(Case::Sensitive, "off"), (Case::Insensitive, "on")] {
        realm.server.postgres.set("krb_caseins_users", setting);
        let allowed: usize = thread::scope(|scope| {
            let (realm, map) = (&realm, &map);
            let people =
                PEOPLE.map(|person| scope.spawn(move || compare(realm, map, case, person)));
            people.map(|person| person.join().expect("both say the same")).iter().sum()
        });
        by_case.push(allowed);
    }
    println!("allowed of {}: {by_case:?}", PEOPLE.len() * LINES.len() * ROLES.len());
    assert!(0 < by_case[0] && by_case[0] < by_case[1], "{by_case:?}");
}

/// Asks both about a person, and gives how often they said yes.
fn compare(realm: &Realm, map: &IdentMap, case: Case, person: &str) -> usize {
    let ticket = realm.kdc.logged_in(person, &format!("{case:?}-{person}"));
    let mut allowed = 0;
    for (index, line) in LINES.iter().enumerate() {
        for role in ROLES {
            let ours = map.decide(&Question {
                map: &map_name(&format!("m{index}")),
                system_user: format!("{person}@{REALM}").as_bytes(),
                role: role.as_bytes(),
                case,
                members: &Memberships::none(),
            });
            let ours = matches!(ours, MapDecision::Allowed(_));
            let theirs = realm.allows(&ticket, index, role);
            assert_eq!(ours, theirs, "{case:?}: {person} as {role} by {line}");
            allowed += usize::from(ours);
        }
    }
    allowed
}

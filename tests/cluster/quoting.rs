//! Any name that the server accepts goes through issuing, granting and revoking unharmed.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use pgbridge::cluster::Removal;
use pgbridge::mapping::ObjectPolicy;
use pgbridge::names::{identifier, literal};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::residue::Residue;
use super::{Held, Site, hour, lease, open, profile, settings};

/// Names of each sort that are tried.
const NAMES: usize = 120;

/// Letters that a careless statement trips over, and any other: but NUL, which no statement holds, and
/// the two that stand between fields and rows when a test looks at them.
fn letter() -> impl Strategy<Value = char> {
    let odd = "\"'`\\;-/*$%&|(){}[]<>=,.:!?@#^~_ \t\r\n\u{1}\u{7f}\u{85}\u{a0}\u{200b}\u{202e}\u{feff}éßＡ𝔸😀0aAuU";
    prop_oneof![
        4 => proptest::sample::select(odd.chars().collect::<Vec<_>>()),
        1 => any::<char>().prop_filter("it is not taken", |letter| !"\0\u{1e}\u{1f}".contains(*letter)),
    ]
}

/// A name of at most 63 bytes that the server does not keep for itself.
fn name() -> impl Strategy<Value = String> {
    let cut = |letters: Vec<char>| {
        let mut name = String::new();
        for letter in letters {
            if name.len() + letter.len_utf8() <= 63 {
                name.push(letter);
            }
        }
        name
    };
    let kept = |name: &String| {
        !name.is_empty() && !name.starts_with("pg_") && name != "public" && name != "none"
    };
    vec(letter(), 1..24).prop_map(cut).prop_filter("the server keeps it", kept)
}

/// Different names, and some that have been trouble elsewhere. The seed is drawn and printed;
/// `NAMES_SEED` draws the same again.
fn names() -> Vec<String> {
    let seed: u64 = std::env::var("NAMES_SEED")
        .map_or_else(|_| rand::random(), |seed| seed.parse().expect("NAMES_SEED is a number"));
    println!("NAMES_SEED={seed}");
    let bytes = [seed.to_le_bytes(); 4].concat();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut names: BTreeSet<String> = [
        "x\"; DROP ROLE pgbridge; --",
        "'; DROP ROLE pgbridge; --",
        "PUBLIC",
        "CURRENT_USER",
        "current_user",
        "all",
        "U&\"\\0061\"",
        "$$",
        "%I",
        "\\",
        "\"",
        "''",
        "two\nlines",
        "sixty_three_bytes_sixty_three_bytes_sixty_three_bytes_sixty_thr",
    ]
    .map(str::to_owned)
    .into();
    while names.len() < NAMES {
        names.insert(name().new_tree(&mut runner).expect("a name").current());
    }
    names.into_iter().collect()
}

impl Site {
    /// What the superuser sees of `sql`, a list of names, in the order of their bytes.
    fn list(&self, database: &str, sql: &str) -> BTreeSet<String> {
        self.postgres.sql(database, sql).concat().into_iter().collect()
    }
}

/// Groups, grantors, schemas, tables, columns, routines, types and policies of any name.
#[tokio::test(flavor = "multi_thread")]
async fn any_name_goes_through_issuing_granting_and_revoking_unharmed() {
    for major in [13, 18] {
        let site = Site::start(major);
        let names = names();
        prepare(&site, &names);
        let before = Residue::of(&site);
        let groups = site.list("postgres", "SELECT rolname FROM pg_roles");
        assert!(names.iter().all(|name| groups.contains(name)), "a name was changed");

        // The odd group is given, and takes part in everything.
        for group in names.iter().step_by(4) {
            let held = site.issue(lease(group), &profile(group), super::WITHIN).await;
            let held = held.unwrap_or_else(|error| panic!("{group:?}: {error:?}"));
            let given = format!(
                "SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                 WHERE m.member = {}",
                held.created.role_oid
            );
            assert_eq!(site.postgres.sql("postgres", &given), [[group.clone()]]);
            goes_on_by_any_name(&site, &held, &like(group, &groups)).await;
            assert_eq!(site.remove(&held, ObjectPolicy::Drop).await, Removal::Gone, "{group:?}");
        }
        Residue::of(&site).since(&before).assert_none();

        // One holder makes something of each name, is given something by each, and gives.
        let held = site.hold("orders_write").await;
        let role = held.name();
        // A few at a time: an argument of a program has a longest length.
        for names in names.chunks(30) {
            site.postgres.sql("orders", &given(names, role));
            let made = format!("SET client_min_messages = error; {}", made(names));
            site.use_it(&held, "orders", &made).unwrap();
        }
        let mut settings = settings(&site.postgres);
        settings.statement_timeout = std::time::Duration::from_mins(1);
        let patient = open(settings, "b1", '7');
        let removed = patient.remove(&held.target(), ObjectPolicy::Reassign).await.unwrap();
        assert_eq!(removed, Removal::Gone);
        site.assert_gone(&held);
        Residue::of(&site).since(&before).assert_only_of("pgbridge_attic");
        let schemas = site.list(
            "orders",
            "SELECT nspname FROM pg_namespace WHERE nspowner = 'pgbridge_attic'::regrole",
        );
        assert_eq!(schemas, names.into_iter().collect());
    }
}

/// What a holder makes of each name.
fn made(names: &[String]) -> String {
    let mut made = String::new();
    for name in names {
        let quoted = identifier(name);
        write!(
            made,
            "CREATE SCHEMA {quoted}; CREATE TABLE {quoted}.{quoted} ({quoted} integer);
             CREATE FUNCTION {quoted}.{quoted}(text) RETURNS text SECURITY DEFINER
                 LANGUAGE sql AS 'SELECT $1';
             CREATE TYPE {quoted}.{} AS ENUM ({});
             GRANT SELECT ({quoted}) ON {quoted}.{quoted} TO {quoted};
             GRANT USAGE ON SCHEMA {quoted} TO {quoted};
             GRANT EXECUTE ON FUNCTION {quoted}.{quoted}(text) TO {quoted};\n",
            identifier(&beside(name)),
            literal(name),
        )
        .expect("text grows");
    }
    made
}

/// What `role` is given by the role of each name.
fn given(names: &[String], role: &str) -> String {
    let mut given = String::new();
    for quoted in names.iter().map(|name| identifier(name)) {
        write!(
            given,
            "SET ROLE {quoted};
             GRANT SELECT ON steward.{quoted} TO {role} WITH GRANT OPTION;
             CREATE POLICY {quoted} ON steward.{quoted} TO {role} USING (true);
             ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {role};\n"
        )
        .expect("text grows");
    }
    given
}

/// A role that a DBA gave the name `name` is renewed, and no other.
async fn goes_on_by_any_name(site: &Site, held: &Held, name: &str) {
    let renamed = identifier(name);
    site.dba(&format!(
        "SET client_min_messages = error; ALTER ROLE {} RENAME TO {renamed};
         ALTER ROLE {renamed} VALID UNTIL '2001-01-01'",
        held.name()
    ));
    let ends = |which: &str| {
        site.see(&format!(
            "SELECT string_agg(concat_ws(' ', oid, rolvaliduntil), ',' ORDER BY oid)
             FROM pg_roles WHERE oid {which} {}",
            held.created.role_oid
        ))
    };
    let others = ends("<>");
    let until = site.cluster.extend(&held.lease, hour()).await;
    let until = until.unwrap_or_else(|error| panic!("{name:?}: {error:?}"));
    let set = format!(
        "SELECT rolvaliduntil = '{until}' FROM pg_roles WHERE oid = {}",
        held.created.role_oid
    );
    assert_eq!(site.see(&set), "t", "{name:?}");
    assert_eq!(ends("<>"), others, "{name:?}");
}

/// A name like `name` that none of `taken` has.
fn like(name: &str, taken: &BTreeSet<String>) -> String {
    let mut others = ('0'..='9').map(|last| format!("{}{last}", cut(name)));
    others.find(|other| !taken.contains(other)).expect("a name that nobody has")
}

/// A name like `name`, and not the same: a table's name is that of a type too.
fn beside(name: &str) -> String {
    let last = if name.ends_with('t') { 'u' } else { 't' };
    format!("{}{last}", cut(name))
}

/// Room for one more letter.
fn cut(name: &str) -> &str {
    let mut end = name.len().min(62);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.get(..end).unwrap_or_default()
}

/// A group and owner of each name, in whose name the broker may act, with a table in `steward`.
fn prepare(site: &Site, names: &[String]) {
    let options = if site.major >= 16 { " WITH INHERIT FALSE, SET TRUE" } else { "" };
    let admin = "WITH ADMIN TRUE, INHERIT FALSE, SET FALSE";
    let (mut roles, mut tables) = (String::new(), "CREATE SCHEMA steward;".to_owned());
    for name in names {
        let quoted = identifier(name);
        writeln!(roles, "CREATE ROLE {quoted}; GRANT {quoted} TO pgbridge{options};")
            .expect("text grows");
        if site.major >= 16 {
            writeln!(roles, "GRANT {quoted} TO pgbridge_admin {admin};").expect("text grows");
        }
        write!(
            tables,
            "CREATE TABLE steward.{quoted} (n integer);
             GRANT USAGE ON SCHEMA steward TO {quoted};
             ALTER TABLE steward.{quoted} OWNER TO {quoted};\n"
        )
        .expect("text grows");
    }
    site.dba(&roles);
    site.postgres.sql("orders", &tables);
    site.dba("GRANT CREATE ON DATABASE orders TO orders_write, pgbridge_attic");
}

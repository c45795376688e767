//! The map of 10,000 lines: reading it, deciding by it, and what a login costs PostgreSQL that
//! goes by the same file.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgbridge::mapping::{
    Case, Dialect, IdentMap, KnownMembers, MapDecision, Maps, Memberships, Policy, Profile,
    Question, Target, UnverifiedPerson,
};
use pgbridge::names::{ClusterName, MapName, RoleName, WayName};
use tokio_postgres::NoTls;

use crate::measure::{Tally, rounded};
use crate::support::Postgres;

const LINES: usize = 10_000;
const PEOPLE: usize = 100_000;
/// Logins of each side.
const LOGINS: usize = 300;

/// What the map is made of besides literal names: one line of each kind.
#[derive(Clone, Copy)]
enum Kind {
    /// Only literal names.
    Literal,
    /// A tenth are expressions that begin or end with letters of their own.
    Anchored,
    /// A tenth are expressions that can match anywhere.
    Unanchored,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Literal, Self::Anchored, Self::Unanchored];

    fn name(self) -> &'static str {
        match self {
            Self::Literal => "literal",
            Self::Anchored => "a tenth anchored expressions",
            Self::Unanchored => "a tenth unanchored expressions",
        }
    }

    fn line(self, number: usize) -> String {
        match self {
            Self::Anchored if number.is_multiple_of(10) => {
                format!("m /^svc{number}-([a-z0-9]+)@CORP\\.TEST$ \\1\n")
            }
            Self::Unanchored if number.is_multiple_of(10) => {
                format!("m /team{number}[a-z]*@ role{number}\n")
            }
            _ => format!("m user{number}@CORP.TEST role{number}\n"),
        }
    }

    /// A map of which the last line lets `postgres` in as `target`.
    fn file(self) -> String {
        let mut file = String::new();
        for number in 0..LINES - 1 {
            file += &self.line(number);
        }
        file + "m /^(root|postgres)$ target\n"
    }
}

pub async fn run() {
    for kind in Kind::ALL {
        load(kind);
        decide(kind);
        who_can(kind);
    }
    at_login().await;
}

fn print(what: &str, kind: &str, tally: &Tally) {
    let micros = |share| rounded(tally.percentile_ms(share) * 1000.0);
    let (median_us, p99_us) = (micros(0.5), micros(0.99));
    println!(
        "{}",
        serde_json::json!({
            "bench": "map", "what": what, "lines": LINES, "kind": kind,
            "median_us": median_us, "p99_us": p99_us,
        })
    );
}

fn load(kind: Kind) {
    let file = kind.file();
    let mut tally = Tally::default();
    for _ in 0..20 {
        let begun = Instant::now();
        let map = IdentMap::parse(Dialect::default(), "pg_ident.conf", file.as_bytes());
        tally.note(begun.elapsed());
        assert!(map.is_ok(), "the map is read");
    }
    print("load", kind.name(), &tally);
}

/// Names of every kind in turn: those of early and late lines, of expressions, and of nobody.
fn decide(kind: Kind) {
    let file = kind.file();
    let map = IdentMap::parse(Dialect::default(), "pg_ident.conf", file.as_bytes());
    let map = map.expect("the map is read");
    let name: MapName = "m".parse().expect("a name");
    let members = Memberships::none();
    let mut tally = Tally::default();
    let mut allowed = 0;
    for turn in 0..20_000 {
        // Every tenth line is an expression, where there are any.
        let tens = turn * 7919 % LINES / 10 * 10;
        let number = if turn % 4 == 0 { tens + 1 } else { tens };
        let (system_user, role) = match turn % 4 {
            0 => (format!("user{number}@CORP.TEST"), format!("role{number}")),
            1 => (format!("svc{number}-app@CORP.TEST"), "app".to_owned()),
            2 => (format!("a-team{number}x@CORP.TEST"), format!("role{number}")),
            _ => (format!("nobody{number}@CORP.TEST"), format!("role{number}")),
        };
        let question = Question {
            map: &name,
            system_user: system_user.as_bytes(),
            role: role.as_bytes(),
            case: Case::Sensitive,
            members: &members,
        };
        let begun = Instant::now();
        let decision = map.decide(&question);
        tally.note(begun.elapsed());
        allowed += usize::from(matches!(decision, MapDecision::Allowed(_)));
    }
    assert!(allowed >= 5000, "{allowed} of 20,000 are allowed");
    print("decision", kind.name(), &tally);
}

/// Who of 100,000 people may act as one role. Each has two groups, which the map knows nothing of.
fn who_can(kind: Kind) {
    let role: RoleName = "app".parse().expect("a name");
    let file = kind.file() + "groups cn=nobody app\nm user77@CORP.TEST app\n";
    let map = IdentMap::parse(Dialect::default(), "pg_ident.conf", file.as_bytes());
    let name = |name: &str| Some(name.parse().expect("a name"));
    let maps = Maps { map: name("m"), group_map: name("groups"), case: Case::Sensitive };
    let way: WayName = "corp".parse().expect("a name");
    let cluster: ClusterName = "orders".parse().expect("a name");
    let target = Target { cluster: cluster.clone(), profiles: vec![Arc::new(profile(&role))] };
    let policy = Policy {
        map: map.expect("the map is read"),
        ways: [(way.clone(), maps)].into(),
        access: Maps::default(),
        targets: vec![target],
    };
    let person = |number: usize| {
        let account = match number % 2 {
            0 => format!("user{}@CORP.TEST", number / 2),
            _ => format!("svc{}-app@CORP.TEST", number / 20 * 10),
        };
        let groups = ["cn=all".to_owned(), format!("cn=team{}", number % 500)];
        UnverifiedPerson::new(way.clone(), account, groups.into())
    };
    let people: Vec<_> = (0..PEOPLE).map(person).collect();
    let mut tally = Tally::default();
    for _ in 0..5 {
        let begun = Instant::now();
        let found = policy.who_of(&cluster, &role, &KnownMembers::nothing(), &people);
        tally.note(begun.elapsed());
        assert!(!found.expect("an answer").is_empty(), "somebody may");
    }
    print("who-can of 100,000 people", kind.name(), &tally);
}

fn profile(role: &RoleName) -> Profile {
    let (database, ttl) = ("orders".parse().expect("a name"), "1h".parse().expect("a time"));
    Profile::plain(role.clone(), database, ttl, "8h".parse().expect("a time"))
}

/// A login over the socket (`peer`) that the last line lets in, beside one by a map of that line
/// alone: the rest is what the decision costs.
async fn at_login() {
    let server = Postgres::start(16);
    server.sql("postgres", "CREATE ROLE target LOGIN");
    let mut short = String::new();
    let _ = writeln!(short, "m /^(root|postgres)$ target");
    let alone = logins(&server, &short).await;
    print("login by one line", "PostgreSQL 16", &alone);
    for kind in Kind::ALL {
        let long = logins(&server, &kind.file()).await;
        print("login by all lines", &format!("PostgreSQL 16, {}", kind.name()), &long);
    }
}

async fn logins(server: &Postgres, map: &str) -> Tally {
    write_map(server, map);
    server.set_hba("local all target peer map=m");
    let mut config = tokio_postgres::Config::new();
    config.host_path(server.socket()).port(server.port()).user("target").dbname("postgres");
    config.connect_timeout(Duration::from_secs(10));
    let mut tally = Tally::default();
    for _ in 0..LOGINS {
        let begun = Instant::now();
        let (client, connection) = config.connect(NoTls).await.expect("a login");
        tally.note(begun.elapsed());
        drop(client);
        let _ = connection.await;
    }
    tally
}

/// Writes the server's map file. A statement is an argument of psql, which has a limit.
fn write_map(server: &Postgres, map: &str) {
    let digits = data_encoding::HEXLOWER.encode(map.as_bytes());
    server.sql("postgres", "CREATE TABLE digits (place integer, piece text)");
    for (place, piece) in digits.as_bytes().chunks(100_000).enumerate() {
        let piece = std::str::from_utf8(piece).expect("digits");
        server.sql("postgres", &format!("INSERT INTO digits VALUES ({place}, '{piece}')"));
    }
    let statement = "DO $$ DECLARE
             text bytea := (SELECT decode(string_agg(piece, '' ORDER BY place), 'hex') FROM digits);
             file oid := lo_from_bytea(0, text);
         BEGIN PERFORM lo_export(file, current_setting('ident_file')); PERFORM lo_unlink(file);
         END $$";
    server.sql("postgres", statement);
    server.sql("postgres", "DROP TABLE digits");
}

//! The ident map against real servers: what PostgreSQL makes of a pattern, and of a file.
//!
//! Cases are random. A failure prints the seed; `PGBRIDGE_SEED` repeats it, and `PGBRIDGE_CASES`
//! asks for more than the usual number of patterns, files or logins.

mod anything;
mod case;
mod certificate;
mod corpus;
mod differential;
mod edges;
mod generator;
mod hostile;
mod login;
mod oracle;
mod patterns;
mod promises;
mod rows;
mod upstream;

use std::env;
use std::fmt::Write as _;
use std::thread;

use pgbridge::mapping::{Case, Dialect, IdentMap, MapDecision, Memberships, Question as Asked};
use pgbridge::names::MapName;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::Postgres;

const MAJORS: [u32; 2] = [15, 16];
/// A database where PostgreSQL is as at login: bytes, and the C collation.
const DATABASE: &str = "bytes";
const MAKE_DATABASE: &str =
    "CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'";

/// Text to and from the server as hexadecimal digits, so that any byte can be sent.
const FUNCTIONS: &str = r#"
CREATE FUNCTION plain(hex text) RETURNS text LANGUAGE sql
AS $$ SELECT convert_from(decode(hex, 'hex'), 'SQL_ASCII') $$;

CREATE FUNCTION hex(plain text) RETURNS text LANGUAGE sql
AS $$ SELECT encode(convert_to(plain, 'SQL_ASCII'), 'hex') $$;

-- What the pattern says of the subject: error, no, unset (no group 1, or none that took part), or
-- = and group 1.
CREATE FUNCTION ask(pattern text, subject text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    groups text[];
BEGIN
    groups := regexp_match(plain(subject) COLLATE "C", plain(pattern));
    RETURN CASE
        WHEN groups IS NULL THEN 'no'
        -- A pattern that is meant literally has no groups, whatever is put behind it.
        WHEN plain(pattern) ~ '^(\*\*\*=|(\*\*\*:)?\(\?[a-z]*q)' THEN 'unset'
        -- Without a group there is the whole match instead: one more group tells.
        WHEN cardinality(regexp_match(plain(subject) COLLATE "C", plain(pattern) || '()')) = 1
            THEN 'unset'
        ELSE coalesce('=' || hex(groups[1]), 'unset')
    END;
EXCEPTION WHEN invalid_regular_expression THEN
    RETURN 'error ' || SQLERRM;
END $$;

-- The lines that the server reads from a map file of this content: number, map name, system
-- user and database user, which are empty for a line with a mistake.
CREATE FUNCTION lines(content text)
RETURNS TABLE (line integer, map text, system_user_name text, role text) LANGUAGE plpgsql AS $$
DECLARE
    file oid := lo_from_bytea(0, decode(content, 'hex'));
BEGIN
    PERFORM lo_export(file, current_setting('ident_file'));
    PERFORM lo_unlink(file);
    RETURN QUERY SELECT line_number, hex(map_name), hex(sys_name), hex(pg_username)
        FROM pg_ident_file_mappings;
END $$;
"#;

fn server(major: u32) -> Postgres {
    let server = Postgres::start(major);
    server.sql("postgres", MAKE_DATABASE);
    server.sql(DATABASE, FUNCTIONS);
    server
}

/// The random numbers of a test, from a seed that is printed when it fails.
fn dice() -> StdRng {
    let seed = env::var("PGBRIDGE_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed = seed.unwrap_or_else(|| rand::rng().random::<u64>());
    println!("PGBRIDGE_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

fn cases(usual: usize) -> usize {
    env::var("PGBRIDGE_CASES").map_or(usual, |cases| cases.parse().expect("a number"))
}

fn hex(text: &str) -> String {
    data_encoding::HEXLOWER.encode(text.as_bytes())
}

fn unhex(digits: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(digits.as_bytes()).expect("hexadecimal digits")
}

fn m() -> MapName {
    "m".parse().expect("a map name")
}

fn decide(map: &IdentMap, name: &MapName, system_user: &str, role: &str) -> MapDecision {
    map.decide(&Asked {
        map: name,
        system_user: system_user.as_bytes(),
        role: role.as_bytes(),
        case: Case::Sensitive,
        members: &Memberships::none(),
    })
}

/// A map file of a few random lines, most of them whole, in the oddest writing.
fn random_file(dice: &mut StdRng) -> String {
    const PLAIN: [&str; 12] =
        ["a", "b", "m", "é", "al", "+", "@", "a.b", "\\", "\\\\", "\"\"", "\""];
    const QUOTED: [&str; 9] = ["a", " ", "#", ",", "\"\"", "\t", "\\", "/x", "é"];
    const BLANKS: [&str; 8] = [" ", " ", " ", "\t", "\r", "  ", " \\\n", "\\\n "];
    let mut file = String::new();
    for _ in 0..dice.random_range(1..5) {
        for _ in 0..[2, 3, 3, 3, 3, 3, 3, 3, 3, 4][dice.random_range(0..10)] {
            file += ["", "", "", "", "", "", ",", "#"][dice.random_range(0..8)];
            match dice.random_range(0..4) {
                0 => {
                    let inner: String = (0..dice.random_range(0..4))
                        .map(|_| QUOTED[dice.random_range(0..QUOTED.len())])
                        .collect();
                    let _ = write!(file, "\"{inner}\"");
                }
                1 => {
                    file += PLAIN[dice.random_range(0..PLAIN.len())];
                    file += PLAIN[dice.random_range(0..PLAIN.len())];
                }
                _ => file += PLAIN[dice.random_range(0..4)],
            }
            file += BLANKS[dice.random_range(0..BLANKS.len())];
        }
        file += ["\n", "\r\n", "\n\n", " # c\n", "\\\n", "\\\n\n", ""][dice.random_range(0..7)];
    }
    file
}

/// A line as the server reads it.
#[derive(Debug)]
struct Row {
    line: u32,
    map: String,
    system_user: String,
    role: String,
}

/// Reads each file on the server: its rows, or `None` when it has a mistake.
fn read_files(server: &Postgres, files: &[String]) -> Vec<Option<Vec<Row>>> {
    let mut read = Vec::new();
    for some in files.chunks(300) {
        let values: Vec<_> = some.iter().map(|file| format!("'{}'", hex(file))).collect();
        let query = format!(
            "SELECT coalesce(string_agg(CASE WHEN line IS NOT NULL THEN
                        concat_ws(',', line, coalesce(map, 'error'), system_user_name, role)
                    END, '|' ORDER BY line), '')
             FROM unnest(ARRAY[{}]) WITH ORDINALITY f (content, place)
             LEFT JOIN LATERAL lines(content) ON true
             GROUP BY place ORDER BY place",
            values.join(",")
        );
        for row in server.sql(DATABASE, &query) {
            let rows = row[0].split('|').filter(|row| !row.is_empty());
            read.push(rows.map(row_of).collect());
        }
    }
    assert_eq!(read.len(), files.len());
    read
}

fn row_of(text: &str) -> Option<Row> {
    let fields: Vec<_> = text.split(',').collect();
    let [line, map, system_user, role] = fields[..] else {
        return None;
    };
    let text = |digits| String::from_utf8(unhex(digits)).expect("the file is UTF-8");
    Some(Row {
        line: line.parse().expect("a line number"),
        map: text(map),
        system_user: text(system_user),
        role: text(role),
    })
}

/// Whether the file says something that the rows do not show: quoted or not, a role of `+x` is
/// `+x` in them. It may be refused here too, for a regular expression.
fn says_more(rows: &[Row]) -> bool {
    rows.iter().any(|row| row.role.starts_with(['+', '/']) || row.system_user.starts_with('/'))
}

/// Every name of the file is tried with every other: only what the server reads is allowed.
fn compare_file(file: &str, map: &IdentMap, rows: &[Row]) {
    for asked in rows {
        let Ok(name) = asked.map.parse::<MapName>() else { continue };
        for (system_user, role) in rows.iter().flat_map(|user| {
            rows.iter().map(move |role| (user.system_user.as_str(), role.role.as_str()))
        }) {
            let line = rows.iter().find(|row| {
                row.map == asked.map && row.system_user == system_user && row.role == role
            });
            let decision = decide(map, &name, system_user, role);
            let found = match &decision {
                MapDecision::Allowed(rule) => Some(rule.line),
                MapDecision::NoMatch | MapDecision::Failed { .. } => None,
            };
            let place = format!("{file:?}\n{system_user:?} as {role:?} by {name}: {rows:?}");
            assert_eq!(found, line.map(|row| row.line), "{place}");
        }
    }
}

#[test]
fn files_are_read_as_postgresql_reads_them() {
    let mut dice = dice();
    let files: Vec<_> = (0..cases(2000)).map(|_| random_file(&mut dice)).collect();
    thread::scope(|scope| {
        for major in MAJORS {
            let files = &files;
            scope.spawn(move || {
                let (mut whole, mut more, mut refused) = (0, 0, 0);
                for (file, rows) in files.iter().zip(read_files(&server(major), files)) {
                    let dialect = Dialect::try_from(major).expect("a dialect");
                    let ours = IdentMap::parse(dialect, "pg_ident.conf", file.as_bytes());
                    match (ours, rows) {
                        (_, Some(rows)) if says_more(&rows) => more += 1,
                        (Ok(map), Some(rows)) => {
                            compare_file(file, &map, &rows);
                            whole += 1;
                        }
                        (Err(_), None) => refused += 1,
                        (ours, rows) => panic!("{file:?}\nserver {rows:?}\nhere {ours:?}"),
                    }
                }
                println!(
                    "PostgreSQL {major}: {whole} files alike, {refused} refused, {more} say more"
                );
                assert!(
                    whole >= files.len() / 5 && refused > 0,
                    "{whole} alike, {refused} refused"
                );
            });
        }
    });
}

//! What a server says that it reads from a map file, and what we read.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use pgbridge::mapping::{DatabaseUserView, IdentMap, SystemUserView};
use pgbridge::names::MapName;

use super::oracle::{Oracle, shown};
use super::{DATABASE, MAKE_DATABASE, unhex};

/// A line as the server reads it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    map: MapName,
    number: usize,
    file: PathBuf,
    line: u32,
    system_user: Vec<u8>,
    database_user: Vec<u8>,
}

/// Makes the database in which the view shows bytes as they are.
pub fn prepare_rows(oracle: &Oracle) {
    if oracle.server.major >= 15 {
        oracle.server.postgres.sql("postgres", MAKE_DATABASE);
    }
}

/// Compares `pg_ident_file_mappings` (15 and newer) with our reading, map by map and in order.
/// Gives how many rows there were.
pub fn compare_rows(oracle: &Oracle, ours: &IdentMap, text: &[u8]) -> usize {
    if oracle.server.major < 15 {
        return 0;
    }
    let (theirs, ours) = (server_rows(oracle), our_rows(oracle, ours));
    if theirs == ours {
        return theirs.len();
    }
    let difference = theirs.iter().zip(&ours).find(|(one, other)| one != other);
    panic!(
        "PostgreSQL {} reads {} rows, we {}; at first {difference:#?}\nof {}",
        oracle.server.major,
        theirs.len(),
        ours.len(),
        shown(text)
    );
}

/// The lines of the main file that the server (15 and newer) has a row for, each with whether there
/// is a mistake in it.
pub fn lines_with_mistakes(oracle: &Oracle) -> BTreeMap<u32, bool> {
    let query = "SELECT line_number, error IS NOT NULL FROM pg_ident_file_mappings";
    let rows = oracle.server.postgres.sql(DATABASE, query);
    rows.iter().map(|row| (row[0].parse().expect("a line number"), row[1] == "t")).collect()
}

/// The names in every row of the view, also in those of a map whose name is no text.
pub fn server_names(oracle: &Oracle) -> Vec<Vec<u8>> {
    let query = "SELECT encode(convert_to(sys_name, 'SQL_ASCII'), 'hex'),
                        encode(convert_to(pg_username, 'SQL_ASCII'), 'hex')
                 FROM pg_ident_file_mappings";
    let rows = oracle.server.postgres.sql(DATABASE, query);
    rows.concat().iter().map(|name| unhex(name)).collect()
}

/// The rows of the view; those of a map whose name is no text, which nobody could be given, are
/// left out.
fn server_rows(oracle: &Oracle) -> Vec<Row> {
    let path =
        if oracle.server.major >= 16 { "file_name" } else { "current_setting('ident_file')" };
    let number = if oracle.server.major >= 16 { "map_number" } else { "0" };
    let rows = oracle.server.postgres.sql(
        DATABASE,
        &format!(
            "SELECT encode(convert_to(map_name, 'SQL_ASCII'), 'hex'), {path}, line_number,
                    encode(convert_to(sys_name, 'SQL_ASCII'), 'hex'),
                    encode(convert_to(pg_username, 'SQL_ASCII'), 'hex'), {number}, error
             FROM pg_ident_file_mappings"
        ),
    );
    let mut last = 0;
    let rows = rows.iter().enumerate().filter_map(|(index, row)| {
        assert_eq!(row[6], "", "a mistake in a file that was loaded");
        let counted: usize = row[5].parse().expect("a number");
        assert!(counted == 0 || counted == last + 1, "map_number counts the good lines");
        last = counted;
        let map = String::from_utf8(unhex(&row[0])).ok()?;
        Some(Row {
            map: map.parse().ok()?,
            number: index,
            file: settled(Path::new(&row[1])),
            line: row[2].parse().expect("a line number"),
            system_user: unhex(&row[3]),
            database_user: unhex(&row[4]),
        })
    });
    sorted(rows.collect())
}

fn our_rows(oracle: &Oracle, ours: &IdentMap) -> Vec<Row> {
    let base = oracle.server.main_file().parent().expect("a file is in a directory");
    let mut rows = Vec::new();
    for map in ours.map_names() {
        for rule in ours.rules(map) {
            let reference = rule.reference();
            rows.push(Row {
                map: map.clone(),
                number: rows.len(),
                file: settled(&base.join(&reference.file)),
                line: reference.line,
                system_user: match rule.system_user() {
                    SystemUserView::Literal(name) => name.to_vec(),
                    SystemUserView::Pattern(pattern) => [b"/", pattern].concat(),
                },
                database_user: match rule.database_user() {
                    DatabaseUserView::All => b"all".to_vec(),
                    DatabaseUserView::MemberOf(group) => [b"+", group].concat(),
                    DatabaseUserView::Pattern(pattern) => [b"/", pattern].concat(),
                    DatabaseUserView::Literal(name) => name.to_vec(),
                    DatabaseUserView::WithCapture { before, after } => {
                        [before, b"\\1", after].concat()
                    }
                },
            });
        }
    }
    sorted(rows)
}

/// By map, and in file order within each.
fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort();
    for (index, row) in rows.iter_mut().enumerate() {
        row.number = index;
    }
    rows
}

/// The path without `.` and `..`.
fn settled(path: &Path) -> PathBuf {
    let mut settled = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                settled.pop();
            }
            other => settled.push(other),
        }
    }
    settled
}

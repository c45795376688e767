//! Any bytes at all as a map and as names: nothing panics, and every answer is given twice alike.

use pgbridge::mapping::{Case, Dialect};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use super::cases;
use super::promises::Anything;

/// What maps are made of, more often than by chance.
const PIECES: [&[u8]; 62] = [
    b"m ",
    b"m ",
    b"m ",
    b"m ",
    b" ",
    b"\t",
    b"\r",
    b"\n",
    b"\n",
    b"\n",
    b",",
    b"#",
    b"\"",
    b"\"\"",
    b"\\",
    b"\\\n",
    b"\\1",
    b" \\1\n",
    b"/",
    b"/^",
    b"$ ",
    b"/^(.*)@x$ \\1\n",
    b"(",
    b")",
    b"(?:",
    b"(?i)",
    b"(?=",
    b"(?!",
    b"[",
    b"]",
    b"[^",
    b"[[:alpha:]]",
    b"-",
    b"*",
    b"+",
    b"?",
    b"*?",
    b"{2}",
    b"{1,3}",
    b"{255}",
    b"|",
    b".",
    b"\\w",
    b"\\m",
    b"\\2",
    b"a",
    b"b",
    b"@x",
    b"@a",
    b"\xff",
    b"\0",
    b"\xef\xbb\xbf",
    b"all\n",
    b"+g\n",
    b"u r\n",
    b"include a\n",
    b"include b.conf\n",
    b"include_if_exists z\n",
    b"include_dir d\n",
    b"include_dir .\n",
    b"include pg_ident.conf\n",
    "\u{e9}".as_bytes(),
];

const ROLES: [&[u8]; 5] = [b"\\1", b"all", b"r", b"+g", b"/a"];

fn bytes(pieces: usize) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        9 => select(&PIECES[..]).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..pieces).prop_map(|pieces| pieces.concat())
}

/// Lines of a map, most of which have three fields.
fn lines(most: usize) -> impl Strategy<Value = Vec<u8>> {
    let user = prop_oneof![
        bytes(3),
        bytes(8).prop_map(|pattern| [b"\"/^", &pattern[..], b"$\""].concat()),
        Just(b"/^([a-z]+)@x$".to_vec()),
    ];
    let role = prop_oneof![bytes(2), select(&ROLES[..]).prop_map(<[u8]>::to_vec)];
    let line = prop_oneof![
        8 => (user, role).prop_map(|(user, role)| [b"m ", &user[..], b" ", &role[..], b"\n"].concat()),
        1 => bytes(8),
    ];
    proptest::collection::vec(line, 0..most).prop_map(|lines| lines.concat())
}

#[test]
fn any_bytes_are_a_map_or_not_and_answer_alike_twice() {
    let files = (lines(5), lines(2), lines(2), lines(2));
    let names = (bytes(6), bytes(4));
    let anything = (select(&Dialect::ALL[..]), any::<bool>(), files, names);
    let mut runner = TestRunner::new(Config {
        cases: u32::try_from(cases(2000)).expect("not that many"),
        failure_persistence: None,
        ..Config::default()
    });
    let read = std::cell::Cell::new(0);
    let kept = runner.run(&anything, |(dialect, fold, (main, a, b, c), (user, role))| {
        let case = if fold { Case::Insensitive } else { Case::Sensitive };
        let files = [&main[..], &a, &b, &c];
        let anything = Anything { dialect, files, user: &user, role: &role, case };
        read.set(read.get() + u32::from(anything.keeps_all_promises()));
        Ok(())
    });
    kept.unwrap_or_else(|error| panic!("{error}"));
    println!("{} of them are maps", read.get());
    assert!(read.get() > 100, "too few are maps: {}", read.get());
}

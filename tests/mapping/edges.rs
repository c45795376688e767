//! Single files at the edges of the language, each read and decided by every major and by us.

use std::path::Path;

use super::generator::{ROLES_SQL, ROLES_SQL_16};
use super::login::{Loaded, Said};
use super::oracle::{Asked, Oracle, agree, listed, shown};
use super::rows::{compare_rows, prepare_rows};

const MAPS: [&str; 6] = ["m", "include", "+m", "all", "we ird", "\u{feff}m"];
const MAJORS: [u32; 6] = [13, 14, 15, 16, 17, 18];

/// Users and roles: every file is asked about all pairs.
const USERS: [&[u8]; 13] = [
    b"u",
    b"U",
    b"u,v",
    b"u v",
    b"u#v",
    b"u\"v",
    b"\xff",
    b"u\\",
    b"@u",
    b"all",
    b"+readers",
    b"bar",
    b"u\r",
];
const ROLES: [&[u8]; 17] = [
    b"r",
    b"R",
    b"all",
    b"+readers",
    b"direct",
    b"indirect",
    b"readers",
    b"chief",
    b"keeps_apart",
    b"not_inheriting",
    b"\\1",
    b"u",
    b"x",
    b"/r",
    b"pg_database_owner",
    b"pg_monitor",
    b"r\\",
];

/// What lies beside the map file.
const FILES: [(&str, &[u8]); 19] = [
    ("e/one", b"u"),
    ("e/two", b"u v\n"),
    ("e/lines", b"# comment\n\nu\n\n"),
    ("e/empty", b""),
    ("e/only_comment", b"# nothing\n"),
    ("e/quoted_all", b"\"all\"\n"),
    ("e/all", b"all\n"),
    ("e/group", b"+readers\n"),
    ("e/nested", b"@one"),
    ("e/dangling", b"@nothing_there"),
    ("e/m", b"m u r\n"),
    ("e/m_open", b"m u r"),
    ("e/m_joined", b"m u \\"),
    ("e/bad", b"m u\n"),
    ("e/here/m", b"include ../m\n"),
    ("e/dir/b.conf", b"m u r\n"),
    ("e/dir/a.conf", b"m /^u$ \\1\n"),
    ("e/dir/.c.conf", b"nonsense\n"),
    ("e/dir/c", b"nonsense\n"),
];

/// What a file is about, and its lines.
type Edge = (&'static str, &'static [u8]);

const EDGES: [Edge; 110] = [
    ("byte order mark", "\u{feff}m u r\nm u x\n".as_bytes()),
    ("byte order mark before a comment", "\u{feff}# c\nm u x\n".as_bytes()),
    ("nothing", b""),
    ("one line end", b"\n"),
    ("no line end", b"m u r"),
    ("a line", b"m u r\n"),
    ("CR LF", b"m u r\r\n"),
    ("many CR", b"m u r\r\r\r\n"),
    ("bare CR", b"m u r\rm u x\r"),
    ("CR at the end of the file", b"m u r\r"),
    ("CR LF in turn", b"m u r\r\n\r\n\r\nm u x\r\n"),
    ("blanks", b" \t m \t u \t r \t \n"),
    ("form feed", b"m u\x0cr r\nm\x0bu r r\n"),
    ("no-break space", "m\u{a0}u r x\n".as_bytes()),
    ("two fields", b"m u\n"),
    ("one field", b"m\n"),
    ("four fields", b"m u r x\n"),
    ("many fields", b"m u r \"x y\" a,b @nothing_there\n"),
    ("a fourth field that is a file", b"m u r @e/one\n"),
    ("good and bad", b"m u r\nm u\n"),
    ("comment", b"# m u r\n#\n # m u r\nm u r # m u x\nm u x#m u all\n"),
    ("comment in a token", b"m u r#x\n"),
    ("comment in quotes", b"m \"u#v\" r\n"),
    ("comma first", b",m ,u ,r\n"),
    ("commas only", b",,,\nm u r\n"),
    ("comma last", b"m u r,\n"),
    ("comma after the map", b"m, u r\n"),
    ("comma between", b"m u,v r\n"),
    ("comma in quotes", b"m \"u,v\" r\n"),
    ("comma after quotes", b"m \"u\",r x\n"),
    ("two roles", b"m u r,x\n"),
    ("comma with blanks", b"m u r , x\n"),
    ("comma to comment", b"m u r, # x\n"),
    ("quotes", b"\"m\" \"u\" \"r\"\n"),
    ("quotes within", b"m u\"\" r\"\"\nm \"\"u x\n"),
    ("quotes in the middle", b"m a\"l\"l r\"\"\n"),
    ("quotes joined", b"m \"a\"\"l\"\"l\" r\n"),
    ("doubled quotes", b"m \"u\"\"v\" r\n"),
    ("tripled quotes", b"m \"\"\"u\"\"\" r\nm \"\"\"\" r\n"),
    ("doubled quotes without quotes", b"m u\"\"v r\n"),
    ("empty map", b"\"\" u r\n"),
    ("empty user", b"m \"\" r\n"),
    ("empty role", b"m u \"\"\n"),
    ("empty everything", b"\"\" \"\" \"\"\n"),
    ("quote not closed", b"m u \"r\n"),
    ("quote not closed, with a comment", b"m u \"r # x\nm u x\n"),
    ("quote not closed in the user", b"m \"u r\n"),
    ("quote not closed in the map", b"\"m u r\nm u r\n"),
    ("quote opened at the end", b"m u r\"\n"),
    ("quote and CR", b"m \"u\r\" r\n"),
    ("quoted blank", b"\"we ird\" \"u v\" r\n"),
    ("backslash", b"m u\\ r\nm u r\\\n"),
    ("backslash joins", b"m u \\\nr\n"),
    ("backslash joins a token", b"m u r\\\nx\n"),
    ("backslash joins in quotes", b"m \"u\\\n v\" r\n"),
    ("backslash and CR LF", b"m u \\\r\nr\n"),
    ("backslash and a blank", b"m u \\ \nr\n"),
    ("two backslashes", b"m u r\\\\\nx\n"),
    ("two backslashes and two ends", b"m u r\\\\\n\\\n\nm u x\n"),
    ("backslash lines", b"\\\n\\\n\\\nm u r\n"),
    ("backslash at the end of the file", b"m u r\\"),
    ("backslash and line end at the end of the file", b"m u r\\\n"),
    ("backslash ends a comment", b"# comment \\\nm u r\nm u x\n"),
    ("backslash before an empty line", b"m u r \\\n\nm u x\n"),
    ("backslash joins to a comment", b"m u r \\\n# x\n"),
    ("CR before a joined end", b"m u r\r\\\n\n"),
    ("all", b"m u all\n"),
    ("quoted all", b"m u \"all\"\n"),
    ("all with a late quote", b"m u a\"ll\"\n"),
    ("all with an early quote", b"m u \"\"all\n"),
    ("ALL", b"m u ALL\n"),
    ("all as a user", b"m all r\nall u r\n"),
    ("group", b"m u +readers\n"),
    ("quoted group", b"m u \"+readers\"\n"),
    ("group with a late quote", b"m u +\"readers\"\n"),
    ("group as a user", b"m +readers r\n+m u x\n"),
    ("group of a group", b"m u +writers\n"),
    ("group without a name", b"m u +\n"),
    ("group that is not there", b"m u +missing\n"),
    ("group that is a user", b"m u +direct\n"),
    ("group that the server fills", b"m u +pg_database_owner\nm u +pg_read_all_settings\n"),
    ("group with a capture", b"m /^(.*)$ +\\1\n"),
    ("pattern as a role", b"m u /^r\n"),
    ("quoted pattern as a role", b"m u \"/^r\"\n"),
    ("pattern as a role that is not one", b"m u /(\n"),
    ("pattern as a role with a capture", b"m /^(u)$ /\\1\n"),
    ("slash alone", b"m / r\nm u /\n"),
    ("pattern that is not one", b"m /( r\n"),
    ("capture", b"m /^(.*)$ \\1\n"),
    ("quoted capture", b"m /^(.*)$ \"\\1\"\n"),
    ("two captures", b"m /^(.)(.*)$ \\2\\1\n"),
    ("capture twice", b"m /^(.*)$ \\1\\1\n"),
    ("capture behind a backslash", b"m /^(.*)$ \\\\1\n"),
    ("no capture", b"m u r\nm /^u$ \\1\nm u x\n"),
    ("capture that took no part", b"m /^(x)?u$ \\1\nm u r\n"),
    ("capture of nothing", b"m /^()u$ \\1r\n"),
    ("capture without a pattern", b"m u \\1\n"),
    ("capture that is all", b"m /^(all)$ \\1\n"),
    ("capture that is a group", b"m /^(.*)$ \"\\1\"\n"),
    ("bytes", b"m \xff r\nm /^\xff$ x\n"),
    ("file as a user", b"m @e/one r\n"),
    ("file of two as a user", b"m @e/two r\n"),
    ("file with comments", b"m @e/lines r\n"),
    ("empty file as a user", b"m @e/empty u r\n"),
    ("file of a comment", b"m u @e/only_comment r\n"),
    ("file in a file", b"m @e/nested r\n"),
    ("file that is not there", b"m @e/nothing r\n"),
    ("file in a file that is not there", b"m @e/dangling r\n"),
    ("quoted file", b"m \"@e/one\" r\nm @\"e/one\" x\n"),
    ("at alone", b"m @ r\n"),
];

/// Those whose bytes are easier computed than written.
fn long_edges() -> Vec<(String, Vec<u8>)> {
    let mut edges = Vec::new();
    for bytes in [10_238, 10_239, 10_240, 10_241, 60_000] {
        let token = "n".repeat(bytes);
        edges.push((format!("a user of {bytes} bytes"), format!("m {token} r\nm u r\n").into()));
        edges
            .push((format!("a quoted role of {bytes} bytes"), format!("m u \"{token}\"\n").into()));
        edges.push((format!("a map of {bytes} bytes"), format!("{token} u r\nm u r\n").into()));
    }
    for bytes in [20_476, 20_477, 20_478, 20_479, 20_480, 40_958, 40_959] {
        for end in ["", "\n", "\r\n", "\nm u x\n"] {
            let comment = "c".repeat(bytes - "m u r #".len());
            let text = format!("m u r #{comment}{end}");
            edges.push((format!("a line of {bytes} bytes and {end:?}"), text.into()));
        }
    }
    edges
}

/// Those that include, which up to 15 are lines with a mistake.
const INCLUDES: [Edge; 40] = [
    ("include", b"include e/m\n"),
    ("include with a blank after", b"include e/m \t # comment\n"),
    ("include of what does not end its line", b"include e/m_open\nm u x\n"),
    ("include of what would join", b"include e/m_joined\nm u x\n"),
    ("include twice", b"include e/m\ninclude e/m\n"),
    ("include between", b"m /^u$ \\1\ninclude e/m\n"),
    ("include from a directory", b"include e/here/m\n"),
    ("include up and down", b"include e/here/../m\n"),
    ("include with dots", b"include ./e/./m\n"),
    ("include with slashes", b"include e//m\n"),
    ("include through what is not there", b"include e/nothing/../m\n"),
    ("include through a file", b"include e/one/../m\n"),
    ("include of what is not there", b"include e/nothing\n"),
    ("include without a name", b"include\n"),
    ("include of a blank", b"include \" \"\n"),
    ("include of what is bad", b"include e/bad\n"),
    ("include of oneself", b"include pg_ident.conf\n"),
    ("include with three fields", b"include u r\n"),
    ("include with four fields", b"include u r x\n"),
    ("include of two", b"include e/m,e/m\n"),
    ("include and a comma", b"include, e/m\n"),
    ("two words and include", b"include,m e/m\n"),
    ("word and include", b"x,include e/m\n"),
    ("quoted include", b"\"include\" e/m\n"),
    ("INCLUDE", b"INCLUDE e/m\n"),
    ("include with a file's words", b"include @e/one\n"),
    ("include by a quoted name", b"include \"e/m\"\n"),
    ("include by a name in pieces", b"include \"e\"/m\n"),
    ("include joined", b"include \\\n e/m\n"),
    ("include and bad lines", b"include e/m\nm u\n"),
    ("include if it exists", b"include_if_exists e/m\n"),
    ("include if it does not exist", b"include_if_exists e/nothing\nm u r\n"),
    ("include if it exists behind a file", b"include_if_exists e/one/x\n"),
    ("include if what is bad exists", b"include_if_exists e/bad\n"),
    ("include a directory", b"include_dir e/dir\n"),
    ("include a directory with a slash", b"include_dir e/dir/\n"),
    ("include a directory that is a file", b"include_dir e/m\n"),
    ("include a directory that is not there", b"include_dir e/nothing\n"),
    ("include a directory of a blank", b"include_dir \" \"\n"),
    ("include a directory without map files", b"include_dir e/here\nm u r\n"),
];

/// What we refuse on purpose, with words of the refusal, although a server may accept it: it would
/// not mean what it says there, or nobody would write it.
const REFUSED_HERE: [(&str, &[u8], &str); 8] = [
    ("a NUL byte, which hides the rest of the line", b"m u r\0x\n", "NUL"),
    ("a NUL byte alone", b"m u r\n\0\n", "NUL"),
    // From 14 on a server logs that it could not read the directory, and goes on as if it was empty.
    ("a directory as words", b"m u r\nm @e r\n", "could not open"),
    ("a directory to include", b"m u r\ninclude e\n", "could not open"),
    ("a directory to include, which is this one", b"include \"\"\n", "could not open"),
    ("a directory to include if it exists", b"m u r\ninclude_if_exists e\n", "could not open"),
    ("a file whose name is no text", b"m @e/\xff r\n", "not UTF-8"),
    ("a file whose name is no text to include", b"include e/\xff\n", "not UTF-8"),
];

#[test]
fn what_a_server_would_misread_is_refused() {
    for major in MAJORS {
        let oracle = Oracle::start(major, &MAPS, "");
        for (path, content) in FILES {
            oracle.server.write(Path::new(path), content);
        }
        let mut accepted = Vec::new();
        for (title, text, words) in REFUSED_HERE {
            if matches!(oracle.server.load(text), Loaded::Whole) {
                accepted.push(title);
            }
            let mistakes = oracle.ours().expect_err(title);
            // Up to 15 `include` is no more than a word, and such a line lacks another.
            let is_line = major < 16 && text.windows(7).any(|word| word == b"include");
            let words = if is_line { "missing entry" } else { words };
            let listed = listed(&mistakes);
            assert!(listed.contains(words), "PostgreSQL {major}, {title}: {listed}");
        }
        println!("PostgreSQL {major} accepts {}", accepted.join("; "));
        let twin = oracle.ours_of(b"m u r\nm @e/one r\n");
        assert!(twin.is_ok(), "PostgreSQL {major}: what is like these is accepted");
    }
}

#[test]
fn the_edges_of_the_language_are_read_alike() {
    std::thread::scope(|scope| {
        for major in MAJORS {
            scope.spawn(move || compare_edges(major));
        }
    });
}

fn compare_edges(major: u32) {
    let sql = if major >= 16 { [ROLES_SQL, ROLES_SQL_16].concat() } else { ROLES_SQL.to_owned() };
    let oracle = Oracle::start(major, &MAPS, &sql);
    prepare_rows(&oracle);
    for (path, content) in FILES {
        oracle.server.write(Path::new(path), content);
    }
    let short = EDGES.iter().chain(&INCLUDES);
    let short = short.map(|(title, text)| ((*title).to_owned(), text.to_vec()));
    let (mut whole, mut refused) = (0, 0);
    for (title, text) in short.chain(long_edges()) {
        if compare_edge(&oracle, &title, &text) {
            whole += 1;
        } else {
            refused += 1;
        }
    }
    println!("PostgreSQL {major}: {whole} files are read alike, {refused} refused");
    assert!(whole > 60 && refused > 20, "PostgreSQL {major}: {whole} read, {refused} refused");
}

/// Whether both accept the file; if so they also decide alike.
fn compare_edge(oracle: &Oracle, title: &str, text: &[u8]) -> bool {
    let major = oracle.server.major;
    let short = shown(&text[..text.len().min(200)]);
    let place = format!("PostgreSQL {major}, {title}: {short}");
    let loaded = oracle.server.load(text);
    let ours = match (&loaded, oracle.ours()) {
        (Loaded::Whole, Ok(ours)) => ours,
        (Loaded::Refused(_), Err(_)) => return false,
        (Loaded::Whole, Err(mistakes)) => panic!("{place}: only we refuse\n{}", listed(&mistakes)),
        (Loaded::Refused(words), Ok(_)) => panic!("{place}: only the server refuses\n{words}"),
    };
    compare_rows(oracle, &ours, text);
    let mut questions = Vec::new();
    for map in 0..MAPS.len() {
        let pairs = USERS.iter().flat_map(|user| ROLES.iter().map(move |role| (user, role)));
        questions.extend(pairs.map(|(user, role)| Asked {
            map,
            user: user.to_vec(),
            role: role.to_vec(),
        }));
    }
    // All that we allow, and a few of the others, which are not the same for each file.
    let mut index = text.len();
    questions.retain(|asked| {
        index += 1;
        index.is_multiple_of(400) || agree(&Said::Allowed, &oracle.decide(&ours, asked))
    });
    for (asked, said) in questions.iter().zip(oracle.ask(&questions)) {
        let decision = oracle.decide(&ours, asked);
        assert!(
            agree(&said, &decision),
            "{place}: {} as {} by {}: the server says {said:?}, we say {decision:?}",
            shown(&asked.user),
            shown(&asked.role),
            oracle.name(asked.map),
        );
    }
    true
}

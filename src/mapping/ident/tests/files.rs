//! Maps of several files.

use std::collections::BTreeMap;
use std::io;

use super::*;

/// Files by path, as a file system has them; a path that ends in `/` is a directory that holds
/// nothing, and one of no bytes at all cannot be read.
#[derive(Debug)]
struct Disk(BTreeMap<String, Vec<u8>>);

const UNREADABLE: &[u8] = b"unreadable";

impl Disk {
    fn of(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| ((*path).to_owned(), text.as_bytes().to_vec());
        Self(files.iter().map(file).collect())
    }
}

impl MapFiles for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let path = path.to_str().unwrap();
        match self.0.get(path) {
            Some(bytes) if bytes == UNREADABLE => Err(io::ErrorKind::PermissionDenied.into()),
            Some(bytes) => Ok(bytes.clone()),
            None if self.0.contains_key(&format!("{path}/")) => {
                Err(io::ErrorKind::IsADirectory.into())
            }
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let directory = directory.to_str().unwrap();
        let prefix = match directory.trim_end_matches('/') {
            "." => String::new(),
            directory => format!("{directory}/"),
        };
        let inside = self.0.keys().rev().filter_map(|path| path.strip_prefix(&prefix));
        let names: Vec<_> = inside.filter(|name| !name.contains('/')).map(OsString::from).collect();
        if names.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(names) }
    }
}

fn load(major: u32, files: &[(&str, &str)]) -> Result<IdentMap, Vec<String>> {
    let (main, _) = files[0];
    let map = IdentMap::load(major.try_into().unwrap(), Path::new(main), &Disk::of(files));
    map.map_err(|mistakes| mistakes.iter().map(MapMistake::to_string).collect())
}

/// The system users of the map `m`, each with its place, in the order in which they are asked.
fn users(map: &IdentMap) -> Vec<String> {
    let rules = map.rules(&"m".parse().unwrap()).collect::<Vec<_>>().into_iter();
    let user = |rule: RuleView<'_>| match rule.system_user() {
        SystemUserView::Literal(name) => {
            format!("{} {}", rule.reference(), String::from_utf8_lossy(name))
        }
        SystemUserView::Pattern(_) => panic!("no patterns here"),
    };
    rules.map(user).collect()
}

/// The first file is the main one. What is read from its text alone is the same.
#[track_caller]
fn check(majors: &[u32], files: &[(&str, &str)], expected: &[&str]) {
    for major in majors {
        let map = load(*major, files).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
        assert_eq!(users(&map), expected, "{major}");
        let again = IdentMap::load(map.dialect(), map.text().main(), map.text()).unwrap();
        assert_eq!(users(&again), expected, "{major}");
        assert_eq!(again.text(), map.text());
        assert_eq!(again.revision(), map.revision());
    }
}

/// Each expected text is the beginning of a mistake.
#[track_caller]
fn check_refused(majors: &[u32], files: &[(&str, &str)], expected: &[&str]) {
    for major in majors {
        let found = load(*major, files).expect_err("the files have mistakes");
        let same = found.len() == expected.len()
            && found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected));
        assert!(same, "{major}\nfound    {found:#?}\nexpected {expected:#?}");
    }
}

const ALL: [u32; 6] = [13, 14, 15, 16, 17, 18];
const OLD: [u32; 3] = [13, 14, 15];
const NEW: [u32; 3] = [16, 17, 18];

#[test]
fn included_lines_stand_in_the_place_of_the_directive() {
    let files = [
        ("f", "m a r\ninclude x\nm d r\n"),
        ("x", "# nothing\nm b r\n \"include\" 'y'\n"),
        ("'y'", "m c r"),
    ];
    check(&NEW, &files, &["f:1 a", "x:2 b", "'y':1 c", "f:3 d"]);
    check_refused(&OLD, &files, &["f:2:1: missing entry"]);
}

#[test]
fn a_path_begins_at_the_file_that_names_it() {
    let files = [
        ("etc/f", "include one/x\nm a @../lists/one\n"),
        ("etc/one/x", "include y\ninclude ../two/./z\ninclude /srv/w"),
        ("etc/one/y", "m y r"),
        ("etc/two/z", "m z r"),
        ("/srv/w", "include v"),
        ("/srv/v", "m v @l"),
        ("/srv/l", "r"),
        ("lists/one", "r"),
    ];
    check(&NEW, &files, &["one/y:1 y", "two/z:1 z", "/srv/v:1 v", "f:2 a"]);
    let map = load(16, &files).unwrap();
    let paths: Vec<_> = map.text().files().map(|(path, _)| path.to_owned()).collect();
    assert_eq!(
        paths,
        ["f", "one/x", "one/y", "two/z", "/srv/w", "/srv/v", "/srv/l", "../lists/one"]
    );
    let elsewhere = files.map(|(path, text)| match path.strip_prefix("etc/") {
        Some(path) => (format!("home/map/{path}"), text),
        None if path.starts_with('/') => (path.to_owned(), text),
        None => (format!("home/{path}"), text),
    });
    let elsewhere: Vec<_> = elsewhere.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    assert_eq!(load(16, &elsewhere).unwrap().revision(), map.revision());
}

#[test]
fn only_a_line_of_two_fields_includes() {
    check(&NEW, &[("f", "include m r\nm a r")], &["f:2 a"]);
    check(&ALL, &[("f", "m include r")], &["f:1 include"]);
    check_refused(&ALL, &[("f", "include")], &["f:1:8: missing entry"]);
    check_refused(&ALL, &[("f", "m include")], &["f:1:10: missing entry"]);
    let files = [("f", "include x, y, z\nm a r"), ("x", "m x r")];
    check(&NEW, &files, &["x:1 x", "f:2 a"]);
    let files = [("f", "include,m @l"), ("l", "x y\nz"), ("x", "m x r")];
    check(&NEW, &files, &["x:1 x"]);
}

#[test]
fn a_line_that_names_several_files_is_told_to_include_the_first_alone() {
    let half_included = |text| {
        let files = [("f", text), ("l", "x y"), ("x", "m x r\n\ninclude_if_exists y,z\n")];
        let map = load(16, &files).unwrap().shown_at(|file| format!("shown/{file}"));
        map.half_included().map(|place| place.to_string()).collect::<Vec<_>>()
    };
    for text in ["include x, y", "include @l", "include,m x", "\ninclude_if_exists x,\"y\""] {
        let line = if text.starts_with('\n') { "shown/f:2" } else { "shown/f:1" };
        assert_eq!(half_included(text), [line, "shown/x:3"], "{text}");
    }
    assert_eq!(half_included("include x\ninclude_if_exists \"x,y\""), ["shown/x:3"]);
    assert_eq!(half_included("m a r"), [""; 0]);
}

#[test]
fn a_file_that_may_be_absent_may_be_absent_and_nothing_else() {
    check(&NEW, &[("f", "include_if_exists x\nm a r")], &["f:2 a"]);
    check(&NEW, &[("f", "include_if_exists x"), ("x", "m a r")], &["x:1 a"]);
    let absent = ["f:1:19: could not open the file `x`: permission denied"];
    check_refused(&NEW, &[("f", "include_if_exists x"), ("x", "unreadable")], &absent);
    let is_one = ["f:1:19: could not open the file `x`: it is a directory"];
    check_refused(&NEW, &[("f", "include_if_exists x"), ("x/", "")], &is_one);
    let missing = ["f:2:9: could not open the file `x`: no such file or directory"];
    check_refused(&NEW, &[("f", "include_if_exists x\ninclude x")], &missing);
    let missing = ["f:1:3: could not open the file `x`: no such file or directory"];
    check_refused(&ALL, &[("f", "m @x r\nm b r")], &missing);
}

#[test]
fn a_directory_gives_its_conf_files_in_the_order_of_their_bytes() {
    let files = [
        ("f", "include_dir d\nm z r"),
        ("d/b.conf", "m b r"),
        ("d/B.conf", "m B r"),
        ("d/10.conf", "m 10 r"),
        ("d/9.conf", "m 9 r"),
        ("d/.hidden.conf", "m hidden r"),
        ("d/.conf", "broken"),
        ("d/c.conf~", "broken"),
        ("d/e.CONF", "broken"),
        ("d/readme", "broken"),
        ("d/sub/x.conf", "broken"),
        ("d/\u{e9}.conf", "include_dir ../e"),
        ("e/a.conf", "include b.txt"),
        ("e/b.txt", "m e r"),
    ];
    let order =
        ["d/10.conf:1 10", "d/9.conf:1 9", "d/B.conf:1 B", "d/b.conf:1 b", "e/b.txt:1 e", "f:2 z"];
    check(&NEW, &files, &order);
    let here = [("f", "include_dir ."), ("a.conf", "m a r")];
    check(&NEW, &here, &["a.conf:1 a"]);
    check(&NEW, &[("d/f", "include_dir ."), ("d/a.conf", "m a r")], &["a.conf:1 a"]);
    check(&NEW, &[("f", "include_dir d"), ("d/x", "")], &[]);
    let missing = ["f:1:13: could not open the directory `d`: no such file or directory"];
    check_refused(&NEW, &[("f", "include_dir d")], &missing);
    let empty = ["f:1:13: the name of the directory is empty"];
    check_refused(&NEW, &[("f", "include_dir \" \t\"")], &empty);
}

#[test]
fn an_at_sign_puts_the_tokens_of_a_file_into_the_field() {
    let files = [("f", "m @user r\n@m b @l\n"), ("user", "# one\n\n a\n"), ("m", "m"), ("l", "r")];
    check(&ALL, &files, &["f:1 a", "f:2 b"]);
    let files = [("f", "m @user r"), ("user", "a b"), ("none", " # none")];
    check_refused(&ALL, &files, &["user:1:3: multiple values in one field"]);
    for values in ["a b", "a,b", "a\nb", "\"Alice Smith\"", "\"a,b\""] {
        let disk = Disk::of(&[("f", "m @user r"), ("user", values)]);
        let found = IdentMap::load(Dialect::default(), Path::new("f"), &disk);
        assert_eq!(found.is_ok(), values.starts_with('"'), "{values}");
        if let Err(mistakes) = found {
            let hint =
                "a field has one value, also from an `@file`: write a line of the map for each";
            assert!(mistakes[0].hint.starts_with(hint), "{values}: {}", mistakes[0].hint);
        }
    }
    let files = [("f", "m @user r"), ("user", "@more\n@more,"), ("more", "a")];
    check_refused(&ALL, &files, &["more:1:1: multiple values in one field"]);
    let files = [("f", "m @\"a list\", r"), ("a list", "a")];
    check_refused(&ALL, &files, &["f:1:14: missing entry"]);
    check(&ALL, &[("f", "m @\"a list\" r"), ("a list", "a")], &["f:1 a"]);
    let files = [("f", "@none m @none @user r @none"), ("user", "a"), ("none", " # none\n\n")];
    check(&ALL, &files, &["f:1 a"]);
    check_refused(&ALL, &[("f", "@none m a"), ("none", "")], &["f:1:10: missing entry"]);
    check(&ALL, &[("f", "m \"@user\" r\nm @ r")], &["f:1 @user", "f:2 @"]);
}

#[test]
fn what_does_not_count_is_read_too() {
    check(&ALL, &[("f", "m a r @x"), ("x", "1 2 3")], &["f:1 a"]);
    let missing = ["f:1:7: could not open the file `x`"];
    check_refused(&ALL, &[("f", "m a r @x")], &missing);
    check(&ALL, &[("f", "m a r # @x")], &["f:1 a"]);
}

#[test]
fn a_list_may_include_where_lines_may() {
    let files = [("f", "m @l r"), ("l", "include x"), ("x", "a")];
    check(&NEW, &files, &["f:1 a"]);
    check_refused(&OLD, &files, &["l:1:9: multiple values in one field"]);
    let files = [("f", "m @l r"), ("l", "include x\ninclude_if_exists y"), ("x", "a b c")];
    check_refused(&NEW, &files, &["x:1:3: multiple values in one field"]);
}

#[test]
fn keywords_and_patterns_of_a_list_are_what_they_are_elsewhere() {
    let map = load(16, &[("f", "m @u @r"), ("u", "/^a.$"), ("r", "all")]).unwrap();
    assert_eq!(ask(&map, "m", "ab", "r"), Line(1));
    let map = load(16, &[("f", "m @u @r"), ("u", "\"/^a.$\""), ("r", "\"all\"")]).unwrap();
    assert_eq!(ask(&map, "m", "ab", "r"), No);
    assert_eq!(ask(&map, "m", "ab", "all"), Line(1));
    let found = load(16, &[("f", "m @u r"), ("u", "\n \"/^(a\"")]).unwrap_err();
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("u:2:"), "{found:?}");
}

#[test]
fn every_mistake_of_every_file_is_told_with_its_place() {
    let files = [
        ("f", "m a\ninclude x\ninclude none\ninclude x\nm b r,s\n"),
        ("x", "m c\nm d r\nm @y r\ninclude_dir \"\""),
        ("y", "z \0"),
    ];
    check_refused(
        &NEW,
        &files,
        &[
            "f:1:4: missing entry",
            "x:1:4: missing entry",
            "y:1:3: a NUL byte",
            "x:4:13: the name of the directory is empty",
            "f:3:9: could not open the file `none`",
            "f:5:7: multiple values",
        ],
    );
}

#[test]
fn files_nest_ten_deep_and_a_circle_ends_there() {
    let chain = |depth: usize| -> Vec<(String, String)> {
        let mut files = vec![("f".to_owned(), "include 1".to_owned())];
        files.extend((1..depth).map(|file| (file.to_string(), format!("include {}", file + 1))));
        files.push((depth.to_string(), "m a r".to_owned()));
        files
    };
    let load_chain = |depth| {
        let files = chain(depth);
        let files: Vec<_> = files.iter().map(|(path, text)| (&**path, &**text)).collect();
        load(16, &files)
    };
    assert_eq!(users(&load_chain(10).unwrap()), ["10:1 a"]);
    let deep = "10:1:9: could not open the file `11`: maximum nesting depth exceeded";
    assert_eq!(load_chain(11).unwrap_err(), [deep]);
    let circle = "f:1:9: could not open the file `f`: maximum nesting depth exceeded";
    check_refused(&NEW, &[("f", "include f")], &[circle]);
    check_refused(
        &NEW,
        &[("f", "include f\ninclude_if_exists f")],
        &[circle, "f:2:19: could not open the file `f`: maximum nesting depth exceeded"],
    );
    let circle = "f:1:3: could not open the file `f`: maximum nesting depth exceeded";
    check_refused(&ALL, &[("f", "m @f @f")], &[circle]);
    check_refused(
        &NEW,
        &[("d/f.conf", "include_dir .")],
        &["f.conf:1:13: could not open the file `d/f.conf`"],
    );
}

#[test]
fn many_files_and_many_lines_end_in_a_mistake() {
    let twice = "include f\n".repeat(100);
    let found = load(16, &[("f", &twice)]).unwrap_err();
    assert!(found.len() <= 101, "{}", found.len());
    let many = "include x\n".repeat(10_000);
    let files = [("f", many.as_str()), ("x", "")];
    check_refused(&NEW, &files, &["f:10000:9: more than 10000 files are included"]);
    let some = "include x\n".repeat(9_999);
    check(&NEW, &[("f", some.as_str()), ("x", "")], &[]);
    let large = format!("#{}", "x".repeat(TEXT_BYTES / 2));
    let files = [("f", "include x\ninclude_if_exists x"), ("x", large.as_str())];
    check_refused(&NEW, &files, &["f:2:19: with this file the map has more than 8388608"]);
    let lines = "m a r\n".repeat(RULES / 100);
    let read = |times: usize| {
        load(16, &[("f", "include x\n".repeat(times).as_str()), ("x", lines.as_str())])
    };
    assert_eq!(users(&read(100).unwrap()).len(), RULES);
    assert_eq!(read(101).unwrap_err(), ["x:1:1: the map has more than 200000 lines"]);
}

#[test]
fn a_file_with_a_name_that_is_no_text_is_refused() {
    let disk = Disk(BTreeMap::from([("f".to_owned(), b"include x\xE9".to_vec())]));
    let found = IdentMap::load(Dialect::default(), Path::new("f"), &disk).unwrap_err();
    assert_eq!(found[0].to_string(), "f:1:9: the name of a file is not UTF-8");
    let files = [("f", "include_dir d"), ("d/a\nb.conf", "m a r")];
    check_refused(
        &NEW,
        &files,
        &["f:1:13: could not open the directory `d`: the name of a file in"],
    );
    let long = format!("include {}", "x".repeat(1024));
    check_refused(&NEW, &[("f", &long)], &["f:1:9: the path is too long"]);
}

/// Files that cannot be opened, for the reason that their names say.
struct Closed(&'static str);

impl Closed {
    const REASONS: [(&str, io::ErrorKind); 6] = [
        ("missing", io::ErrorKind::NotFound),
        ("locked", io::ErrorKind::PermissionDenied),
        ("directory", io::ErrorKind::IsADirectory),
        ("pipe", io::ErrorKind::InvalidInput),
        ("large", io::ErrorKind::FileTooLarge),
        ("file", io::ErrorKind::NotADirectory),
    ];

    fn error(path: &Path) -> io::Error {
        let name = path.to_str().unwrap();
        let reason = Self::REASONS.iter().find(|(reason, _)| name.contains(reason));
        reason.unwrap_or_else(|| panic!("{name} says no reason")).1.into()
    }
}

impl MapFiles for Closed {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == Path::new("etc/f") { Ok(self.0.into()) } else { Err(Self::error(path)) }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        Err(Self::error(directory))
    }
}

#[test]
fn a_directory_in_the_place_of_the_map_is_told_by_its_name() {
    for (path, file) in [("etc/maps", "maps"), ("etc/maps/.", "maps"), (".", "."), ("etc/..", "..")]
    {
        let disk = Disk(BTreeMap::from([(format!("{path}/"), Vec::new())]));
        let found = IdentMap::load(Dialect::default(), Path::new(path), &disk);
        let [mistake] = &found.unwrap_err()[..] else { panic!("{path}: one mistake") };
        assert_eq!(mistake.file, file);
        assert!(mistake.message.ends_with("it is a directory"), "{}", mistake.message);
        assert_eq!(mistake.hint, "name the map file in it, such as `pg_ident.conf`");
    }
    check(&ALL, &[("f", "m a r")], &["f:1 a"]);
}

#[test]
fn what_cannot_be_opened_is_named_with_the_reason_and_what_helps_against_that() {
    for (line, message, hint) in [
        ("include missing", "file `etc/missing`: no such file", "a relative path begins"),
        ("include a/../missing", "file `etc/missing`: no such file", "a relative path begins"),
        ("include /missing", "file `/missing`: no such file", ""),
        ("m @locked r", "file `etc/locked`: permission denied", "let the broker's user read it"),
        ("include_if_exists locked", "file `etc/locked`: permission denied", "let the broker's"),
        ("include_if_exists file/x", "file `etc/file/x`: not a directory", "its path leads"),
        ("include directory", "file `etc/directory`: it is a directory", "name a file in it"),
        ("include pipe", "file `etc/pipe`: it is no regular file", "name a file, no device"),
        ("include large", "file `etc/large`: it has more than 8388608", "is it the right file?"),
        ("include_dir missing", "directory `etc/missing`: no such", "a relative path begins"),
        ("include_dir /missing", "directory `/missing`: no such file", ""),
        ("include_dir locked", "directory `etc/locked`: permission denied", "let the broker's"),
        ("include_dir file", "directory `etc/file`: not a directory", "`include` reads a file"),
    ] {
        let found = IdentMap::load(Dialect::default(), Path::new("etc/f"), &Closed(line));
        let [mistake] = &found.unwrap_err()[..] else { panic!("{line}: one mistake") };
        let message = format!("could not open the {message}");
        assert!(mistake.message.starts_with(&message), "{line}: {}", mistake.message);
        let fits =
            if hint.is_empty() { mistake.hint.is_empty() } else { mistake.hint.starts_with(hint) };
        assert!(fits, "{line}: {}", mistake.hint);
    }
    let found = IdentMap::load(Dialect::default(), Path::new("/missing/f"), &Closed(""));
    let [mistake] = &found.unwrap_err()[..] else { panic!("one mistake") };
    let message = "f:1:1: could not open the file `/missing/f`: no such file or directory";
    assert_eq!((mistake.to_string().as_str(), mistake.hint.as_str()), (message, ""));
}

#[test]
fn the_name_of_what_cannot_be_opened_neither_steers_a_terminal_nor_fills_it() {
    let told = |name: &str| {
        let found = load(16, &[("f", format!("include \"{name}\"").as_str())]).unwrap_err();
        found.concat()
    };
    let reason = "no such file or directory";
    let steering = told("x\u{1b}[31m");
    assert_eq!(steering, format!("f:1:9: could not open the file `x\\u{{1b}}[31m`: {reason}"));
    let long = told(&format!("/{}", "x/".repeat(20_000)));
    assert!(long.chars().count() < 400 && long.ends_with(&format!("…`: {reason}")), "{long}");
}

#[test]
fn a_directory_is_no_absent_file_even_if_it_was_listed_before() {
    let text = |path: &str| format!("include_dir /d/\ninclude_if_exists {path}");
    let files =
        |text: &str| load(16, &[("f", text), ("/d/a.conf", "m a r"), ("/d/", "")]).map(drop);
    assert_eq!(files(&text("/d/none")), Ok(()));
    let told = files(&text("/d/")).unwrap_err();
    assert_eq!(told, ["f:2:19: could not open the file `/d/`: it is a directory"]);
}

#[test]
fn a_revision_is_other_files_other_names_or_another_release() {
    let of = |files: &[(&str, &str)]| load(16, files).unwrap().revision().clone();
    let one = [("f", "include x"), ("x", "m a r")];
    assert_ne!(of(&one), of(&[("f", "include x"), ("x", "m b r")]));
    assert_ne!(of(&one), of(&[("f", "include y"), ("y", "m a r")]));
    assert_ne!(of(&one), of(&[("f", "m a r")]));
    assert_ne!(of(&one), load(17, &one).unwrap().revision().clone());
    let absent = of(&[("f", "include_if_exists x")]);
    assert_ne!(absent, of(&[("f", "include_if_exists x"), ("x", "")]));
    // (echo postgres 16; sha256sum < f; sha256sum x) | sha256sum
    let digest = |text: &str| {
        data_encoding::HEXLOWER
            .encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref())
    };
    let manifest = |main: &str| {
        format!("postgres 16\n{}  {main}\n{}  x\n", digest("include x"), digest("m a r"))
    };
    assert_eq!(of(&one).as_str(), digest(&manifest("-")));
    // Whatever the main file is called, and where it lies.
    for main in ["g", "-", "f.new"] {
        assert_eq!(of(&one), of(&[(main, "include x"), ("x", "m a r")]), "{main}");
    }
    assert_eq!(of(&one), of(&[("new/f", "include x"), ("new/x", "m a r")]));
    // Stores of before have it by its name too.
    let formerly = MapRevision::from_hex(&digest(&manifest("f"))).unwrap();
    let map = load(16, &one).unwrap();
    assert!(map.is_revision(&formerly) && map.is_revision(&of(&one)));
    assert_eq!(*map.called(&formerly).revision(), formerly);
    let other = load(16, &[("g", "include x"), ("x", "m a r")]).unwrap();
    assert!(!other.is_revision(&formerly));
    assert_eq!(*other.called(&formerly).revision(), of(&one));
}

#[test]
fn a_line_of_the_main_file_is_the_same_by_whatever_name_that_is_read() {
    let map = load(16, &[("f", "include x\nm a r"), ("x", "m b r")]).unwrap();
    assert!(map.is_same_file("f", "f") && map.is_same_file("f", "g"));
    assert!(map.is_same_file("x", "x"));
    assert!(!map.is_same_file("f", "x") && !map.is_same_file("x", "f"));
    assert!(!map.is_same_file("x", "y"));
}

#[test]
fn the_beginning_of_a_revision_may_be_written_in_capitals() {
    let digits = |text: &str| RevisionBeginning::from_hex(text).map(|one| one.to_string());
    assert_eq!(digits("0123ABCDEF"), Some("0123abcdef".to_owned()));
    assert_eq!(digits("0123abcdef"), digits("0123ABCdef"));
    for no in ["0123ABCG", "0123ABC", &"A".repeat(65)] {
        assert_eq!(digits(no), None, "{no}");
    }
}

#[test]
fn a_stored_revision_is_legible_and_reads_back() {
    let mut disk = Disk::of(&[("f", "include_dir d\ninclude_if_exists x"), ("d/a.conf", "m a r")]);
    disk.0.insert("d/b.conf".to_owned(), b"m \xE9 r".to_vec());
    let map = IdentMap::load(Dialect::default(), Path::new("f"), &disk).unwrap();
    let json = serde_json::to_value(map.text()).unwrap();
    let expected = serde_json::json!({ "main": "f", "read": [
        { "file": "f", "text": "include_dir d\ninclude_if_exists x" },
        { "directory": "d/", "names": ["a.conf", "b.conf"] },
        { "file": "d/a.conf", "text": "m a r" },
        { "file": "d/b.conf", "base64": "bSDpIHI=" },
        { "missing": "x" },
    ]});
    assert_eq!(json, expected);
    let text: MapText = serde_json::from_value(json).unwrap();
    assert_eq!(&text, map.text());
    let again = IdentMap::load(map.dialect(), text.main(), &text).unwrap();
    assert_eq!(again.revision(), map.revision());
    // What is not stored is a mistake, not an absent file.
    let part: MapText = serde_json::from_value(serde_json::json!({ "main": "f", "read": [
        { "file": "f", "text": "include_if_exists x" },
    ]}))
    .unwrap();
    let found = IdentMap::load(map.dialect(), part.main(), &part).unwrap_err();
    assert!(found[0].message.ends_with("it is no part of the stored revision"), "{}", found[0]);
}

/// A few files of random lines that include one another.
fn disks() -> impl Strategy<Value = Disk> {
    const NAME: &str = "(f|x|d/a.conf|d/b.conf|y)";
    let line = prop_oneof![
        3 => r#"m "?[ab]{1,2}"? (r|all|\+g|@y)"#.prop_map(|line| line),
        1 => ("(\\.\\./)?", NAME).prop_map(|(up, name)| format!("include {up}{name}")),
        1 => NAME.prop_map(|name| format!("include_if_exists {name}")),
        1 => r"include_dir (d|\.|\.\./d)".prop_map(|line| line),
        1 => NAME.prop_map(|name| format!("m @{name} r")),
        1 => r##"[m/^$()"#@, a\\\r\n]{0,12}"##.prop_map(|line| line),
    ];
    let text = proptest::collection::vec(line, 0..4).prop_map(|lines| lines.join("\n"));
    proptest::collection::btree_map(NAME, text, 1..5).prop_map(|files| {
        let mut disk =
            Disk(files.into_iter().map(|(path, text)| (path, text.into_bytes())).collect());
        disk.0.entry("f".to_owned()).or_insert_with(|| b"include_dir d\nm a r".to_vec());
        disk
    })
}

proptest! {
    #[test]
    fn what_was_read_makes_the_same_map_again(disk in disks(), major in 13_u32..=18) {
        let dialect = Dialect::try_from(major).unwrap();
        let Ok(map) = IdentMap::load(dialect, Path::new("f"), &disk) else { return Ok(()) };
        let stored = serde_json::to_string(map.text()).unwrap();
        let text: MapText = serde_json::from_str(&stored).unwrap();
        let again = IdentMap::load(dialect, text.main(), &text).unwrap();
        prop_assert_eq!(again.revision(), map.revision());
        prop_assert_eq!(again.text(), map.text());
        let lines = |map: &IdentMap| -> Vec<String> {
            let rules = map.map_names().flat_map(|name| map.rules(name));
            rules.map(|rule| format!("{} {}", rule.reference(), rule.text())).collect()
        };
        prop_assert_eq!(lines(&again), lines(&map));
    }
}

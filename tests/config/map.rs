//! The map as the configuration names it: which release reads it, and which files.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use pgbridge::config::{Config, MapDisk};
use pgbridge::mapping::{Case, Dialect, IdentMap};

use super::{GOOD, HOST, LDAP_MAP, MAP, Office, with};

const FILE: &str = "file = \"pg_ident.conf\"";

fn major(config: &Config) -> u32 {
    config.policy.map.dialect().major()
}

#[test]
fn the_map_is_read_as_its_section_says_or_as_the_oldest_cluster_or_as_16() {
    let office = Office::new();
    let config = office.good(GOOD);
    assert_eq!((major(&config), config.clusters[0].postgres), (16, None));
    let section = |text: &str, postgres: u32| {
        let line = format!("{FILE}\npostgres = {postgres}");
        text.replacen(FILE, &line, 1)
    };
    assert_eq!(major(&office.good(&section(GOOD, 13))), 13);
    let old = with(HOST, &format!("{HOST}\npostgres = 14"));
    let config = office.good(&old);
    assert_eq!(major(&config), 14);
    assert_eq!(config.clusters[0].postgres.map(Dialect::major), Some(14));
    assert_eq!(major(&office.good(&section(&old, 18))), 18);
    let (head, cluster) = old.split_at(old.find("[[cluster]]").expect("there is one"));
    let newer = cluster.replace("orders", "reports").replace("= 14", "= 17");
    let newer = newer.replace("reports.password", "orders.password");
    let unknown = newer.replace("postgres = 17\n", "").replace("\"reports", "\"more");
    for text in [format!("{head}{newer}{cluster}{unknown}"), format!("{old}{unknown}{newer}")] {
        assert_eq!(major(&office.good(&text)), 14, "{text}");
    }
}

#[test]
fn a_line_means_what_it_means_to_the_release() {
    let office = Office::new();
    office.put("pg_ident.conf", &format!("{MAP}corp bob \\\norders_read\n"), 0o644);
    office.good(&with(FILE, &format!("{FILE}\npostgres = 14")));
    let told = office.refused(&with(FILE, &format!("{FILE}\npostgres = 13")));
    assert!(told.starts_with("pg_ident.conf:4:12: missing entry"), "{told}");
}

#[test]
fn case_is_left_out_where_the_section_says_so() {
    let office = Office::new();
    let cases = |text: &str| {
        let policy = office.good(text).policy;
        (policy.ways.values().map(|maps| maps.case).collect::<Vec<_>>(), policy.access.case)
    };
    assert_eq!(cases(GOOD), (vec![Case::Sensitive], Case::Sensitive));
    let way = with(LDAP_MAP, &format!("{LDAP_MAP}caseins_users = true\n"));
    assert_eq!(cases(&way), (vec![Case::Insensitive], Case::Sensitive));
    let access = with("map = \"pgbridge\"", "map = \"pgbridge\"\ncaseins_users = true");
    assert_eq!(cases(&access), (vec![Case::Sensitive], Case::Insensitive));
}

/// An office whose map stands in a directory of its own, with another beside it.
fn office_with_directories() -> Office {
    let office = Office::new();
    for directory in ["maps", "maps/conf.d", "maps/conf.d/not.conf"] {
        fs::create_dir(office.0.join(directory)).expect("a directory");
    }
    office.put("maps/main.conf", "include_dir conf.d\ninclude more\n", 0o644);
    office.put("maps/more", "corp bob @roles\n", 0o644);
    office.put("maps/roles", "orders_read # or another\n", 0o644);
    office.put("maps/conf.d/b.conf", "pgbridge alice auditor\n", 0o644);
    office.put("maps/conf.d/a.conf", "# first\ncorp alice orders_read\n", 0o644);
    office.put("maps/conf.d/a.conf~", "broken\n", 0o644);
    office
}

fn in_directory() -> String {
    with(FILE, "file = \"maps/main.conf\"")
}

#[test]
fn included_files_are_read_from_where_they_are_included() {
    let office = office_with_directories();
    let config = office.good(&in_directory());
    let map = &config.policy.map;
    let rules = map.map_names().flat_map(|name| map.rules(name));
    let lines: Vec<_> = rules.map(|rule| rule.reference().to_string()).collect();
    assert_eq!(lines, ["conf.d/a.conf:2", "more:1", "conf.d/b.conf:1"]);
    assert_eq!(config.map_source.main, office.0.join("maps/main.conf"));
    let again =
        IdentMap::load(map.dialect(), &config.map_source.main, &MapDisk).expect("it is unchanged");
    assert_eq!(again.revision(), map.revision());
    let stored = IdentMap::load(map.dialect(), map.text().main(), map.text()).expect("it is whole");
    assert_eq!(stored.revision(), map.revision());
}

#[test]
fn what_is_wrong_or_odd_in_an_included_file_is_told_of_that_file() {
    let office = office_with_directories();
    office.put("maps/roles", "orders_raed\n", 0o644);
    let notes = office.good(&in_directory()).notes;
    let notes: Vec<_> = notes.iter().map(ToString::to_string).collect();
    let place = format!("{}:1: note: no cluster lends", office.0.join("maps/more").display());
    assert!(notes.len() == 1 && notes[0].starts_with(&place), "{notes:?}");

    office.put("maps/conf.d/a.conf", "corp alice orders_read\ncorp alice\n", 0o644);
    office.put("maps/roles", "orders_read other\n", 0o644);
    fs::remove_file(office.0.join("maps/conf.d/b.conf")).expect("removed");
    insta::assert_snapshot!(office.refused(&in_directory()), @r"
    maps/conf.d/a.conf:2:11: missing entry: the line has fewer than three fields
      hint: a line has three fields: map name, system user, database user
    maps/roles:1:13: multiple values in one field
      hint: write one line for each value; quote a value that holds a comma, such as a regular expression with `{1,3}`
    ");
}

#[test]
fn a_file_that_is_no_file_is_refused_and_never_waited_for() {
    let office = office_with_directories();
    let told = |name: &str| {
        let text = format!("{MAP}include_if_exists {name}\n");
        office.put("pg_ident.conf", &text, 0o644);
        office.load(GOOD).map(drop)
    };
    assert_eq!(told("none"), Ok(()));
    assert_eq!(told("maps/more"), Ok(()));
    let no_file = |name: &str, reason: &str| {
        let told = told(name).expect_err("it is no file");
        let place = format!("pg_ident.conf:3:19: could not open the file `{name}`: {reason}");
        assert!(told.starts_with(&place), "{told}");
    };
    no_file("maps", "it is a directory");
    let made = Command::new("mkfifo").arg(office.0.join("pipe")).status();
    assert!(made.expect("mkfifo runs").success());
    no_file("pipe", "it is no regular file");
    no_file("/dev/zero", "it is no regular file");
    symlink("nowhere", office.0.join("link")).expect("a link");
    assert_eq!(told("link"), Ok(()));
    let of_directory = |text: &str| {
        office.put("pg_ident.conf", &format!("{MAP}{text}\n"), 0o644);
        office.load(GOOD).map(drop)
    };
    assert_eq!(of_directory("include_dir maps/conf.d"), Ok(()));
    symlink("nowhere", office.0.join("maps/conf.d/link.conf")).expect("a link");
    let told = of_directory("include_dir maps/conf.d").expect_err("the link leads nowhere");
    assert!(told.contains("no such file"), "{told}");
    let told = of_directory("include_dir nowhere").expect_err("there is no such directory");
    assert!(told.starts_with("pg_ident.conf:3:13: could not open the directory"), "{told}");
}

#[test]
fn a_map_that_includes_itself_is_refused_by_whatever_path() {
    let office = Office::new();
    let own = office.0.join("pg_ident.conf").display().to_string();
    for path in ["pg_ident.conf", "./pg_ident.conf", "../none/../pg_ident.conf", own.as_str()] {
        office.put("pg_ident.conf", &format!("{MAP}include {path}\n"), 0o644);
        let told = office.load(GOOD).err().unwrap_or_default();
        let is_circle = told.contains("maximum nesting depth exceeded");
        // Two directories up, one down: another place, where nothing is.
        let is_elsewhere = path.starts_with("..") && told.contains("no such file");
        assert!(is_circle || is_elsewhere, "{path}: {told}");
    }
}

#[test]
fn a_duty_has_no_members() {
    let office = Office::new();
    let map = |line: &str| {
        office.put("pg_ident.conf", &format!("{MAP}{line}\n"), 0o644);
        office.load(GOOD).map(drop)
    };
    for good in ["pgbridge bob \"+staff\"", "corp bob +staff", "pgbridge bob /^(auditor|x)$"] {
        assert_eq!(map(good), Ok(()), "{good}");
    }
    let told = map("pgbridge bob +staff").expect_err("nobody can be asked");
    assert!(told.starts_with("pg_ident.conf:3:1: `+role` in a map of [access]"), "{told}");
}

#[test]
fn maps_that_nothing_can_ask_for_are_noted() {
    let office = Office::new();
    let notes = |map: &str| {
        office.put("pg_ident.conf", map, 0o644);
        let notes = office.good(GOOD).notes;
        notes.iter().map(|note| (note.line, note.message)).collect::<Vec<_>>()
    };
    assert_eq!(notes(MAP), []);
    let [(line, message)] = notes(&format!("{MAP}\"\" bob orders_read\n"))[..] else { panic!() };
    assert!(line == 3 && message.contains("nobody uses"), "{message}");
    let [(line, message)] = notes(&format!("\u{FEFF}corp bob orders_read\n{MAP}"))[..] else {
        panic!()
    };
    assert!(line == 1 && message.contains("byte order mark"), "{message}");
}

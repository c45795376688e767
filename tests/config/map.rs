//! The map as the configuration names it: which release reads it, and which files.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use pgbridge::config::{self, Config, MapDisk};
use pgbridge::mapping::{Case, Dialect, IdentMap};

use super::{BASE, GOOD, HOST, LDAP_MAP, LISTEN, MAP, Office, with};

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
    let again = IdentMap::load(map.dialect(), &config.map_source.main, &MapDisk::default())
        .expect("it is unchanged");
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
      hint: a field has one value, also from an `@file`: write a line of the map for each, and quote a value that holds a blank or a comma
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

/// Each kind of file with a secret that a configuration can name.
const SECRETS: [&str; 8] = [
    "server.key",
    "ldap.password",
    "orders.password",
    "marker.key",
    "pgbridge.db",
    "pgbridge.db-wal",
    "pgbridge.db-shm",
    "store.password",
];

/// `GOOD` that names them all, but that a store is a file or a server.
fn with_secrets(store: &str) -> String {
    let tls = format!("{LISTEN}\ncertificate_file = \"server.crt\"\nkey_file = \"server.key\"");
    let search =
        format!("{BASE}\nldapbinddn = \"cn=x\"\nldapbindpasswd_file = \"ldap.password\"\n");
    format!("{store}{}", with(LISTEN, &tls).replacen(BASE, &search, 1))
}

const STORE_SERVER: &str = "[store]\nurl = \"postgresql://pgbridge@127.0.0.1/store\"\n\
                            password_file = \"store.password\"\nsslmode = \"disable\"\n";

fn office_with_secrets() -> Office {
    let office = Office::new();
    for name in ["ldap.password", "store.password"] {
        office.put(name, "s3cret\n", 0o600);
    }
    office.put("marker.key", &"0".repeat(64), 0o600);
    for name in ["pgbridge.db", "pgbridge.db-wal", "pgbridge.db-shm"] {
        office.put(name, "what everybody asked for\n", 0o600);
    }
    office.put("roles", "orders_read\n", 0o644);
    fs::create_dir(office.0.join("conf.d")).expect("a directory");
    office
}

fn store_of(secret: &str) -> &'static str {
    if secret == "store.password" { STORE_SERVER } else { "" }
}

const IS_SECRET: &str = "the configuration names it as a file with a secret";

#[test]
fn no_map_reads_a_secret_of_the_configuration_by_whatever_name() {
    let office = office_with_secrets();
    for secret in SECRETS {
        let text = with_secrets(store_of(secret));
        let path = office.0.join(secret);
        symlink(&path, office.0.join("link")).expect("a link");
        fs::hard_link(&path, office.0.join("hard")).expect("a link");
        fs::copy(office.0.join("roles"), office.0.join("copy")).expect("a copy");
        for (name, is_read) in [
            ("roles", true),
            ("copy", true),
            (secret, false),
            ("link", false),
            ("hard", false),
            (path.to_str().expect("UTF-8"), false),
        ] {
            office.put("pg_ident.conf", &format!("{MAP}corp bob @{name}\n"), 0o644);
            let told = office.load(&text).map(drop);
            let place = "pg_ident.conf:3:10: could not open the file `";
            let is_refused = |told: &String| told.starts_with(place) && told.contains(IS_SECRET);
            assert_eq!(told.is_ok(), is_read, "{secret} as {name}: {told:?}");
            assert_eq!(told.is_err_and(|told| is_refused(&told)), !is_read, "{secret} as {name}");
        }
        for name in ["link", "hard", "copy"] {
            fs::remove_file(office.0.join(name)).expect("it is there");
        }
    }
}

#[test]
fn no_directive_reads_a_secret_either_and_the_map_is_none() {
    let office = office_with_secrets();
    let text = with_secrets("");
    let load = |line: &str, text: &str| {
        office.put("pg_ident.conf", &format!("{MAP}{line}\n"), 0o644);
        office.load(text).map(drop)
    };
    office.put("conf.d/a.conf", "corp bob orders_read\n", 0o644);
    for directive in
        ["include conf.d/a.conf", "include_if_exists conf.d/a.conf", "include_dir conf.d"]
    {
        assert_eq!(load(directive, &text), Ok(()));
    }
    symlink("../ldap.password", office.0.join("conf.d/b.conf")).expect("a link");
    for directive in
        ["include conf.d/b.conf", "include_if_exists conf.d/b.conf", "include_dir conf.d"]
    {
        let told = load(directive, &text).expect_err("it is a secret");
        assert!(told.starts_with("pg_ident.conf:3:") && told.contains(IS_SECRET), "{told}");
        assert!(told.contains("hint: what the map is to read must stand in"), "{told}");
        // Whoever may not read the secrets is told the same; the link alone is no secret.
        let config = office.put("pgbridge.toml", &text, 0o644);
        let found = config::policy_only(&config).expect_err("it is a secret");
        assert!(office.told(&found).contains(IS_SECRET), "{found:?}");
    }
    assert_eq!(load("", &text), Ok(()));
    let is_main = text.replacen(FILE, "file = \"orders.password\"", 1);
    let told = load("", &is_main).expect_err("it is a secret");
    assert!(told.contains("`file` in [map] names a file with a secret"), "{told}");
}

/// Nobody waits for who would write into a pipe, and nothing is taken out of it.
#[test]
fn a_secret_is_not_opened_to_find_out_that_it_is_one() {
    let office = office_with_secrets();
    fs::remove_file(office.0.join("orders.password")).expect("it is there");
    let made = Command::new("mkfifo").arg(office.0.join("orders.password")).status();
    assert!(made.expect("mkfifo runs").success());
    office.put("pg_ident.conf", &format!("{MAP}corp bob @orders.password\n"), 0o644);
    let path = office.put("pgbridge.toml", &with_secrets(""), 0o644);
    let found = config::policy_only(&path).expect_err("it is a secret");
    assert!(office.told(&found).contains(IS_SECRET), "{found:?}");
    // Those that are not there, or where nobody may look, are no mistake of the map.
    let nowhere = with_secrets("").replacen("orders.password", "roles/orders.password", 1);
    let path = office.put("pgbridge.toml", &nowhere, 0o644);
    office.put("pg_ident.conf", &format!("{MAP}corp bob @roles\n"), 0o644);
    assert!(config::policy_only(&path).is_ok());
}

#[test]
fn a_secret_that_comes_later_is_not_read_by_the_next_reading() {
    let office = office_with_secrets();
    fs::remove_file(office.0.join("marker.key")).expect("it is there");
    office.put("pg_ident.conf", &format!("{MAP}corp bob @list\n"), 0o644);
    office.put("list", "orders_read\n", 0o644);
    let source = office.good(&with_secrets("")).map_source;
    assert!(source.read().map.is_ok());
    fs::hard_link(office.0.join("list"), office.0.join("marker.key")).expect("a link");
    let mistakes = source.read().map.expect_err("it is a secret");
    assert!(mistakes[0].message.contains(IS_SECRET), "{mistakes:?}");
}

/// Also where this user cannot know whether it is there.
#[test]
fn a_secret_that_cannot_be_opened_is_refused_by_where_it_stands() {
    let office = office_with_secrets();
    symlink("conf.d", office.0.join("directory")).expect("a link");
    symlink("conf.d/marker.key", office.0.join("link")).expect("a link");
    let text = with_secrets("").replacen("marker.key", "directory/marker.key", 1);
    let absolute = office.0.join("conf.d/marker.key").display().to_string();
    for (name, is_secret) in [
        ("directory/marker.key", true),
        ("conf.d/marker.key", true),
        ("./conf.d/../conf.d/marker.key", true),
        ("link", true),
        (absolute.as_str(), true),
        ("marker.key.old", false),
        ("nowhere/marker.key", false),
    ] {
        office.put("pg_ident.conf", &format!("{MAP}corp bob @{name}\n"), 0o644);
        let told = office.load(&text).map(drop).expect_err("it is not there");
        assert_eq!(told.contains(IS_SECRET), is_secret, "{name}: {told}");
        assert_eq!(told.contains("no such file"), !is_secret, "{name}: {told}");
    }
}

#[test]
fn a_store_that_is_not_used_any_more_is_no_map_either() {
    let office = office_with_secrets();
    let text = with_secrets(&STORE_SERVER.replacen("[store]\n", "[store]\npath = \"roles\"\n", 1));
    for (name, words) in [("roles", IS_SECRET), ("conf.d/roles", "no such file")] {
        office.put("pg_ident.conf", &format!("{MAP}corp bob @{name}\n"), 0o644);
        let told = office.refused(&text);
        assert!(told.contains(words), "{told}");
        assert!(told.contains("`url` in [store] cannot be used with `path`"), "{told}");
    }
}

//! `pgbridge map`, run as people and their scripts run it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use pgbridge::audit::{Action, Record, Subject};
use pgbridge::clock::Clock;
use pgbridge::mapping::{Dialect, IdentMap, LintCode, LintSeverity, MapRevision};
use pgbridge::store::sqlite::SqliteStore;
use pgbridge::store::{Change, Store, StoredMap, kept_map};
use serde_json::{Value, json};

use super::{Machine, Outcome};

fn put(machine: &Machine, name: &str, text: &str) -> String {
    let path = machine.0.path().join(name);
    fs::create_dir_all(path.parent().expect("a directory")).expect("made");
    fs::write(&path, text).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

/// Runs the command with `input` as its standard input.
fn run_with(machine: &Machine, arguments: &[&str], input: &str) -> Outcome {
    let mut command = machine.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("pgbridge runs");
    let mut stdin = child.stdin.take().expect("its input");
    // It may have ended before it read anything.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("pgbridge ends").into()
}

fn answers(outcome: &Outcome) -> Vec<Value> {
    let lines = outcome.stdout.lines();
    lines.map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn eval_answers_each_question_in_its_order() {
    let machine = Machine::new();
    let file = put(&machine, "pg_ident.conf", "m alice r\ninclude more/x.conf\n");
    put(&machine, "more/x.conf", "m /^(.*)@T$ \\1\nm bob +g\n");
    let question = |user: &str, role: &str| json!({"map": "m", "user": user, "role": role});
    let mut bob = question("bob", "r");
    bob["members"] = json!({"g": ["r"]});
    let questions = [question("alice", "r"), question("r@T", "r"), question("bob", "r"), bob];
    let lines: Vec<String> = questions.iter().map(ToString::to_string).collect();
    let input = lines.join("\n") + "\n";
    let outcome = run_with(&machine, &["map", "eval", "--file", &file], &input);
    outcome.check(0, "");
    let places: Vec<_> = answers(&outcome)
        .into_iter()
        .map(|answer| json!([answer["decision"], answer["file"], answer["line"]]))
        .collect();
    let expected = [
        json!(["allow", "pg_ident.conf", 1]),
        json!(["allow", "more/x.conf", 1]),
        json!(["deny", null, null]),
        json!(["allow", "more/x.conf", 2]),
    ];
    assert_eq!(places, expected);
}

#[test]
fn eval_reads_the_map_as_the_release_that_it_is_told() {
    let machine = Machine::new();
    let file = put(&machine, "pg_ident.conf", "m alice all\n");
    let input = "{\"map\":\"m\",\"user\":\"alice\",\"role\":\"r\"}\n";
    for (major, decision) in [("15", "deny"), ("16", "allow"), ("18", "allow")] {
        let arguments = ["map", "eval", "--postgres", major, "--file", &file];
        let outcome = run_with(&machine, &arguments, input);
        outcome.check(0, "");
        assert_eq!(answers(&outcome)[0]["decision"], decision, "{major}");
    }
    run_with(&machine, &["map", "eval", "--postgres", "12", "--file", &file], "").check(2, "12");
}

#[test]
fn eval_answers_what_is_no_question_in_its_place_and_goes_on() {
    let machine = Machine::new();
    let file = put(&machine, "pg_ident.conf", "m alice r\n");
    let good = "{\"map\":\"m\",\"user\":\"alice\",\"role\":\"r\"}";
    let input = format!("{good}\nnonsense\n{}\n{good}", "x".repeat(2 << 20));
    let outcome = run_with(&machine, &["map", "eval", "--file", &file], &input);
    outcome.check(1, "");
    let answers = answers(&outcome);
    let decisions: Vec<_> = answers.iter().map(|answer| &answer["decision"]).collect();
    assert_eq!(decisions, ["allow", "error", "error", "allow"]);
    assert!(answers[2]["reason"].as_str().expect("a reason").contains("more than 1048576 bytes"));
}

#[test]
fn eval_of_a_map_that_does_not_load_is_one_line_and_exit_status_2() {
    let machine = Machine::new();
    let file = put(&machine, "pg_ident.conf", "m alice r\nm alice\nm\n");
    let outcome = run_with(&machine, &["map", "eval", "--file", &file], "{}\n");
    outcome.check(2, "");
    let [answer] = &answers(&outcome)[..] else { panic!("{}", outcome.stdout) };
    assert_eq!(answer["line"], 2, "{answer}");
    assert_eq!(answer["mistakes"], 2, "{answer}");
    assert_eq!(answer["file"], "pg_ident.conf", "{answer}");
    assert!(answer["load_error"].as_str().expect("a text").contains("missing entry"), "{answer}");

    let absent = run_with(&machine, &["map", "eval", "--file", "/nowhere.conf"], "");
    absent.check(2, "");
    let [answer] = &answers(&absent)[..] else { panic!("{}", absent.stdout) };
    assert_eq!(answer["file"], "nowhere.conf", "{answer}");
    assert!(answer["load_error"].is_string(), "{answer}");
}

#[test]
fn eval_answers_at_once_whoever_waits_before_asking_again() {
    let machine = Machine::new();
    let file = put(&machine, "pg_ident.conf", "m alice r\n");
    let mut command = machine.command(&["map", "eval", "--file", &file]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("pgbridge runs");
    let mut input = child.stdin.take().expect("its input");
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    for (user, decision) in [("alice", "allow"), ("bob", "deny"), ("alice", "allow")] {
        let question = json!({"map": "m", "user": user, "role": "r"});
        // The beginning of the next question must not keep the answer back.
        write!(input, "{question}\n ").expect("asked");
        let mut line = String::new();
        output.read_line(&mut line).expect("answered");
        let answer: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(answer["decision"], decision);
    }
    drop(input);
    // The blank after the last question is no question.
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
}

#[test]
fn eval_ends_quietly_when_nobody_reads_its_answers() {
    let machine = Machine::new();
    let file = put(&machine, "pg_ident.conf", "m alice r\n");
    let mut command = machine.command(&["map", "eval", "--file", &file]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("pgbridge runs");
    drop(child.stdout.take());
    let mut input = child.stdin.take().expect("its input");
    let question = "{\"map\":\"m\",\"user\":\"alice\",\"role\":\"r\"}\n";
    let _ = input.write_all(question.repeat(1000).as_bytes());
    drop(input);
    let outcome: Outcome = child.wait_with_output().expect("it ends").into();
    // Whether all of them were questions is not known.
    outcome.check(2, "");
    assert_eq!(outcome.stderr, "");
    assert!(Path::new(&file).exists());
}

/// A configuration of which no secret is there.
const CONFIG: &str = r#"[map]
file = "pg_ident.conf"

[access]
map = "duties"

[[ldap]]
name = "corp"
map = "corp"
group_map = "groups"
ldapserver = ["127.0.0.1"]
ldapbasedn = "ou=people,dc=example,dc=test"
ldapbindpasswd_file = "absent.password"
member_of_attribute = "memberOf"

[[cluster]]
name = "orders"
host = "127.0.0.1"
password_file = "absent.password"

[[cluster.profile]]
role = "orders_read"
databases = ["orders"]

[[cluster.profile]]
role = "orders_write"
databases = ["orders"]
"#;

const GOOD: &str = "corp alice orders_read\ngroups \"cn=writers,dc=test\" orders_write\n\
                    duties bob auditor\n";

/// A machine with the configuration and the map that it names.
fn machine(map: &str) -> (Machine, String, String) {
    let machine = Machine::new();
    let map = put(&machine, "pg_ident.conf", map);
    let config = put(&machine, "pgbridge.toml", CONFIG);
    (machine, map, config)
}

#[test]
fn diff_says_who_gains_and_who_loses_with_the_exit_codes_of_diff() {
    let machine = Machine::new();
    let old = put(&machine, "old/pg_ident.conf", "corp alice r\ncorp /^svc_[a-z]+$ s\n");
    let new = put(&machine, "new/pg_ident.conf", "include people.conf\ncorp /^svc_.+$ s\n");
    put(&machine, "new/people.conf", "# moved\ncorp \"alice\" r\ncorp bob r\n");
    let outcome = machine.run(&["map", "diff", &old, &new]);
    outcome.check(1, "");
    let people = Path::new(&new).with_file_name("people.conf");
    let expected = format!(
        "+ corp: bob may now act as r ({}:3)\n\
         + corp: whoever matches /^svc_.+$ may now act as s ({new}:2), for example svc_0\n",
        people.display()
    );
    assert_eq!(outcome.stdout, expected);
    let outcome = machine.run(&["map", "diff", &new, &old, "--json"]);
    outcome.check(1, "");
    let value: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(value["changes"][0]["change"], "loses", "{value:#}");

    let same = put(&machine, "same.conf", "corp /^svc_[a-z]+$ s # as before\n\ncorp alice r\n");
    let outcome = machine.run(&["map", "diff", &old, &same]);
    outcome.check(0, "");
    assert!(outcome.stdout.is_empty());
    let outcome = machine.run(&["map", "diff", &old, &same, "--json"]);
    outcome.check(0, "");
    let value: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!((&value["same"], &value["changes"]), (&json!(true), &json!([])));
}

#[test]
fn diff_of_maps_that_are_too_much_to_compare_says_so_with_its_exit_code() {
    let machine = Machine::new();
    let map = |between: &str| {
        let line = |number: usize| {
            let (within, role) = (number % 100, number / 100);
            format!("corp \"/^(.*)x{within}{between}$\" \"r0{role}\\1\"\n")
        };
        (0..2000).map(line).collect::<Vec<_>>().concat()
    };
    let old = put(&machine, "old.conf", &map(""));
    let new = put(&machine, "new.conf", &(map("y?") + "corp mallory r\n"));
    let outcome = machine.run(&["map", "diff", &old, &new]);
    outcome.check(3, "");
    let first = outcome.stdout.lines().next().expect("a line");
    assert!(first.starts_with("+ corp: mallory may now act as r ("), "{first}");
    let last = outcome.stdout.lines().last().expect("a line");
    assert!(last.starts_with("! corp: 0 names and ") && last.ends_with("too long"), "{last}");
    // Nobody need wait to know that the same is the same.
    machine.run(&["map", "diff", &old, &old]).check(0, "");
}

#[test]
fn diff_that_cannot_read_a_file_is_trouble_and_no_difference() {
    let machine = Machine::new();
    let good = put(&machine, "good.conf", "corp alice r\n");
    let bad = put(&machine, "bad.conf", "corp alice r\ncorp alice\n");
    let outcome = machine.run(&["map", "diff", &good, &bad]);
    outcome.check(2, "bad.conf:2:");
    outcome.check(2, "missing entry");
    assert!(outcome.stdout.is_empty());
    machine.run(&["map", "diff", &good, "/nowhere.conf"]).check(2, "nowhere.conf");
    machine
        .run(&["map", "diff", &good, &good, "--config", "/nowhere.toml"])
        .check(2, "no such file");
    let absent = ["map", "diff", &good, &good, "--identities", "/nowhere"];
    machine.run(&absent).check(2, "/nowhere");
    let pipe = machine.0.path().join("pipe").display().to_string();
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let unwritten = ["map", "diff", &good, &good, "--identities", &pipe];
    machine.run(&unwritten).check(2, "nobody writes into this pipe");
    let written = ["map", "diff", &good, &good, "--identities", "/dev/stdin"];
    run_with(&machine, &written, "alice\n").check(0, "");
    machine.run(&["map", "diff", &good, &good]).check(0, "");
}

#[test]
fn what_cannot_be_read_is_json_too_where_that_was_asked_for() {
    let (machine, good, config) = machine(GOOD);
    let bad = put(&machine, "bad.conf", "corp alice r\ncorp /a(b r\ncorp alice\n");
    let broken = put(&machine, "broken.toml", "[map]\nfile = \n");
    let told = |arguments: &[&str]| -> Value {
        let arguments = [&["map"], arguments, &["--json"]].concat();
        let outcome = machine.run(&arguments);
        outcome.check(2, "");
        assert!(!outcome.stderr.is_empty(), "{arguments:?}");
        serde_json::from_str(&outcome.stdout).expect("JSON")
    };
    let lint = told(&["lint", &bad]);
    assert_eq!(told(&["diff", &good, &bad]), lint);
    assert_eq!(told(&["diff", &bad, &good]), lint);
    let place = |told: &Value| json!([told["file"], told["line"], told["mistakes"]]);
    assert_eq!(place(&lint), json!([bad, 2, 2]), "{lint}");
    let message = |told: &Value| told["load_error"].as_str().expect("a text").to_owned();
    assert!(message(&lint).contains("the group is not closed"), "{lint}");
    assert_eq!(place(&told(&["lint", "/nowhere"])), json!(["/nowhere", 1, 1]));
    let unconfigured = told(&["diff", &good, &good, "--config", &broken]);
    assert_eq!((&unconfigured["file"], &unconfigured["line"]), (&json!(broken), &json!(2)));
    let unknown = told(&["diff", "01234567", &good, "--config", &config]);
    assert!(message(&unknown).contains("there is no "), "{unknown}");
    assert_eq!(place(&unknown), json!([null, null, 1]));
    // Without --json nothing but text is written, and what can be read is as it was.
    let outcome = machine.run(&["map", "lint", &bad]);
    outcome.check(2, "bad.conf:2:");
    assert!(outcome.stdout.is_empty());
    machine.run(&["map", "lint", &good, "--json"]).check(0, "");
}

#[test]
fn no_map_at_all_is_one_without_lines() {
    let machine = Machine::new();
    let map = put(&machine, "map.conf", "corp alice r\n");
    let outcome = machine.run(&["map", "diff", "/dev/null", &map]);
    outcome.check(1, "");
    assert_eq!(outcome.stdout, format!("+ corp: alice may now act as r ({map}:1)\n"));
    let outcome = machine.run(&["map", "diff", &map, "/dev/null"]);
    outcome.check(1, "");
    assert_eq!(outcome.stdout, format!("- corp: alice may no longer act as r ({map}:1)\n"));
    machine.run(&["map", "diff", "/dev/null", "/dev/null"]).check(0, "");
    // No other device is a map, and no map includes one.
    machine.run(&["map", "diff", "/dev/zero", &map]).check(2, "it is no regular file");
    let including = put(&machine, "including.conf", "include /dev/null\n");
    machine.run(&["map", "diff", &including, &map]).check(2, "it is no regular file");
}

#[test]
fn a_directory_in_the_place_of_a_map_is_named_and_what_to_give_instead() {
    let machine = Machine::new();
    let map = put(&machine, "maps/pg_ident.conf", "corp alice r\n");
    let maps = Path::new(&map).parent().expect("a directory");
    let instead = "name the map file in it, such as `pg_ident.conf`";
    for (named, file) in [(".", "."), ("..", ".."), ("/", "/"), ("./", ".")] {
        for arguments in [&["map", "lint", named][..], &["map", "diff", &map, named]] {
            let mut command = machine.command(arguments);
            let outcome: Outcome =
                command.current_dir(maps).output().expect("pgbridge runs").into();
            outcome.check(2, &format!("{file}:1:1: could not open the file `{named}`: it is a"));
            outcome.check(2, instead);
        }
        let mut command = machine.command(&["map", "eval", "--file", named]);
        let command = command.current_dir(maps).stdin(Stdio::null());
        let outcome: Outcome = command.output().expect("pgbridge runs").into();
        outcome.check(2, "");
        let [answer] = &answers(&outcome)[..] else { panic!("{}", outcome.stdout) };
        assert_eq!((&answer["file"], &answer["hint"]), (&json!(file), &json!(instead)));
    }
    let directory = maps.to_str().expect("UTF-8");
    machine.run(&["map", "lint", directory]).check(2, &format!("{directory}:1:1: could not open"));
    machine.run(&["map", "lint", &map]).check(0, "");
}

#[test]
fn diff_knows_what_the_configuration_lends_and_needs_no_secret_for_it() {
    let (machine, old, config) = machine(GOOD);
    let both = "corp alice orders_read\ncorp alice orders_write\n";
    let new = put(&machine, "new.conf", &format!("{both}duties bob auditor\n"));
    let outcome = machine.run(&["map", "diff", &old, &new, "--config", &config]);
    outcome.check(1, "");
    let expected = format!(
        "+ corp: alice may now act as orders_write ({new}:2)\n\
         - groups: whoever is in \"cn=writers,dc=test\" may no longer act as orders_write ({old}:2)\n"
    );
    assert_eq!(outcome.stdout, expected);
    // What nobody lends or uses gives nobody anything; that it is new is told beside.
    let idle = put(&machine, "idle.conf", &format!("{GOOD}corp eve orders_raed\nother eve all\n"));
    let outcome = machine.run(&["map", "diff", &old, &idle, "--config", &config]);
    outcome
        .check(0, &format!("no cluster lends orders_raed, so the line allows nothing ({idle}:4)"));
    outcome.check(0, &format!("nobody uses the map other ({idle}:5)"));
    assert!(outcome.stdout.is_empty(), "{}", outcome.stdout);
    machine.run(&["map", "diff", &old, &idle]).check(1, "");
    // `all` is what is lent.
    let both = put(&machine, "both.conf", both);
    let all = put(&machine, "all.conf", "corp alice all\n");
    machine.run(&["map", "diff", &both, &all, "--config", &config]).check(0, "");
    machine.run(&["map", "diff", &both, &all]).check(1, "");
}

#[test]
fn diff_compares_the_people_whom_it_is_given_one_by_one() {
    let machine = Machine::new();
    let old = put(&machine, "old.conf", "corp /^a.*$ r\n");
    let new = put(&machine, "new.conf", "corp /^an.*$ r\n");
    let people = put(&machine, "people", "alice\nanne\r\n\nbob\n");
    let outcome = machine.run(&["map", "diff", &old, &new, "--identities", &people]);
    outcome.check(1, "");
    let expected = format!(
        "- corp: alice may no longer act as r ({old}:1)\n\
         - corp: whoever matches /^a.*$ may no longer act as r ({old}:1), for example a\n"
    );
    assert_eq!(outcome.stdout, expected);
}

#[test]
fn lint_ends_with_what_a_pipeline_can_tell_apart() {
    let (machine, map, config) = machine(GOOD);
    machine.run(&["map", "lint", &map]).check(0, "");
    let outcome = machine.run(&["map", "lint", "--config", &config]);
    outcome.check(0, "");
    assert!(outcome.stdout.is_empty(), "{}", outcome.stdout);

    let wide = put(&machine, "wide.conf", &format!("{GOOD}corp /^(.*)@CORP.TEST$ \\1\n"));
    let outcome = machine.run(&["map", "lint", &wide]);
    outcome.check(1, "");
    let finding = format!(
        "{wide}:4: warning: a dot in `/^(.*)@CORP.TEST$` matches any character [unescaped-dot]\n    \
         write `\\.` for a dot\n0 errors, 1 warning\n"
    );
    assert_eq!(outcome.stdout, finding);
    machine.run(&["map", "lint", &wide, "--fail-on", "error"]).check(0, "");

    let broken = put(&machine, "broken.conf", "corp /^(.*)$ all\n");
    machine.run(&["map", "lint", &broken, "--fail-on", "error"]).check(1, "");
    let unread = put(&machine, "unread.conf", "corp alice\n");
    machine.run(&["map", "lint", &unread]).check(2, "missing entry");
    machine.run(&["map", "lint", &map, "--config", "/nowhere.toml"]).check(2, "no such file");

    put(&machine, "one.conf", GOOD);
    let half = put(&machine, "half.conf", "include one.conf, more.conf\n");
    let outcome = machine.run(&["map", "lint", &half]);
    outcome.check(1, "");
    let finding = format!("{half}:1: error: the line includes the first file alone");
    assert!(outcome.stdout.starts_with(&finding), "{}", outcome.stdout);
    let whole = put(&machine, "whole.conf", "include one.conf\n");
    machine.run(&["map", "lint", &whole]).check(0, "");
}

#[test]
fn lint_holds_the_map_against_the_configuration_without_its_secrets() {
    let (machine, _, config) = machine(GOOD);
    let map = put(
        &machine,
        "other.conf",
        "corp alice orders_raed\ngroups writers orders_write\n\
                  crop bob orders_read\nduties +x auditor\n",
    );
    let outcome = machine.run(&["map", "lint", &map, "--config", &config, "--json"]);
    outcome.check(1, "");
    let value: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let findings = value["findings"].as_array().expect("a list");
    let codes: Vec<_> = findings.iter().map(|finding| &finding["code"]).collect();
    assert_eq!(codes, ["role-not-lent", "bare-group-name", "map-name-slip", "literal-keyword"]);
    assert_eq!((&value["warnings"], &value["errors"]), (&json!(4), &json!(0)));
    assert_eq!(findings[0]["file"], map.as_str());
    assert_eq!(findings[0]["line"], 1);
    // The clusters cannot be asked without the secrets.
    machine.run(&["map", "lint", "--clusters", "--config", &config]).check(2, "does not exist");
}

#[tokio::test]
async fn diff_compares_with_a_map_that_was_in_force() {
    let (machine, map, config) = machine(GOOD);
    let former = IdentMap::parse(Dialect::default(), "pg_ident.conf", b"corp carol orders_read\n");
    let former = former.expect("a map");
    let store = SqliteStore::open(&machine.0.path().join("pgbridge.db")).expect("a store");
    let kept = StoredMap {
        revision: former.revision().clone(),
        dialect: former.dialect(),
        text: former.text().clone(),
        first_used_at: Clock::system().now(),
    };
    let record = Record::new(Clock::system().now(), Action::BrokerStarted, Subject::Broker);
    store.commit(vec![Change::KeepMap(Box::new(kept))], vec![record]).await.expect("kept");
    let revision = former.revision().as_str();
    let outcome = machine.run(&["map", "diff", revision, &map, "--config", &config]);
    outcome.check(1, "");
    let digits = &revision[..12];
    let expected = format!(
        "+ corp: alice may now act as orders_read ({map}:1)\n\
         - corp: carol may no longer act as orders_read ({digits}:pg_ident.conf:1)\n\
         + duties: bob may now act as auditor ({map}:3)\n\
         + groups: whoever is in \"cn=writers,dc=test\" may now act as orders_write ({map}:2)\n"
    );
    assert_eq!(outcome.stdout, expected);
    machine.run(&["map", "diff", revision, revision, "--config", &config]).check(0, "");
    let capitals = revision.to_ascii_uppercase();
    let outcome = machine.run(&["map", "diff", &capitals, &map, "--config", &config]);
    assert_eq!((outcome.code, outcome.stdout), (Some(1), expected));
    for capitals in [capitals.as_str(), &capitals[..8]] {
        let same = machine.run(&["map", "diff", capitals, revision, "--config", &config]);
        same.check(0, "");
    }
    machine.run(&["map", "diff", &capitals, &map]).check(2, "with the --config whose store has it");
    for unknown in ["0".repeat(64), "0".repeat(8), "FFFFFFFF".to_owned()] {
        let outcome = machine.run(&["map", "diff", &unknown, &map, "--config", &config]);
        let both = format!(
            "no file {unknown}, and the store has no map of the revision {}",
            unknown.to_lowercase()
        );
        outcome.check(2, &both);
    }
    // Without a configuration, or by fewer digits, it can only be a file.
    machine.run(&["map", "diff", revision, &map]).check(2, "with the --config whose store has it");
    let few = ["map", "diff", &revision[..7], &map, "--config", &config];
    machine.run(&few).check(2, "named by 8 digits or more");
}

#[tokio::test]
async fn a_revision_is_named_by_as_many_of_its_digits_as_name_no_other() {
    let (machine, map, config) = machine(GOOD);
    let former = IdentMap::parse(Dialect::default(), "pg_ident.conf", b"corp carol orders_read\n");
    let former = former.expect("a map");
    let revision = former.revision().as_str();
    // One that begins alike, as chance would take too long to make.
    let last = if revision.ends_with('0') { '1' } else { '0' };
    let alike = MapRevision::from_hex(&format!("{}{last}", &revision[..63])).expect("a revision");
    let store = SqliteStore::open(&machine.0.path().join("pgbridge.db")).expect("a store");
    let keep = async |revision: MapRevision| {
        let (dialect, text) = (former.dialect(), former.text().clone());
        let kept = StoredMap { revision, dialect, text, first_used_at: Clock::system().now() };
        let record = Record::new(Clock::system().now(), Action::BrokerStarted, Subject::Broker);
        store.commit(vec![Change::KeepMap(Box::new(kept))], vec![record]).await.expect("kept");
    };
    let diff = |digits: usize| {
        machine.run(&["map", "diff", &revision[..digits], &map, "--config", &config])
    };
    keep(former.revision().clone()).await;
    diff(8).check(1, "");
    diff(63).check(1, "");
    keep(alike.clone()).await;
    diff(8).check(2, "several revisions of the map begin with");
    diff(63).check(2, alike.as_str());
    diff(63).check(2, revision);
    diff(64).check(1, "");
    // A file that is called so comes first.
    let file = put(&machine, &revision[..8], GOOD);
    machine.run(&["map", "diff", &file, &map]).check(0, "");
}

#[tokio::test]
async fn a_map_of_a_store_that_has_it_by_the_name_of_its_file_is_compared_by_that_revision() {
    let (machine, map, config) = machine(GOOD);
    let text = "corp carol orders_read\n";
    let former = IdentMap::parse(Dialect::default(), "pg_ident.conf", text.as_bytes());
    let former = former.expect("a map");
    let digest = |text: &str| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        data_encoding::HEXLOWER.encode(digest.as_ref())
    };
    let revision = digest(&format!("postgres 16\n{}  pg_ident.conf\n", digest(text)));
    let revision = MapRevision::from_hex(&revision).expect("a revision");
    assert!(former.is_revision(&revision) && revision != *former.revision());
    let store = SqliteStore::open(&machine.0.path().join("pgbridge.db")).expect("a store");
    let kept = StoredMap {
        revision: revision.clone(),
        dialect: former.dialect(),
        text: former.text().clone(),
        first_used_at: Clock::system().now(),
    };
    let record = Record::new(Clock::system().now(), Action::BrokerStarted, Subject::Broker);
    store.commit(vec![Change::KeepMap(Box::new(kept))], vec![record]).await.expect("kept");
    let again = kept_map(&store, &revision).await.expect("the store works").expect("it is kept");
    assert_eq!(*again.revision(), revision);
    let outcome =
        machine.run(&["map", "diff", revision.as_str(), &map, "--config", &config, "--json"]);
    outcome.check(1, "");
    let value: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(value["old"], revision.as_str());
}

#[test]
fn lint_and_diff_read_no_secret_of_the_configuration() {
    let (machine, map, config) = machine(GOOD);
    put(&machine, "absent.password", "s3cret-canary orders_read\n");
    put(&machine, "roles", "orders_read\n");
    for (list, code) in [("roles", 0), ("absent.password", 2), ("link", 2)] {
        if list == "link" {
            let secret = machine.0.path().join("absent.password");
            fs::hard_link(secret, machine.0.path().join("link")).expect("a link");
        }
        let text = GOOD.replace("corp alice orders_read", &format!("corp alice @{list}"));
        let new = put(&machine, "new.conf", &text);
        for arguments in [vec!["map", "diff", &map, &new], vec!["map", "lint", &new]] {
            let outcome = machine.run(&[arguments.as_slice(), &["--config", &config]].concat());
            assert_eq!(outcome.code, Some(code), "{}{}", outcome.stdout, outcome.stderr);
            assert!(!format!("{}{}", outcome.stdout, outcome.stderr).contains("canary"));
            if code != 0 {
                let place = format!("{new}:1:12: could not open the file `");
                outcome.check(2, &place);
                outcome.check(2, "the configuration names it as a file with a secret");
            }
        }
    }
    // The file itself may be one.
    let secret = machine.0.path().join("absent.password").display().to_string();
    let outcome = machine.run(&["map", "lint", &secret, "--config", &config]);
    outcome.check(2, "the configuration names it as a file with a secret");
    assert!(!outcome.stderr.contains("canary"), "{}", outcome.stderr);
}

/// Every key of an object in the JSON, however deep.
pub(super) fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            found.insert(key.clone());
            keys(value, found);
        }),
        Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

/// The fields that a part of the help describes: the first word of each line, and what stands in
/// quotes.
fn documented(help: &str) -> BTreeSet<String> {
    let begin = help.find("What --json prints:").expect("a description");
    let lines = help[begin..].lines().skip(1).take_while(|line| !line.is_empty());
    let mut fields = BTreeSet::new();
    for line in lines {
        let indented = line.len() - line.trim_start().len();
        if indented <= 4 {
            let names = line.trim().split("  ").next().unwrap_or_default();
            fields.extend(names.split(", ").map(str::to_owned));
        }
        fields.extend(line.split('"').skip(1).step_by(2).map(str::to_owned));
    }
    fields
}

#[test]
fn the_help_of_diff_names_every_field_of_its_json_and_no_other() {
    let (machine, _, config) = machine(GOOD);
    let mut found = BTreeSet::new();
    let mut compare = |old: &str, new: &str, arguments: &[&str]| {
        let (old, new) = (put(&machine, "a.conf", old), put(&machine, "b.conf", new));
        let arguments = [&["map", "diff", &old, &new, "--json"], arguments].concat();
        let outcome = machine.run(&arguments);
        keys(&serde_json::from_str(&outcome.stdout).expect("JSON"), &mut found);
    };
    compare("", "m /^(.*)@T$ \\1\nm x all\n", &[]);
    compare("m x all\n", "m x /^r\nm y +g\n", &[]);
    compare("", "corp x orders_raed\ngroups \"cn=x,dc=t\" all\nn x y\n", &["--config", &config]);
    let bytes = machine.0.path().join("b.conf");
    fs::write(&bytes, b"m \xFF r\n").expect("written");
    let old = put(&machine, "a.conf", "");
    let of_bytes = machine.run(&["map", "diff", &old, bytes.to_str().expect("UTF-8"), "--json"]);
    keys(&serde_json::from_str(&of_bytes.stdout).expect("JSON"), &mut found);
    let unread = machine.run(&["map", "diff", &old, "/nowhere", "--json"]);
    keys(&serde_json::from_str(&unread.stdout).expect("JSON"), &mut found);
    let help = machine.run(&["map", "diff", "--help"]);
    assert_eq!(documented(&help.stdout), found);
}

#[test]
fn the_help_of_lint_names_every_field_of_its_json_and_every_finding() {
    let machine = Machine::new();
    let map = put(&machine, "map.conf", "m /^.*$ all\nm Alice r\nm alice r\n");
    let outcome = machine.run(&["map", "lint", &map, "--json"]);
    outcome.check(1, "");
    let mut found = BTreeSet::new();
    keys(&serde_json::from_str(&outcome.stdout).expect("JSON"), &mut found);
    let unread = machine.run(&["map", "lint", "/nowhere", "--json"]);
    keys(&serde_json::from_str(&unread.stdout).expect("JSON"), &mut found);
    let help = machine.run(&["map", "lint", "--help"]).stdout;
    assert_eq!(documented(&help), found);
    for code in LintCode::ALL {
        let is_told = |line: &str| {
            let rest = line.trim_start_matches(['*', ' ']).strip_prefix(code.as_str());
            let is_error = code.severity() == LintSeverity::Error;
            line.starts_with('*') == is_error
                && rest.is_some_and(|rest| rest.starts_with(' ') && rest.trim_start().len() > 10)
        };
        assert!(help.lines().any(is_told), "{code}:\n{help}");
    }
    for (command, codes) in [("diff", 3), ("lint", 3), ("eval", 3)] {
        for option in ["--help", "-h"] {
            let help = machine.run(&["map", command, option]).stdout;
            let exits = help.lines().skip_while(|line| !line.starts_with("Exit codes"));
            let told = exits.skip(1).take_while(|line| !line.is_empty());
            let told = told.filter(|line| line.trim_start().starts_with(['0', '1', '2'])).count();
            assert_eq!(told, codes, "{command} {option}");
        }
    }
}

#[test]
fn diff_says_that_the_broker_would_refuse_the_new_map() {
    let (machine, old, config) = machine(GOOD);
    let fewer = put(&machine, "fewer.conf", "corp alice orders_read\nduties bob auditor\n");
    let said = "the broker would refuse the new map: the way in `corp` uses map `groups`, which has no \
                line in the file";
    machine.run(&["map", "diff", &old, &fewer, "--config", &config]).check(1, said);
    let json = |new: &str| {
        let outcome = machine.run(&["map", "diff", &old, new, "--config", &config, "--json"]);
        let value: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
        value["would_be_refused"].as_array().expect("a list").len()
    };
    assert_eq!([json(&old), json(&fewer), json("/dev/null")], [0, 1, 3]);
    let asking = put(&machine, "asking.conf", &format!("{GOOD}duties eve +auditor\n"));
    let said = "`+role` in a map of [access], whose roles are of no cluster";
    machine.run(&["map", "diff", &old, &asking, "--config", &config]).check(0, said);
    let taken = machine.run(&["map", "diff", &old, &old, "--config", &config]);
    assert!(!taken.stderr.contains("refuse"), "{}", taken.stderr);
}

#[test]
fn diff_says_where_upper_and_lower_case_are_the_same() {
    let (machine, old, config) = machine(GOOD);
    let caseins = CONFIG.replace("map = \"corp\"", "map = \"corp\"\ncaseins_users = true");
    let caseins = put(&machine, "caseins.toml", &caseins);
    let new = put(&machine, "new.conf", &GOOD.replace("alice", "Alice"));
    let said = "map corp: upper and lower case are the same in names that its lines spell out";
    machine.run(&["map", "diff", &old, &new, "--config", &caseins]).check(0, said);
    let strict = machine.run(&["map", "diff", &old, &new, "--config", &config]);
    strict.check(1, "");
    assert!(!strict.stderr.contains("case"), "{}", strict.stderr);
}

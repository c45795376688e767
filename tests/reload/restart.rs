//! A map that comes while no broker runs: it is told and followed like one that comes while one does.

use std::fs;

use pgbridge::audit::{Action, Record, Subject};
use pgbridge::clock::Clock;
use pgbridge::mapping::MapRevision;
use pgbridge::store::Store;
use pgbridge::store::sqlite::SqliteStore;
use serde_json::Value;

use super::{edited, every, held, issue, of_action, place, replace, told};
use crate::support::{Caller, Signal, TestBed, until};

/// Lines of the audit that a start and its map leave.
fn starts(bed: &TestBed) -> usize {
    of_action(bed, "broker.started").len()
}

/// Waits for one more start than the ones `before`, counted while no broker ran.
async fn started_again(bed: &TestBed, before: usize) {
    until("another start", async || (starts(bed) > before).then_some(())).await;
}

#[tokio::test]
async fn a_map_that_came_while_no_broker_ran_is_told_with_what_it_changes() {
    let mut bed = TestBed::start_with(16, every("1h"));
    // With nothing before there is nothing to compare, and the same is no other map.
    bed.stop();
    bed.start_again();
    for action in ["map.reloaded", "map.compared"] {
        assert_eq!(of_action(&bed, action), Vec::<Value>::new());
    }
    let token = bed.login("alice").await;
    let (_, role, password) = held(&issue(&bed, Caller::Session(&token), "orders_read").await);
    let _stay = bed.postgres.stay_as(&role, &password, "orders", "SELECT 1");

    bed.stop();
    let path = bed.file("pg_ident.conf");
    let map = fs::read_to_string(&path).expect("the map");
    replace(&path, &edited(&map, "orders-readers", "corp bob orders_read\n"));
    bed.start_again();
    let started = of_action(&bed, "broker.started");
    let [_, before, after] = started.as_slice() else { panic!("{started:?}") };
    let compared = told(&bed, "map.compared", 1).await;
    let reloaded = of_action(&bed, "map.reloaded");
    for record in [&compared, &reloaded] {
        assert_eq!(record.len(), 1, "{record:?}");
        assert_eq!(record[0]["former_map_revision"], before["map_revision"]);
        assert_eq!(record[0]["map_revision"], after["map_revision"]);
        assert_eq!(record[0]["outcome"], "done");
    }
    // Nothing is decided by it before it is told that it came.
    assert_eq!(place(&bed, &reloaded[0]), place(&bed, after) + 1);
    let changes = compared[0]["detail"].as_str().expect("who gains and loses what");
    let [gains, loses] = changes.lines().collect::<Vec<_>>()[..] else { panic!("{changes}") };
    assert!(gains.starts_with("+ corp: bob may now act as orders_read"), "{changes}");
    assert!(loses.starts_with("- corp-groups: whoever is in"), "{changes}");
    until("alice's role to be gone", async || bed.lease_roles().is_empty().then_some(())).await;

    bed.stop();
    bed.start_again();
    assert_eq!(of_action(&bed, "map.reloaded").len(), 1);
}

/// Nobody can be asked who is in which group. What the map does not give any more for what it was
/// given for ends all the same; the rest goes on.
#[tokio::test]
async fn a_map_that_came_while_no_broker_ran_takes_away_also_while_the_directory_is_away() {
    let mut bed = TestBed::start_with(16, every("1h"));
    let (alice, bob) = (bed.login("alice").await, bed.login("bob").await);
    held(&issue(&bed, Caller::Session(&alice), "orders_read").await);
    let (_, kept, _) = held(&issue(&bed, Caller::Session(&bob), "orders_write").await);
    bed.kill();
    bed.directory.stop();
    let path = bed.file("pg_ident.conf");
    let map = fs::read_to_string(&path).expect("the map");
    replace(&path, &edited(&map, "orders-readers", ""));
    bed.start_again_unready();
    until("alice's role to be gone", async || (bed.lease_roles() == [kept.clone()]).then_some(()))
        .await;
}

/// The broker was killed after the map had come and before it was held against anybody.
#[tokio::test]
async fn what_a_map_takes_away_ends_also_when_the_broker_is_killed_before() {
    let mut bed = TestBed::start_with(16, every("1h"));
    let (alice, bob) = (bed.login("alice").await, bed.login("bob").await);
    held(&issue(&bed, Caller::Session(&alice), "orders_read").await);
    let (_, kept, _) = held(&issue(&bed, Caller::Session(&bob), "orders_write").await);
    bed.directory.stop();
    // The cluster is away: nothing can be ended there, and nobody is known after the start.
    bed.postgres.stop();
    let path = bed.file("pg_ident.conf");
    let map = fs::read_to_string(&path).expect("the map");
    replace(&path, &edited(&map, "orders-readers", ""));
    bed.signal(Signal::Hangup);
    told(&bed, "map.reloaded", 1).await;
    bed.kill();
    bed.postgres.start_again();
    let before = starts(&bed);
    bed.start_again_unready();
    started_again(&bed, before).await;
    until("alice's role to be gone", async || (bed.lease_roles() == [kept.clone()]).then_some(()))
        .await;
    assert_eq!(of_action(&bed, "map.reloaded").len(), 1);
}

/// A directory that only binds shows nobody without their password, and so nobody at all after a
/// start.
#[tokio::test]
async fn a_map_that_came_while_no_broker_ran_takes_away_from_who_shows_only_at_login() {
    let mut bed = TestBed::start_with(16, |config| only_binds(&every("1h")(config)));
    let path = bed.file("pg_ident.conf");
    let map = fs::read_to_string(&path).expect("the map") + "corp bob orders_write\n";
    replace(&path, &map);
    bed.signal(Signal::Hangup);
    told(&bed, "map.reloaded", 1).await;
    let (bob, carol) = (bed.login("bob").await, bed.login("carol").await);
    let (_, kept, _) = held(&issue(&bed, Caller::Session(&bob), "orders_write").await);
    held(&issue(&bed, Caller::Session(&carol), "reports_read").await);
    bed.stop();
    replace(&path, &edited(&map, "carol", "corp dave reports_read\n"));
    bed.start_again();
    until("carol's role to be gone", async || (bed.lease_roles() == [kept.clone()]).then_some(()))
        .await;
}

/// The configuration with a directory that only binds, and so shows no groups.
fn only_binds(config: &str) -> String {
    let binds = "ldapprefix = \"uid=\"\nldapsuffix = \",ou=people,dc=example,dc=test\"";
    let searches = ["ldapbase", "ldapbind", "ldapsearch", "member_of", "group_map = \"corp"];
    let kept = config.lines().filter(|line| !searches.iter().any(|word| line.starts_with(word)));
    let config =
        kept.collect::<Vec<_>>().join("\n").replace("group_map = \"duties\"", "map = \"duties\"");
    config.replace("ldapscheme", &format!("{binds}\nldapscheme"))
}

/// Nobody can be asked who is in which group, and the files of the map are what they were.
#[tokio::test]
async fn a_configuration_that_goes_by_the_same_map_otherwise_is_told_and_followed() {
    let mut bed = TestBed::start_with(16, every("1h"));
    let (path, config) = (bed.file("pg_ident.conf"), bed.file("pgbridge.toml"));
    let map = fs::read_to_string(&path).expect("the map") + "corp bob orders_read\n";
    replace(&path, &map);
    bed.signal(Signal::Hangup);
    told(&bed, "map.compared", 1).await;
    let (alice, bob) = (bed.login("alice").await, bed.login("bob").await);
    held(&issue(&bed, Caller::Session(&alice), "orders_read").await);
    let (_, kept, _) = held(&issue(&bed, Caller::Session(&bob), "orders_read").await);

    bed.stop();
    bed.directory.stop();
    let text = fs::read_to_string(&config).expect("the configuration");
    let edited = text.replacen("group_map = \"corp-groups\"\n", "", 1);
    replace(&config, &edited);
    bed.start_again_unready();
    let reloaded = told(&bed, "map.reloaded", 2).await;
    assert_eq!(reloaded[1]["map_revision"], reloaded[0]["map_revision"]);
    assert_eq!(reloaded[1]["former_map_revision"], reloaded[1]["map_revision"]);
    let detail = reloaded[1]["detail"].as_str().expect("what changed");
    let lines: Vec<&str> = detail.lines().collect();
    let maps = "the way in corp: map = \"corp\", ";
    assert_eq!(
        lines,
        [
            "the configuration has changed",
            &format!("before: {maps}group_map = \"corp-groups\", caseins_users = false"),
            &format!("now: {maps}caseins_users = false"),
        ]
    );
    until("alice's role to be gone", async || (bed.lease_roles() == [kept.clone()]).then_some(()))
        .await;

    // The same again is told no more; another way to compare names takes nothing away here.
    let before = starts(&bed);
    bed.stop();
    bed.start_again_unready();
    until("another start", async || (starts(&bed) > before).then_some(())).await;
    assert_eq!(of_action(&bed, "map.reloaded").len(), 2);
    bed.stop();
    replace(&config, &edited.replacen("map = \"corp\"", "map = \"corp\"\ncaseins_users = true", 1));
    bed.start_again_unready();
    let reloaded = told(&bed, "map.reloaded", 3).await;
    assert!(reloaded[2]["detail"].as_str().expect("what").contains("caseins_users = true"));
    assert_eq!(bed.lease_roles(), [kept]);
    // There are no two maps to compare.
    assert_eq!(of_action(&bed, "map.compared").len(), 1);

    // With another map the lines are compared, and it is said what was not.
    bed.stop();
    replace(&config, &edited);
    replace(&path, &(map + "corp dave orders_read\n"));
    bed.start_again_unready();
    let compared = told(&bed, "map.compared", 2).await;
    assert_eq!(compared[1]["cause"], "configuration_changed");
    let detail = compared[1]["detail"].as_str().expect("who gains");
    assert!(detail.starts_with("+ corp: dave may now act as orders_read"), "{detail}");
}

/// A store of before the name of the main file ceased to be a part of the revision.
#[tokio::test]
async fn a_map_by_another_name_is_the_same_map_and_so_is_one_that_an_older_broker_took() {
    let mut bed = TestBed::start_with(16, every("1h"));
    let token = bed.login("alice").await;
    let (lease, ..) = held(&issue(&bed, Caller::Session(&token), "orders_read").await);
    let path = bed.file("pg_ident.conf");
    let map = fs::read_to_string(&path).expect("the map");
    bed.stop();
    fs::rename(&path, bed.file("other.conf")).expect("another name");
    let config = fs::read_to_string(bed.file("pgbridge.toml")).expect("the configuration");
    let config = config.replacen("pg_ident.conf", "other.conf", 1);
    fs::write(bed.file("pgbridge.toml"), config).expect("written");

    let text = |text: &str| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        data_encoding::HEXLOWER.encode(digest.as_ref())
    };
    let formerly = text(&format!("postgres 16\n{}  pg_ident.conf\n", text(&map)));
    bed.start_again();
    let again = |bed: &TestBed, lease: &str| {
        let config = bed.file("pgbridge.toml").display().to_string();
        let mut explain = bed.cli("auditor");
        explain.args(["explain", "--json", "--lease", lease, "--config", &config]);
        let told: Value =
            serde_json::from_slice(&explain.output().expect("it runs").stdout).expect("JSON");
        (told["then"]["again"].clone(), told["then"]["file"].clone())
    };
    assert_eq!(again(&bed, &lease), ("same".into(), "pg_ident.conf".into()));
    let (new, ..) = held(&issue(&bed, Caller::Session(&token), "orders_read").await);
    assert_eq!(again(&bed, &new), ("same".into(), "other.conf".into()));

    bed.stop();
    fs::rename(bed.file("other.conf"), &path).expect("its name again");
    let config = fs::read_to_string(bed.file("pgbridge.toml")).expect("the configuration");
    fs::write(bed.file("pgbridge.toml"), config.replacen("other.conf", "pg_ident.conf", 1))
        .expect("written");
    {
        let store = rusqlite::Connection::open(bed.file("pgbridge.db")).expect("the store");
        let taken =
            "INSERT INTO map_revision SELECT ?1, postgres, text, first_used_at FROM map_revision";
        store.execute(taken, [&formerly]).expect("it is kept");
        store
            .execute("UPDATE lease SET map_revision = ?1", [&formerly])
            .expect("it can be changed");
    }
    let store = SqliteStore::open(&bed.file("pgbridge.db")).expect("the store");
    let record = Record {
        map_revision: MapRevision::from_hex(&formerly),
        ..Record::new(Clock::system().now(), Action::BrokerStarted, Subject::Broker)
    };
    store.commit(Vec::new(), vec![record]).await.expect("the store works");
    drop(store);
    bed.start_again();
    assert_eq!(again(&bed, &lease), ("same".into(), "pg_ident.conf".into()));
    for action in ["map.reloaded", "map.compared"] {
        assert_eq!(of_action(&bed, action), Vec::<Value>::new());
    }
    assert_eq!(bed.lease_roles().len(), 2);
}

/// The map is read as 16 reads it unless the configuration says another.
#[tokio::test]
async fn a_cluster_that_is_older_than_the_map_is_read_as_is_told_once() {
    const TOLD: &str = "the map is read as a newer PostgreSQL reads it than the cluster is";
    for (major, is_told) in [(15, true), (16, false)] {
        let bed = TestBed::start_with(major, |config| {
            let often = "[broker]\nreconcile_every = \"10s\"";
            every("1h")(config).replace("[broker]", often)
        });
        // By then it has been compared, which comes before.
        let token = bed.login("alice").await;
        held(&issue(&bed, Caller::Session(&token), "orders_read").await);
        if is_told {
            until(TOLD, async || bed.log().contains(TOLD).then_some(())).await;
        }
        assert_eq!(bed.log().matches(TOLD).count(), usize::from(is_told), "{major}");
    }
}

//! Who gains and who loses what: told once the map is in force, whatever it takes to find it out.

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use super::{every, held, issue, replace, told};
use crate::support::{Caller, Signal, TestBed};

/// Patterns that could match the same, for every role that is lent: much to compare with others.
fn hard(map: &str, between: &str) -> String {
    let mut map = map.to_owned();
    for number in 0..800 {
        let _ = writeln!(map, "corp \"/^(.*)x{number}{between}$\" \\1");
    }
    map
}

/// The `count`th comparison, with how it ended, and why.
async fn compared(bed: &TestBed, count: usize) -> (Value, String, String) {
    let record = told(bed, "map.compared", count).await[count - 1].clone();
    let word = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    let (outcome, cause) = (word("outcome"), word("cause"));
    (record, outcome, cause)
}

#[tokio::test]
async fn a_map_that_is_much_to_compare_is_in_force_meanwhile_and_called_off_by_the_next() {
    let mut bed = TestBed::start_with(16, every("1h"));
    let (path, carol) = (bed.file("pg_ident.conf"), bed.login("carol").await);
    let map = fs::read_to_string(&path).expect("the map");
    let reload = async |text: &str, count: usize| {
        replace(&path, text);
        bed.signal(Signal::Hangup);
        told(&bed, "map.reloaded", count).await[count - 1].clone()
    };
    reload(&hard(&map, ""), 1).await;
    // However much of it is found out: the next comparison begins after it.
    compared(&bed, 1).await;
    assert_eq!(issue(&bed, Caller::Session(&carol), "orders_read").await.status, 403);

    let with_carol = format!("{map}corp carol orders_read\n");
    let second = reload(&hard(&with_carol, "y?"), 2).await;
    held(&issue(&bed, Caller::Session(&carol), "orders_read").await);
    let third = reload(&hard(&format!("{with_carol}corp dave orders_read\n"), "y?"), 3).await;
    let (record, outcome, cause) = compared(&bed, 2).await;
    assert_eq!((outcome.as_str(), cause.as_str()), ("failed", "newer_map"));
    for key in ["former_map_revision", "map_revision"] {
        assert_eq!(record[key], second[key]);
    }
    let detail = record["detail"].as_str().expect("what was found by then");
    let lines: Vec<&str> = detail.lines().collect();
    assert!(lines[0].starts_with("! corp: ") && lines[0].ends_with("too long"), "{}", lines[0]);
    assert!(lines[1].starts_with("+ corp: carol may now act as orders_read"), "{}", lines[1]);
    let last = lines.last().expect("one");
    assert!(last.contains("another map has come") && last.contains("map diff"), "{last}");

    // The one after is compared with the one before it, and is little.
    let (record, outcome, _) = compared(&bed, 3).await;
    assert_eq!(outcome, "done");
    assert_eq!(record["former_map_revision"], third["former_map_revision"]);
    assert_eq!(record["former_map_revision"], second["map_revision"]);
    let detail = record["detail"].as_str().expect("what was found");
    assert!(detail.starts_with("+ corp: dave may now act as orders_read"), "{detail}");
    assert_eq!(detail.lines().count(), 1, "{detail}");

    // A broker that stops waits for none, and says so.
    reload(&hard(&map, ""), 4).await;
    bed.stop();
    let (_, outcome, cause) = compared(&bed, 4).await;
    assert_eq!((outcome.as_str(), cause.as_str()), ("failed", "broker_stopped"));
}

//! The network breaks in the middle of an exchange with the cluster: at every border between two
//! messages, one byte before it, one byte behind it, and at bytes between.
//!
//! Why this stands for every byte: neither side does anything with a part of a message (or of a
//! record of TLS, whose bytes mean nothing before the last has come and proves the others). So what
//! follows a cut depends only on how many messages are whole, and on whether a part of one more is
//! there. Both are tried for each message: all of it, all but one byte, and only its first byte. The
//! bytes between are drawn: `CUTS_SEED` draws the same again, and `CUTS=all` takes every byte.
//!
//! Revoking has hundreds of messages and is cut in turn: there it is drawn, for each message, which
//! part of it is there, all but one byte or only the first. Over many runs it is both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use pgbridge::broker::{Broker, Caller, Credential};
use pgbridge::clock::{Clock, Stopwatch};
use pgbridge::lease::{Lease, LeaseState};
use pgbridge::names::{LeaseId, Ttl};
use pgbridge::store::Store;
use pgbridge::store::sqlite::SqliteStore;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::support::inside::{
    Share, alice, audit, length, live_leases, now, request, started, wish,
};
use crate::support::proxy::Chunk;
use crate::support::{CutAfter, Inside, Postgres, Proxy, Towards, until};

const SHARE: Share = Share(1);

/// Bytes between that are drawn for each direction.
const DRAWN: usize = 15;

const BOTH: &[Towards] = &[Towards::Server, Towards::Client];

/// How the exchange is written on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    /// Each message can be seen.
    Plain,
    Tls,
}

/// What is done while the network breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Issue,
    Renew,
    Revoke,
}

/// A cluster behind a proxy, and one store for many brokers, one after the other.
struct Stand {
    inside: Inside,
    proxy: Proxy,
    store: Arc<SqliteStore>,
    /// The latest end that any renewal has asked for.
    latest: Mutex<Timestamp>,
}

/// A broker that was just started, and who calls it.
struct Fresh {
    broker: Broker,
    clock: Clock,
    alice: Caller,
}

impl Stand {
    async fn start(major: u32, wire: Wire) -> Self {
        // The proxy must be there before the configuration that names it.
        let proxy = std::sync::OnceLock::new();
        let inside = Inside::start(major, |postgres: &Postgres, config| {
            let own = proxy.get_or_init(|| Proxy::before(postgres.port())).port();
            let config = config
                .replace(&format!("port = {}\n", postgres.port()), &format!("port = {own}\n"))
                .replace("[broker]", "[broker]\nreconcile_every = \"1h\"\ncreate_within = \"5s\"");
            match wire {
                Wire::Plain => config.replace(
                    "[[cluster.profile]]\nrole = \"orders_read\"",
                    "sslmode = \"disable\"\n[[cluster.profile]]\nrole = \"orders_read\"",
                ),
                Wire::Tls => config,
            }
        })
        .await;
        if wire == Wire::Plain {
            inside.postgres.admit("hostnossl all pgbridge 127.0.0.1/32 scram-sha-256");
        }
        let proxy = proxy.into_inner().expect("the configuration was written");
        let store = inside.store("pgbridge.db");
        Self { inside, proxy, store, latest: Mutex::new(Timestamp::MIN) }
    }

    fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// A broker without a connection, whose time stands still.
    async fn fresh(&self) -> Fresh {
        self.fresh_at(now()).await
    }

    /// The same, later than every broker before it.
    async fn later(&self) -> Fresh {
        self.fresh_at(now() + Duration::from_secs(20)).await
    }

    async fn fresh_at(&self, time: Timestamp) -> Fresh {
        let clock = Clock::manual(time);
        let broker =
            self.inside.broker(SHARE, Arc::clone(&self.store) as Arc<dyn Store>, clock.clone());
        let alice = alice(&broker, self.store(), clock.now()).await;
        Fresh { broker, clock, alice }
    }

    /// Issues, with a network that works.
    async fn held(&self) -> Credential {
        let Fresh { broker, clock, alice } = self.fresh().await;
        let workers = started(&broker, &clock).await;
        let issued = broker.issue(&request(), &alice, wish()).await;
        workers.stop().await;
        issued.unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// Lets a broker compare once with a network that works, until all is in order.
    async fn compared(&self, fresh: Fresh, what: &str) -> Vec<Lease> {
        // Past the time within which roles are made, and past every pause after an attempt.
        fresh.clock.advance(Duration::from_secs(8));
        let workers = fresh.broker.start();
        let live = self.inside.in_order(SHARE, self.store(), what).await;
        workers.stop().await;
        live
    }
}

/// What was done and what it said.
enum Done {
    Issued(Option<Credential>),
    Renewed { id: LeaseId, latest: Timestamp, by_answer: Option<Lease> },
    Revoked(LeaseId),
}

/// Does `deed`, during which `watch` begins when everything is prepared.
async fn done(stand: &Stand, deed: Deed, ttl: Ttl, watch: impl FnOnce(&Proxy)) -> (Fresh, Done) {
    let request = request();
    match deed {
        Deed::Issue => {
            let fresh = stand.fresh().await;
            started(&fresh.broker, &fresh.clock).await.stop().await;
            watch(&stand.proxy);
            let issued = fresh.broker.issue(&request, &fresh.alice, wish()).await;
            (fresh, Done::Issued(issued.ok()))
        }
        Deed::Renew => {
            let held = live_leases(stand.store()).await.pop();
            let Lease { id, expires_at, .. } = match held {
                Some(lease) => lease,
                None => stand.held().await.lease,
            };
            let fresh = stand.fresh().await;
            started(&fresh.broker, &fresh.clock).await.stop().await;
            let asked = expires_at.max(fresh.clock.now() + ttl.span());
            let latest = asked.max(*stand.latest.lock().expect("nobody panics with it"));
            *stand.latest.lock().expect("nobody panics with it") = latest;
            watch(&stand.proxy);
            let renewed = fresh.broker.renew(&request, &fresh.alice, id, Some(ttl)).await;
            (fresh, Done::Renewed { id, latest, by_answer: renewed.ok() })
        }
        Deed::Revoke => {
            let id = stand.held().await.lease.id;
            let fresh = stand.later().await;
            watch(&stand.proxy);
            let workers = fresh.broker.start();
            let revoked = fresh.broker.revoke(&request, &fresh.alice, id).await;
            workers.stop().await;
            // That it must end was written down, whatever the network does.
            assert!(revoked.is_ok(), "{revoked:?}");
            (fresh, Done::Revoked(id))
        }
    }
}

/// Holds what was answered against the world, once that is in order.
async fn check(stand: &Stand, done: Done, live: Vec<Lease>, what: &str) {
    let ids: BTreeSet<LeaseId> = live.iter().map(|lease| lease.id).collect();
    match done {
        Done::Issued(Some(credential)) => {
            let Credential { lease, password, .. } = credential;
            assert_eq!(ids, BTreeSet::from([lease.id]), "{what}");
            let role = lease.role_name.as_str();
            let used = stand.inside.postgres.sql_as(role, password.expose(), "orders", "SELECT 1");
            assert!(used.is_ok(), "{what}: {used:?}");
            let Fresh { broker, clock: _, alice } = stand.later().await;
            let workers = broker.start();
            broker.revoke(&request(), &alice, lease.id).await.expect("it can be told to end");
            stand.inside.in_order(SHARE, stand.store(), what).await;
            workers.stop().await;
        }
        Done::Issued(None) => assert_eq!(ids, BTreeSet::new(), "{what}"),
        Done::Renewed { id, latest, by_answer } => {
            assert_eq!(ids, BTreeSet::from([id]), "{what}");
            let lease = live.into_iter().find(|lease| lease.id == id).expect("it is live");
            if let Some(renewed) = by_answer {
                assert_eq!(lease.expires_at, renewed.expires_at, "{what}");
            }
            let outlives = format!(
                "SELECT rolvaliduntil > timestamptz '{latest}' + interval '5 seconds' FROM pg_roles WHERE rolname = '{}'",
                lease.role_name
            );
            assert_eq!(stand.inside.see(&outlives).await, ["f"], "{what}");
        }
        Done::Revoked(id) => {
            assert_eq!(ids, BTreeSet::new(), "{what}");
            let ended = stand.store.lease(id).await.expect("the store works").expect("it is known");
            assert_eq!(ended.state, LeaseState::Revoked, "{what}");
        }
    }
}

/// Where messages (or TLS records) end, counted over all connections, by direction.
fn borders(chunks: &[Chunk], towards: Towards, wire: Wire) -> BTreeSet<u64> {
    let mut streams: BTreeMap<u64, Vec<(u64, u8)>> = BTreeMap::new();
    for chunk in chunks.iter().filter(|chunk| chunk.towards == towards) {
        let stream = streams.entry(chunk.connection).or_default();
        stream.extend((chunk.at + 1..).zip(chunk.bytes.iter().copied()));
    }
    streams.values().flat_map(|stream| borders_of(stream, towards, wire)).collect()
}

/// Where the messages of one connection end; `stream` has each byte with the place behind it.
fn borders_of(stream: &[(u64, u8)], towards: Towards, wire: Wire) -> Vec<u64> {
    let (mut borders, mut at, mut last_kind) = (Vec::new(), 0, None);
    // The first message of a client has no type; before TLS there is a question and one letter.
    let mut first = true;
    while let Some((_, kind)) = stream.get(at) {
        let number = |from: usize, count: usize| {
            let bytes = stream.get(from..from + count).unwrap_or_default();
            bytes.iter().fold(0, |number, (_, byte)| number << 8 | usize::from(*byte))
        };
        let length = match (first, towards, wire) {
            (true, Towards::Client, Wire::Tls) => 1,
            (true, Towards::Server, _) => number(at, 4),
            (_, _, Wire::Tls) => 5 + number(at + 3, 2),
            (_, _, Wire::Plain) => 1 + number(at + 1, 4),
        };
        assert!(length > 0, "a message of type {kind} has no length");
        first = false;
        at += length;
        let kind = Some(*kind);
        // Of several rows, or settings, one says as much as all of them.
        if wire == Wire::Tls || kind != last_kind {
            borders.extend(stream.get(at - 1).map(|(place, _)| *place));
        }
        last_kind = kind;
    }
    borders
}

/// Each border, the bytes just before and behind it (of a long deed one of the two for each
/// message), and of the others as many as are drawn; all of them, and some more, if the environment
/// says so.
fn places(
    chunks: &[Chunk],
    towards: Towards,
    (wire, deed): (Wire, Deed),
    rng: &mut StdRng,
) -> BTreeSet<u64> {
    let ends = chunks.iter().filter(|chunk| chunk.towards == towards);
    let total = ends.map(|chunk| chunk.at + chunk.bytes.len() as u64).max().unwrap_or(0);
    if std::env::var("CUTS").is_ok_and(|cuts| cuts == "all") {
        return (0..total + 50).collect();
    }
    let borders = borders(chunks, towards, wire);
    let mut places = borders.clone();
    for (start, end) in std::iter::once(0).chain(borders.iter().copied()).zip(&borders) {
        let parts = [start + 1, end - 1];
        match deed {
            Deed::Issue | Deed::Renew => places.extend(parts),
            Deed::Revoke => places.extend(parts.choose(rng)),
        }
    }
    places.extend((0..DRAWN).map(|_| rng.random_range(0..total)));
    places
}

async fn cut_everywhere(major: u32, wire: Wire, deed: Deed, directions: &[Towards]) {
    let seed = std::env::var("CUTS_SEED")
        .map_or_else(|_| rand::random(), |seed| seed.parse().expect("CUTS_SEED is a number"));
    println!("CUTS_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let stand = Stand::start(major, wire).await;
    let ttls: [Ttl; 2] = ["20m", "40m"].map(length);
    let (fresh, first) = done(&stand, deed, ttls[0], Proxy::record).await;
    let chunks = stand.proxy.recorded();
    let live = stand.compared(fresh, "without a cut").await;
    check(&stand, first, live, "without a cut").await;

    let begun = Stopwatch::start();
    let (mut cuts, mut missed, mut succeeded) = (0, 0, 0);
    for towards in directions.iter().copied() {
        let places = places(&chunks, towards, (wire, deed), &mut rng);
        assert!(places.len() > 10, "{places:?}");
        for (bytes, turn) in places.into_iter().zip(1_usize..) {
            let cut = CutAfter { bytes, towards };
            let what = format!("{deed:?} over {wire:?}, {cut:?}, CUTS_SEED={seed}");
            let (fresh, done) = done(&stand, deed, ttls[turn % 2], |proxy| proxy.cut(cut)).await;
            if stand.proxy.uncut() {
                cuts += 1;
            } else {
                missed += 1;
            }
            let well =
                matches!(done, Done::Issued(Some(_)) | Done::Renewed { by_answer: Some(_), .. });
            succeeded += usize::from(well);
            let live = stand.compared(fresh, &what).await;
            check(&stand, done, live, &what).await;
        }
    }
    assert!(cuts > 40, "{cuts}");
    one_record_of_each_kind(&stand).await;
    nobody_is_left(&stand).await;
    println!(
        "{deed:?} over {wire:?} on {major}: {cuts} cuts, {missed} behind the end, {succeeded} succeeded all the same, in {:?}",
        begun.elapsed()
    );
}

/// However it went, a lease was issued at most once and revoked at most once.
async fn one_record_of_each_kind(stand: &Stand) {
    let mut seen = BTreeSet::new();
    for record in audit(stand.store()).await {
        let action = record["action"].as_str().expect("an action").to_owned();
        if ["lease.issued", "lease.revoked", "lease.aborted"].contains(&action.as_str()) {
            let lease = record["lease"].as_str().expect("a lease").to_owned();
            assert!(seen.insert((action, lease)), "{record}");
        }
    }
}

/// With the last broker all its connections end.
async fn nobody_is_left(stand: &Stand) {
    let sessions = "SELECT pid FROM pg_stat_activity WHERE usename = 'pgbridge'";
    until("the sessions of brokers that are gone to end", async || {
        stand.inside.see(sessions).await.is_empty().then_some(())
    })
    .await;
}

/// F-04.
#[tokio::test(flavor = "multi_thread")]
async fn issuing_cut_at_any_message_gives_a_credential_that_works_or_none_and_no_role() {
    cut_everywhere(16, Wire::Plain, Deed::Issue, BOTH).await;
}

/// F-04.
#[tokio::test(flavor = "multi_thread")]
async fn renewing_cut_at_any_message_leaves_no_role_that_outlives_what_was_asked_for() {
    cut_everywhere(15, Wire::Plain, Deed::Renew, BOTH).await;
}

/// F-04, on the way to the cluster.
#[tokio::test(flavor = "multi_thread")]
async fn revoking_cut_at_any_message_is_carried_to_its_end() {
    cut_everywhere(16, Wire::Plain, Deed::Revoke, &[Towards::Server]).await;
}

/// F-04, on the way back.
#[tokio::test(flavor = "multi_thread")]
async fn revoking_cut_at_any_answer_is_carried_to_its_end() {
    cut_everywhere(15, Wire::Plain, Deed::Revoke, &[Towards::Client]).await;
}

/// F-04, with the records of TLS in the place of messages.
#[tokio::test(flavor = "multi_thread")]
async fn issuing_cut_at_any_record_of_tls_gives_a_credential_that_works_or_none_and_no_role() {
    cut_everywhere(15, Wire::Tls, Deed::Issue, BOTH).await;
}

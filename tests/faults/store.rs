//! The store fails at one call after the other, before it has done anything or after all of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use pgbridge::broker::{
    AccessError, Broker, Caller, Credential, IssueError, PartHealth, Rehearsal, Selection, Workers,
};
use pgbridge::clock::{Clock, Stopwatch};
use pgbridge::lease::Lease;
use pgbridge::names::LoginPassword;
use pgbridge::store::Store;
use pgbridge::store::postgres::PostgresStore;

use crate::support::inside::{
    Share, alice, audit, carol, length, live_leases, now, request, started, wish,
};
use crate::support::{FailingStore, Faults, Inside, Moment, StoreServer, password_of, until};

/// Lives that are lived side by side, each with a store of its own.
const SIDE_BY_SIDE: u64 = 12;

/// Every call of the store that a life makes.
const CALLS: [&str; 12] = [
    "admit",
    "claim",
    "clock",
    "commit",
    "lease",
    "lease_of_key",
    "leases",
    "live",
    "people",
    "session",
    "sweep",
    "unclaim",
];

/// Where the stores are.
enum Engine {
    Sqlite,
    /// Each store is a copy of the empty one, which nobody is connected to.
    Postgres(StoreServer),
}

/// The name of the empty store.
const EMPTY: &str = "empty";

impl Engine {
    async fn postgres() -> Self {
        let server = StoreServer::start_for_many(17);
        drop(PostgresStore::open(&server.fresh(EMPTY)).await.expect("a store can be made"));
        let sessions = format!("SELECT 1 FROM pg_stat_activity WHERE datname = '{EMPTY}'");
        until("the empty store to be left alone", async || {
            server.postgres.sql("postgres", &sessions).is_empty().then_some(())
        })
        .await;
        Self::Postgres(server)
    }

    /// An empty store of its own for `share`.
    async fn store(&self, inside: &Inside, share: Share) -> Arc<dyn Store> {
        match self {
            Self::Sqlite => inside.store(&format!("{}.db", share.0)),
            Self::Postgres(server) => {
                let settings = server.copy(EMPTY, &format!("life{}", share.0));
                // Beside so many others a connection may take longer than a store waits for it.
                let open = async || PostgresStore::open(&settings).await.ok();
                Arc::new(until("a store to be opened", open).await)
            }
        }
    }
}

/// One broker with its store, and who calls it.
struct Stand {
    sound: Arc<dyn Store>,
    failing: Arc<FailingStore>,
    clock: Clock,
    broker: Broker,
    alice: Caller,
    carol: Caller,
}

impl Stand {
    async fn new(inside: &Inside, engine: &Engine, share: Share) -> Self {
        let sound = engine.store(inside, share).await;
        let failing = FailingStore::before(Arc::clone(&sound));
        let clock = Clock::manual(now());
        let broker = inside.broker(share, Arc::clone(&failing) as Arc<dyn Store>, clock.clone());
        let alice = alice(&broker, &*sound, clock.now()).await;
        let carol = carol(&broker, &*sound, clock.now()).await;
        Self { sound, failing, clock, broker, alice, carol }
    }

    /// Issues; what is handed out is written down, and what is refused too.
    async fn issue(&self, ttl: &str) -> Option<Lease> {
        let request_key = Some(ttl.parse().expect("it is a key too"));
        let wish = pgbridge::broker::Wish { ttl: Some(length(ttl)), request_key, ..wish() };
        let issued = self.broker.issue(&request(), &self.alice, wish).await.ok();
        let Credential { lease, .. } = issued?;
        let records = audit(&*self.sound).await;
        let is_issued = |record: &&serde_json::Value| {
            record["lease"] == lease.id.to_string() && record["action"] == "lease.issued"
        };
        assert_eq!(records.iter().filter(is_issued).count(), 1, "{records:#?}");
        Some(lease)
    }

    async fn is_refused_what_is_not_on_offer(&self) {
        let request = request();
        let wish = pgbridge::broker::Wish { role: Some("orders_write".to_owned()), ..wish() };
        let refused = self.broker.issue(&request, &self.alice, wish).await.err();
        match refused.expect("it is not on offer") {
            IssueError::NotOnOffer { .. } => {
                let records = audit(&*self.sound).await;
                let told = records.iter().find(|record| record["request_id"] == request.id);
                assert_eq!(told.expect("it is written down")["outcome"], "refused");
            }
            IssueError::NotRecorded(_) => {}
            other => panic!("{other:?}"),
        }
    }

    async fn logs_in(&self) {
        let (request, password) = (request(), LoginPassword::new(password_of("alice")));
        let Ok(in_) = self.broker.login(&request, None, "alice", password).await else { return };
        let records = audit(&*self.sound).await;
        let told = records.iter().find(|record| record["request_id"] == request.id);
        assert_eq!(told.expect("it is written down")["outcome"], "done");
        // A token that was shown is good, as soon as the store is.
        let again = self.broker.authenticate(&request, &in_.token).await;
        assert!(matches!(again, Ok(_) | Err(AccessError::Store(_))), "{:?}", again.err());
    }

    /// Everything that changes the store, once.
    async fn live(&self, workers: Workers) -> Workers {
        self.logs_in().await;
        self.is_refused_what_is_not_on_offer().await;
        if let Some(lease) = self.issue("10m").await {
            let longer = Some(length("20m"));
            drop(self.broker.renew(&request(), &self.alice, lease.id, longer).await);
            drop(self.broker.revoke(&request(), &self.alice, lease.id).await);
        }
        if let Some(short) = self.issue("10s").await {
            self.clock.advance(Duration::from_secs(11));
            workers.stop().await;
            let workers = self.broker.start();
            self.is_over(&short).await;
            return self.ended_by_the_operator(workers).await;
        }
        self.ended_by_the_operator(workers).await
    }

    async fn ended_by_the_operator(&self, workers: Workers) -> Workers {
        self.issue("10m").await;
        let (alice, caller) = (leases_of_alice(), &self.carol);
        drop(self.broker.revoke_selected(&request(), caller, alice, Rehearsal::No).await);
        workers
    }

    /// Waits a while for the end of `lease`, which a fault may put off.
    async fn is_over(&self, lease: &Lease) {
        for _ in 0..300 {
            let known = self.sound.lease(lease.id).await.expect("the store works");
            if known.is_none_or(|lease| lease.state.is_final()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn leases_of_alice() -> Selection {
    Selection { person: Some("ldap:corp:alice".to_owned()), ..Selection::default() }
}

/// One life with `faults` among the calls of these names, or all; which calls failed in it.
async fn lived(
    inside: &Inside,
    engine: &Engine,
    share: Share,
    among: &[&'static str],
    faults: Faults,
) -> BTreeMap<&'static str, u64> {
    let what = format!("{faults:?} {among:?}");
    let stand = Stand::new(inside, engine, share).await;
    let workers = started(&stand.broker, &stand.clock).await;
    stand.failing.fail_in(among, faults);
    let workers = stand.live(workers).await;
    workers.stop().await;
    let failed = stand.failing.heal();

    // One comparison, past the time within which roles are made and past every pause.
    stand.clock.advance(Duration::from_mins(1));
    let workers = stand.broker.start();
    inside.in_order(share, &*stand.sound, &what).await;
    // And what a fault has kept can be ended as ever.
    let (alice, caller) = (leases_of_alice(), &stand.carol);
    let ended = stand.broker.revoke_selected(&request(), caller, alice, Rehearsal::No).await;
    assert!(ended.is_ok(), "{what}: {ended:?}");
    inside.in_order(share, &*stand.sound, &what).await;
    workers.stop().await;
    assert!(live_leases(&*stand.sound).await.is_empty(), "{what}");
    assert!(inside.lease_roles(share).await.is_empty(), "{what}");
    failed
}

/// Lets `count` calls in a row fail at each place, until a life has no call that fails. Some calls
/// come when the broker's own work makes them, so each that was not met on the way is met by name.
async fn sweep(major: u32, engine: Engine, count: u64, moment: Moment) {
    let inside = Inside::start(major, |_, config| {
        config.replace("[broker]", "[broker]\nreconcile_every = \"1s\"\ncreate_within = \"5s\"")
    })
    .await;
    let begun = Stopwatch::start();
    let (mut lives, mut failed) = (0, BTreeMap::new());
    loop {
        let firsts = lives + 1..=lives + SIDE_BY_SIDE;
        let of = |first: u64| {
            let share = Share(u16::try_from(first).expect("a few"));
            lived(&inside, &engine, share, &[], Faults { first, count, moment })
        };
        let run: Vec<_> = futures::stream::iter(firsts).map(of).buffered(12).collect().await;
        lives += SIDE_BY_SIDE;
        let whole = run.iter().any(BTreeMap::is_empty);
        for (call, times) in run.into_iter().flatten() {
            *failed.entry(call).or_insert(0) += times;
        }
        if whole {
            break;
        }
    }
    for call in CALLS.into_iter().filter(|call| !failed.contains_key(call)).collect::<Vec<_>>() {
        lives += 1;
        let share = Share(u16::try_from(lives).expect("a few"));
        let faults = Faults { first: 1, count, moment };
        let times = lived(&inside, &engine, share, &[call], faults).await;
        assert!(times.contains_key(call), "{call} has never failed: {failed:?}");
        failed.extend(times);
    }
    println!("{count} calls fail, {moment:?}: {lives} lives, {failed:?}, in {:?}", begun.elapsed());
}

/// F-36.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_no_more_than_what_panicked() {
    let inside = Inside::start(15, |_, config| {
        config.replace("[broker]", "[broker]\nreconcile_every = \"1s\"\ncreate_within = \"5s\"")
    })
    .await;
    let share = Share(1);
    let sound = inside.store("1.db");
    let failing = FailingStore::before(Arc::clone(&sound) as Arc<dyn Store>);
    let clock = Clock::system();
    let broker = inside.broker(share, Arc::clone(&failing) as Arc<dyn Store>, clock.clone());
    let workers = started(&broker, &clock).await;
    let alice = alice(&broker, &*sound, clock.now()).await;
    // In the writing of the intent; in the work that nobody asks for.
    for call in ["commit", "claim", "live"] {
        failing.panic_at(call);
        let issued = broker.issue(&request(), &alice, wish()).await;
        assert_eq!(issued.is_err(), call == "commit", "{call}");
        if let Ok(Credential { lease, .. }) = issued {
            let ended = broker.revoke(&request(), &alice, lease.id).await;
            assert!(ended.is_ok(), "{ended:?}");
        }
        until("the panic", async || failing.has_panicked().then_some(())).await;
        assert!(inside.in_order(share, &*sound, call).await.is_empty(), "{call}");
        let issued = broker.issue(&request(), &alice, wish()).await;
        let lease = issued.unwrap_or_else(|error| panic!("{call}: {error:?}")).lease;
        let ended = broker.revoke(&request(), &alice, lease.id).await;
        assert!(ended.is_ok_and(|lease| lease.state.is_final()), "{call}");
        assert!(inside.in_order(share, &*sound, call).await.is_empty(), "{call}");
    }
    workers.stop().await;
}

/// H-04.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_at_any_call_leaves_no_role_without_a_lease() {
    sweep(16, Engine::Sqlite, 1, Moment::Before).await;
}

/// H-04, F-35.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_for_a_while_leaves_no_role_without_a_lease() {
    sweep(15, Engine::Sqlite, 4, Moment::Before).await;
}

/// H-04.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_answer_is_lost_at_any_call_leaves_no_role_without_a_lease() {
    sweep(16, Engine::Sqlite, 1, Moment::After).await;
}

/// H-04.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_on_postgresql_that_fails_at_any_call_leaves_no_role_without_a_lease() {
    sweep(15, Engine::postgres().await, 1, Moment::Before).await;
}

/// H-04, F-35.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_on_postgresql_that_is_away_for_a_while_leaves_no_role_without_a_lease() {
    sweep(16, Engine::postgres().await, 4, Moment::Before).await;
}

/// H-04.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_on_postgresql_whose_answer_is_lost_at_any_call_leaves_no_role_without_a_lease() {
    sweep(15, Engine::postgres().await, 1, Moment::After).await;
}

/// Whoever waits for a start is told that it is one, and of a cluster that was looked at in vain
/// that it is down.
#[tokio::test]
async fn a_cluster_is_starting_until_it_was_looked_at_and_then_up_or_down() {
    let inside = Inside::start(16, |_, config| config).await;
    let store = FailingStore::before(inside.store("starting.db"));
    let clock = Clock::manual(now());
    let broker = inside.broker(Share(1), Arc::clone(&store) as Arc<dyn Store>, clock.clone());
    let cluster = async || {
        // So that the answer is a new one.
        clock.advance(Duration::from_secs(1));
        let health = broker.health().await;
        (health.clusters[0].1, health.is_ready(), health.is_starting())
    };
    assert_eq!(cluster().await, (PartHealth::Starting, false, true));

    store.refuse("live");
    let workers = broker.start();
    until("the look to be in vain", async || {
        (cluster().await == (PartHealth::Down, false, false)).then_some(())
    })
    .await;
    store.heal();
    until("the cluster to be looked at", async || {
        (cluster().await == (PartHealth::Up, true, false)).then_some(())
    })
    .await;
    workers.stop().await;
}

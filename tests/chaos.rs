//! Brokers on one store that are stopped, thawed and killed at random while people ask, renew and
//! give back, hold sessions open and come back to closed doors. Afterwards the history that they
//! wrote is held against the invariants of the reference (section 5).
//!
//! The seed is drawn and printed. `CHAOS_SEED` makes the same choices again, `CHAOS_STEPS` sets
//! how many there are; what real processes make of them is theirs.

mod history;
mod holder;
mod stranger;

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::history::History;
use self::holder::{Guise, Held, Holder};
use self::stranger::Stranger;
use crate::support::{Answer, Caller, Fellow, Signal, StoreServer, TestBed, until, wait_for};

/// How long everything may take to be over once all brokers run: T-rec.
const RECOVERY: Duration = Duration::from_mins(2);

/// Between two choices: people are not faster.
const PACE: Duration = Duration::from_millis(25);

const STEPS: u64 = 300;

/// Holders who keep the cluster busy side by side; the others keep their password.
const HOLDERS: usize = 20;

/// For how long a look at somebody counts for who renews, and for who asks.
const LOOK_FOR_RENEWAL: Duration = Duration::from_secs(2);
const LOOK_FOR_ISSUE: Duration = Duration::from_secs(10);

const READERS: &str = "cn=orders-readers,ou=groups,dc=example,dc=test";
const BOB: &str = "uid=bob,ou=people,dc=example,dc=test";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Person {
    Alice,
    /// He loses the group on the way.
    Bob,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Issue,
    Renew,
    Revoke,
    /// What nobody may have.
    Forbidden,
}

struct Asked {
    person: Person,
    wish: Wish,
    sent: Instant,
    answer: JoinHandle<Option<Answer>>,
}

struct Chaos {
    rng: StdRng,
    bed: TestBed,
    brokers: Vec<(Fellow, Condition)>,
    tokens: [String; 2],
    operator: String,
    asked: Vec<Asked>,
    holders: Vec<(Person, Holder)>,
    /// When Bob lost the group.
    left: Option<Instant>,
    /// Requests that were denied.
    denied: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Runs,
    Frozen,
    Dead,
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

impl Chaos {
    async fn step(&mut self) {
        let at = self.rng.random_range(0..self.brokers.len());
        match self.rng.random_range(0..100) {
            0..40 => self.issue(at),
            40..54 => self.renew(at),
            54..66 => self.revoke(at),
            66..71 => self.ask_forbidden(at),
            71..78 => self.freeze(at),
            78..89 => self.thaw(at),
            89..92 => self.kill(at),
            _ => self.start(at),
        }
        tokio::time::sleep(PACE).await;
        self.collect().await;
    }

    fn ask(&mut self, at: usize, person: Person, wish: Wish, path: &str, body: Value) {
        let method = if wish == Wish::Revoke { Method::DELETE } else { Method::POST };
        let token = &self.tokens[person as usize];
        let answer = self.brokers[at].0.calling(method, path, token, body);
        self.asked.push(Asked { person, wish, sent: Instant::now(), answer });
    }

    fn somebody(&mut self) -> Person {
        if self.rng.random_ratio(1, 3) { Person::Bob } else { Person::Alice }
    }

    /// With a key the same wish goes to another broker too, as a client does that had no answer.
    fn issue(&mut self, at: usize) {
        let (person, brokers) = (self.somebody(), self.brokers.len());
        let ttl = ["1s", "2s", "4s", "10s"].choose(&mut self.rng).expect("some");
        let mut wish = json!({ "cluster": "orders", "role": "orders_read", "ttl": ttl });
        if self.rng.random_ratio(1, 3) {
            let key = ["morning", "noon", "evening"].choose(&mut self.rng).expect("some");
            wish["idempotency_key"] = json!(key);
            self.ask(at, person, Wish::Issue, "/v1/leases", wish.clone());
            self.ask((at + 1) % brokers, person, Wish::Issue, "/v1/leases", wish);
        } else {
            self.ask(at, person, Wish::Issue, "/v1/leases", wish);
        }
    }

    fn renew(&mut self, at: usize) {
        let Some((person, id)) = self.one_of_the_last() else { return };
        let path = format!("/v1/leases/{id}/renew");
        self.ask(at, person, Wish::Renew, &path, json!({ "ttl": "5s" }));
    }

    fn revoke(&mut self, at: usize) {
        let Some((person, id)) = self.one_of_the_last() else { return };
        self.ask(at, person, Wish::Revoke, &format!("/v1/leases/{id}"), Value::Null);
    }

    /// A role that is not on offer, a life that is too long, somebody else's lease.
    fn ask_forbidden(&mut self, at: usize) {
        let write = json!({ "cluster": "orders", "role": "reports_read", "reason": "none" });
        let long = json!({ "cluster": "orders", "role": "orders_read", "ttl": "9h" });
        let another = self.one_of_the_last().filter(|(person, _)| *person == Person::Bob);
        match (self.rng.random_range(0..3), another) {
            (0, Some((_, id))) => {
                let path = format!("/v1/leases/{id}/renew");
                self.ask(at, Person::Alice, Wish::Forbidden, &path, json!({ "ttl": "5s" }));
            }
            (1, _) => self.ask(at, Person::Alice, Wish::Forbidden, "/v1/leases", long),
            _ => self.ask(at, Person::Alice, Wish::Forbidden, "/v1/leases", write),
        }
    }

    fn one_of_the_last(&mut self) -> Option<(Person, String)> {
        let among = self.holders.len().min(6);
        let chosen = (among > 0).then(|| self.rng.random_range(0..among))?;
        let (person, holder) = self.holders.iter().rev().nth(chosen)?;
        Some((*person, holder.held.id.clone()))
    }

    /// One at least goes on, or nobody would do anything.
    fn others_run(&self, at: usize) -> bool {
        let mut others = self.brokers.iter().enumerate().filter(|(other, _)| *other != at);
        others.any(|(_, (_, condition))| *condition == Condition::Runs)
    }

    fn freeze(&mut self, at: usize) {
        if self.brokers[at].1 == Condition::Runs && self.others_run(at) {
            self.brokers[at].0.signal(Signal::Freeze);
            self.brokers[at].1 = Condition::Frozen;
        }
    }

    fn thaw(&mut self, at: usize) {
        if self.brokers[at].1 == Condition::Frozen {
            self.brokers[at].0.signal(Signal::Thaw);
            self.brokers[at].1 = Condition::Runs;
        }
    }

    fn kill(&mut self, at: usize) {
        if self.brokers[at].1 != Condition::Dead && self.others_run(at) {
            self.brokers[at].0.kill();
            self.brokers[at].1 = Condition::Dead;
        }
    }

    fn start(&mut self, at: usize) {
        if self.brokers[at].1 == Condition::Dead {
            assert!(self.brokers[at].0.start(), "{}", self.brokers[at].0.log());
            self.brokers[at].1 = Condition::Runs;
        }
    }

    fn let_bob_leave(&mut self) {
        let change = format!("dn: {READERS}\nchangetype: modify\ndelete: member\nmember: {BOB}\n");
        self.bed.directory.change(&change);
        self.left = Some(Instant::now());
    }

    /// Takes in the answers that have come.
    async fn collect(&mut self) {
        let (come, waited): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.asked).into_iter().partition(|one| one.answer.is_finished());
        self.asked = waited;
        for Asked { person, wish, sent, answer } in come {
            if let Ok(Some(answer)) = answer.await {
                self.take(person, wish, sent, &answer);
            }
        }
    }

    fn take(&mut self, person: Person, wish: Wish, sent: Instant, answer: &Answer) {
        let type_ = answer.status >= 400 && !answer.body.is_empty();
        let is = |word: &str| type_ && answer.text("/type").ends_with(word);
        match (answer.status, wish) {
            (200..=202, Wish::Forbidden) => panic!("nobody may have this: {answer:?}"),
            (201, Wish::Issue) => {
                self.check_is_in_the_group(person, sent, LOOK_FOR_ISSUE);
                self.hold(person, answer);
            }
            (200, Wish::Renew) => self.check_is_in_the_group(person, sent, LOOK_FOR_RENEWAL),
            (403 | 404 | 409 | 422, _) if !is(":overtaken") => {
                let id = answer.headers.get("x-request-id").expect("every answer has its id");
                self.denied.push(id.to_str().expect("it is text").to_owned());
            }
            _ => {}
        }
    }

    /// I-11: who has left the group gets and renews nothing, as soon as a look of before is too old.
    fn check_is_in_the_group(&self, person: Person, sent: Instant, look: Duration) {
        let has_left = person == Person::Bob && self.left.is_some_and(|left| sent > left + look);
        assert!(!has_left, "somebody had left the group, and got or renewed a lease");
    }

    fn hold(&mut self, person: Person, answer: &Answer) {
        let held = Held {
            id: answer.text("/lease/id"),
            role: answer.text("/lease/role_name"),
            password: answer.text("/password"),
        };
        let guise = if self.rng.random() { Guise::Own } else { Guise::Group };
        let at_work = self.holders.iter().filter(|(_, holder)| holder.is_at_work()).count();
        let port = self.bed.postgres.port();
        let is_room = at_work < HOLDERS;
        let holder = if is_room { Holder::start(held, port, guise) } else { Holder::idle(held) };
        self.holders.push((person, holder));
    }

    /// Everybody runs again, and every answer has come.
    async fn let_faults_stop(&mut self) {
        for at in 0..self.brokers.len() {
            self.thaw(at);
            self.start(at);
        }
        while !self.asked.is_empty() {
            self.collect().await;
            tokio::time::sleep(PACE).await;
        }
    }

    /// I-02, with a lease that lives: within T-rec every role with our mark has its lease, and the
    /// one that lives has its role.
    async fn check_roles_have_leases(&mut self, store: &StoreServer, strangers: &[&Stranger]) {
        let wish = json!({ "cluster": "orders", "role": "orders_read", "ttl": "10m" });
        let caller = Caller::Session(&self.tokens[Person::Alice as usize]);
        let broker = &self.brokers[0].0;
        let answer = until("a lease", async || {
            let answer = broker.call(Method::POST, "/v1/leases", caller, Some(wish.clone())).await;
            (answer.status == 201).then_some(answer)
        })
        .await;
        let lives = answer.text("/lease/id");
        self.hold(Person::Alice, &answer);
        let marked = "SELECT rolname, substring(shobj_description(oid, 'pg_authid') \
                      FROM 'lease=([a-z0-9]+)') FROM pg_roles \
                      WHERE shobj_description(oid, 'pg_authid') LIKE 'pgbridge v1 %'";
        let live = "SELECT id FROM pgbridge.lease WHERE state NOT IN ('revoked', 'aborted')";
        wait_for("every role to have a lease", RECOVERY, || {
            let roles = self.bed.postgres.sql("postgres", marked);
            let ours =
                roles.iter().filter(|role| strangers.iter().all(|one| one.name() != role[0]));
            let ours: BTreeSet<String> = ours.map(|role| role[1].clone()).collect();
            let live: BTreeSet<String> =
                store.postgres.sql("store", live).concat().into_iter().collect();
            (ours.contains(&lives) && ours.is_subset(&live)).then_some(())
        });
        let caller = Caller::Session(&self.operator);
        let all = Some(json!({ "cluster": "orders" }));
        let ended = self.brokers[0].0.call(Method::POST, "/v1/operator/revoke", caller, all).await;
        assert!([200, 202].contains(&ended.status), "{ended:?}");
    }

    /// Passwords and tokens.
    fn secrets(&self) -> Vec<String> {
        let passwords = self.holders.iter().map(|(_, holder)| holder.held.password.clone());
        passwords.chain(self.tokens.clone()).chain([self.operator.clone()]).collect()
    }
}

/// Says how the choices are made again, whatever part of the test panics.
struct Repeatable(u64, &'static str);

impl Repeatable {
    fn drawn(test: &'static str) -> Self {
        let this = Self(from_environment("CHAOS_SEED").unwrap_or_else(rand::random), test);
        println!("{}", this.again());
        this
    }

    fn again(&self) -> String {
        let Self(seed, test) = self;
        format!("the same choices again: CHAOS_SEED={seed} cargo test --test integration {test}")
    }
}

impl Drop for Repeatable {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.again());
        }
    }
}

async fn start(brokers: usize, seed: u64) -> (Chaos, StoreServer) {
    let store = StoreServer::start(16);
    store.make("store");
    let lines = store.lines("store");
    let mut bed = TestBed::start_with(15, |config| {
        let config = config.replace("path = \"pgbridge.db\"", &lines);
        let config =
            config.replace("role = \"orders_read\"", "role = \"orders_read\"\nmax_leases = 1000");
        config.replace(
            "[broker]",
            "[broker]\nreconcile_every = \"1s\"\ncreate_within = \"2s\"\nrecheck_every = \"10s\"\nrecheck_grace = \"20s\"",
        )
    });
    let tokens = [bed.login("alice").await, bed.login("bob").await];
    let operator = bed.login("carol").await;
    let fellows = (0..brokers).map(|_| (bed.fellow(), Condition::Runs)).collect();
    bed.stop();
    let chaos = Chaos {
        rng: StdRng::seed_from_u64(seed),
        bed,
        brokers: fellows,
        tokens,
        operator,
        asked: Vec::new(),
        holders: Vec::new(),
        left: None,
        denied: Vec::new(),
    };
    (chaos, store)
}

async fn under_chaos(brokers: usize, test: &'static str) {
    let repeatable = Repeatable::drawn(test);
    let (mut chaos, store) = start(brokers, repeatable.0).await;
    let prefix = chaos.bed.role_prefix().to_owned();
    let near = Stranger::start(&chaos.bed, format!("{prefix}stranger")).await;
    let mut copy = Stranger::start(&chaos.bed, format!("copy_{prefix}")).await;
    let (steps, mut is_copied) = (from_environment("CHAOS_STEPS").unwrap_or(STEPS), false);
    for step in 0..steps {
        if step == steps / 2 {
            chaos.let_bob_leave();
        }
        if let Some((_, last)) = chaos.holders.last().filter(|_| !is_copied && step > steps / 4) {
            is_copied = copy.copy(&chaos.bed, &last.held);
        }
        chaos.step().await;
    }
    chaos.let_faults_stop().await;
    chaos.check_roles_have_leases(&store, &[&near, &copy]).await;
    everything_is_over(&chaos.bed, &store, near.name());
    near.assert_untouched(&chaos.bed).await;
    copy.assert_untouched(&chaos.bed).await;
    assert!(is_copied, "no mark was copied");
    the_history_holds(&mut chaos, &store).await;
}

fn everything_is_over(bed: &TestBed, store: &StoreServer, stranger: &str) {
    wait_for("every role to be gone", RECOVERY, || (bed.lease_roles() == [stranger]).then_some(()));
    let left = "SELECT id, state FROM pgbridge.lease WHERE state NOT IN ('revoked', 'aborted')";
    wait_for("every lease to be over", RECOVERY, || {
        store.postgres.sql("store", left).is_empty().then_some(())
    });
    // I-06: no lease was ever to end later than its profile lets it.
    let long = "SELECT id FROM pgbridge.lease
                WHERE expires_at > ceiling OR ceiling > requested_at + interval '8 hours'";
    assert!(store.postgres.sql("store", long).is_empty());
}

async fn the_history_holds(chaos: &mut Chaos, store: &StoreServer) {
    let secrets = chaos.secrets();
    let mut holders: Vec<Holder> =
        std::mem::take(&mut chaos.holders).into_iter().map(|(_, holder)| holder).collect();
    for holder in &mut holders {
        holder.end().await;
        assert!(holder.held.log_in(chaos.bed.postgres.port()).await.is_err(), "{}", holder.held.id);
    }
    let history = History::of(&chaos.bed);
    history.is_numbered();
    history.goes_forward();
    history.knows(&holders);
    history.access_was_over(&holders);
    history.has_one_lease_for_a_wish(store);
    history.tells_denials(&chaos.denied);
    history.holds_none_of(&secrets);
    let succeeded: u64 = holders.iter().map(Holder::succeeded).sum();
    let (handed_out, denied) = (holders.len(), chaos.denied.len());
    println!(
        "{handed_out} leases were handed out, {succeeded} statements run, {denied} requests denied"
    );
    assert!(succeeded > 0 && denied > 0, "nothing was put to the test");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_brokers_that_are_stopped_and_killed_at_random_keep_every_promise() {
    under_chaos(2, "two_brokers_that_are_stopped").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_brokers_that_are_stopped_and_killed_at_random_keep_every_promise() {
    under_chaos(3, "three_brokers_that_are_stopped").await;
}

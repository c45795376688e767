//! A power cut before every step of a lease's life. Whatever was done by then, one comparison after
//! the next start the lease roles on the cluster are those of the live leases and no other; the
//! audit is whole; and no password is handed out twice.

mod issue;
mod reconcile;
mod renew;
mod revoke;

use std::collections::BTreeSet;

use pgbridge::crash::Place;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Caller, SOON, TestBed, wait_for};

/// Compares at its start and then not for an hour: so what is mended is mended by one comparison.
/// Gives up soon on a role that was to be made, and not too soon for a slow machine.
fn once(config: &str) -> String {
    config.replace("[broker]", "[broker]\nreconcile_every = \"1h\"\ncreate_within = \"3s\"")
}

/// A broker that ends itself again and again, and bob, who may have `orders_write` from it.
struct Story {
    bed: TestBed,
    token: String,
    /// Every password that was ever handed out.
    passwords: BTreeSet<String>,
}

/// What was handed out.
struct Held {
    id: String,
    role: String,
    password: String,
}

/// A call that somebody makes.
#[derive(Clone)]
struct Request {
    method: Method,
    path: String,
    body: Option<Value>,
}

impl Request {
    fn to_issue(ttl: &str, key: Option<&str>) -> Self {
        let mut body =
            json!({ "cluster": "orders", "role": "orders_write", "ttl": ttl, "reason": "r" });
        if let Some(key) = key {
            body["idempotency_key"] = json!(key);
        }
        Self { method: Method::POST, path: "/v1/leases".to_owned(), body: Some(body) }
    }

    fn to_renew(held: &Held) -> Self {
        let path = format!("/v1/leases/{}/renew", held.id);
        Self { method: Method::POST, path, body: Some(json!({ "ttl": "20m" })) }
    }

    fn to_revoke(held: &Held) -> Self {
        Self { method: Method::DELETE, path: format!("/v1/leases/{}", held.id), body: None }
    }

    fn to_revoke_selected(selection: Value) -> Self {
        let path = "/v1/operator/revoke".to_owned();
        Self { method: Method::POST, path, body: Some(selection) }
    }
}

impl Story {
    async fn start(major: u32) -> Self {
        Self::start_with(major, |config| config).await
    }

    async fn start_with(major: u32, edit: impl Fn(String) -> String) -> Self {
        let bed = TestBed::start_with(major, |config| edit(once(&config)));
        let token = bed.login("bob").await;
        Self { bed, token, passwords: BTreeSet::new() }
    }

    async fn call(&self, request: Request) -> Answer {
        let Request { method, path, body } = request;
        self.bed.call(method, &path, Caller::Session(&self.token), body).await
    }

    /// Issues; the password is one that nobody has.
    async fn issue(&mut self, ttl: &str, key: Option<&str>) -> Held {
        let answer = self.call(Request::to_issue(ttl, key)).await;
        assert_eq!(answer.status, 201, "{answer:?}\n{}", self.bed.log());
        let [id, role, password] =
            ["/lease/id", "/lease/role_name", "/password"].map(|pointer| answer.text(pointer));
        assert!(self.passwords.insert(password.clone()), "it was handed out before");
        Held { id, role, password }
    }

    /// Makes `request` of a broker that ends itself at `place`.
    async fn crash(&mut self, place: Place, turn: u32, request: Request) {
        let token = self.token.clone();
        self.crash_as(place, turn, request, &token).await;
    }

    /// The same for another person, by `token`.
    async fn crash_as(&mut self, place: Place, turn: u32, request: Request, token: &str) {
        self.bed.crash_at(place, turn);
        let Request { method, path, body } = request;
        let answer = self.bed.try_call(method, &path, Caller::Session(token), body).await;
        // What is answered before the work is done holds no secret.
        if let Ok(answer) = answer {
            assert!(answer.status < 400, "{place:?}: {answer:?}");
            assert!(answer.json().get("password").is_none(), "{place:?}: {answer:?}");
        }
        self.bed.wait_for_crash(place);
    }

    /// Returns when no role that was on its way to be made can be made any more.
    fn pass_the_time_to_make(&self) {
        let query = "SELECT clock_timestamp() + interval '3100 milliseconds'";
        let end = self.bed.postgres.sql("postgres", query).concat().concat();
        let over = format!("SELECT clock_timestamp() > '{end}'");
        wait_for("the time to make a role to be over", SOON, || {
            (self.bed.postgres.sql("postgres", &over) == [["t"]]).then_some(())
        });
    }

    /// Holds the world against what is wanted: these roles on the cluster, whose leases are live;
    /// each move told once; nobody in with a password that is not of one of these.
    async fn is_in_order(&self, held: &[&Held]) {
        let roles: Vec<&str> = held.iter().map(|held| held.role.as_str()).collect();
        self.bed.in_order(&self.token, &roles).await;
        self.bed.assert_audit_is_whole();
    }

    async fn revoke(&self, held: &Held) {
        let answer = self.call(Request::to_revoke(held)).await;
        assert_eq!(answer.status, 200, "{answer:?}\n{}", self.bed.log());
    }
}

/// Each place belongs to a scenario, and a scenario fails that does not come to its place.
#[test]
fn every_place_is_crashed_at() {
    let crashed: BTreeSet<Place> = [
        issue::PLACES,
        renew::PLACES,
        revoke::PLAIN,
        revoke::MANY,
        revoke::PIECEMEAL,
        revoke::IN_THE_WAY,
        revoke::AS_MEMBER,
        revoke::OTHERS,
        reconcile::PLACES,
        reconcile::ORPHAN,
        reconcile::GONE,
    ]
    .into_iter()
    .flatten()
    .copied()
    .collect();
    assert_eq!(crashed, Place::ALL.iter().copied().collect());
    let names: BTreeSet<&str> = Place::ALL.iter().map(|place| place.name()).collect();
    assert_eq!(names.len(), Place::ALL.len());
}

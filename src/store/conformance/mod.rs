//! What every store must do, whatever engine it stands on: one table of promises, kept by SQLite,
//! PostgreSQL and the model in the tests, by what they are about.
//!
//! Each function gets a store that is empty and its own. Times are whole microseconds, which every
//! engine keeps. It is a part of debug builds, so that the tests that start a server can run it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::must_use_candidate,
    reason = "these are tests, whose names say what they promise"
)]

pub mod audit;
pub mod claims;
pub mod counters;
pub mod leases;
pub mod logins;
pub mod people;

use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{AuditEntry, Change, Claimant, Store, StoreError};
use crate::audit::{Action, Record, Subject};
use crate::auth::{Identity, LockoutRule, Session};
use crate::lease::{Lease, LeaseState};
use crate::mapping::{ObjectPolicy, RuleRef};
use crate::names::{
    ClusterName, LeaseId, LeaseRoleName, Principal, RequestKey, RolePrefix, SessionToken,
};

/// Gives the names of all promises to another macro, behind what stands in the brackets.
macro_rules! with_every_promise {
    ($then:ident [$($before:tt)*]) => { $crate::store::conformance::$then! { [$($before)*]
            leases {
                every_field_of_a_lease_reads_back
                a_move_writes_all_that_a_move_may_change_and_nothing_else
                a_lease_moves_from_one_version_only_once
                what_was_never_stored_is_not_found
                a_person_has_one_live_lease_for_a_request_key
                a_lease_is_replaced_in_one_step
                live_leases_are_those_that_are_not_final
                leases_are_listed_newest_first_by_what_the_filter_names
                a_role_that_is_gone_is_known_by_its_oid_and_cluster
                what_was_written_by_compared_clocks_tells_how_late_it_was_at_least
            }
            people {
                a_person_has_no_more_live_leases_of_a_role_than_there_is_room_for
                leases_opened_side_by_side_are_never_more_than_there_is_room_for
                who_has_live_leases_or_sessions_is_known
                the_live_leases_of_a_person_are_read_page_by_page
                a_person_is_known_by_every_letter_of_their_name
            }
            claims {
                what_is_due_is_claimed_oldest_first
                a_claim_keeps_everybody_else_away_until_it_is_given_back
                a_claimed_lease_is_moved_by_anybody
                claims_side_by_side_never_give_one_lease_twice
            }
            logins {
                a_session_is_found_by_its_token_until_it_ends
                what_rests_on_a_login_needs_it_to_stand
                a_login_that_ends_beside_a_wish_leaves_no_lease_unseen
                a_one_time_value_is_accepted_once
                one_of_many_who_show_a_one_time_value_is_let_through
                a_sweep_removes_what_is_over_and_nothing_else
            }
            counters {
                attempts_side_by_side_are_never_more_than_the_rule_allows
                one_counter_that_refuses_keeps_all_from_counting
                an_attempt_given_back_or_cleared_counts_no_more
            }
            audit {
                a_change_and_its_record_happen_together_or_not_at_all
                nothing_changes_without_a_record
                audit_records_are_numbered_without_gaps_and_read_back_exactly
                the_marker_key_of_the_first_broker_is_in_force
                a_revision_of_the_map_is_kept_as_it_was_read
                what_the_audit_has_of_maps_is_found_behind_whatever_came_after
                a_store_that_works_can_be_probed
            }
    } };
}

/// A promise that every store keeps.
#[derive(Clone, Copy)]
pub struct Promise {
    /// What is promised.
    pub name: &'static str,
    /// Keeps it on a store that is empty, or panics.
    pub keep: fn(Arc<dyn Store>) -> BoxFuture<'static, ()>,
}

macro_rules! listed {
    ([] $($part:ident { $($name:ident)+ })+) => {
        &[$($(Promise { name: stringify!($name), keep: |store| Box::pin($part::$name(store)) }),+),+]
    };
}

/// All of them, for a server that is too costly to be started for each.
pub const PROMISES: &[Promise] = with_every_promise!(listed []);

/// Runs every promise as a test of its own. `$fresh` is a function whose future gives an empty
/// store as `Arc<dyn Store>` and whatever must live as long as it.
#[cfg(test)]
macro_rules! conformance {
    ($fresh:path) => {
        mod conformance {
            use super::*;
            $crate::store::conformance::with_every_promise!(tests[$fresh]);
        }
    };
}

#[cfg(test)]
macro_rules! tests {
    ([$fresh:path] $($part:ident { $($name:ident)+ })+) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (store, _kept) = $fresh().await;
                $crate::store::conformance::$part::$name(store).await;
            }
        )+)+
    };
}

pub(super) use listed;
#[cfg(test)]
pub(crate) use {conformance, tests, with_every_promise};

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn micros(count: i64) -> SignedDuration {
    SignedDuration::from_micros(count)
}

pub fn person(account: &str) -> Principal {
    Principal::Ldap { directory: "corp".parse().unwrap(), account: account.to_owned() }
}

pub fn key(text: &str) -> RequestKey {
    text.parse().unwrap()
}

/// An intent of `account` on cluster `orders`, asked for at second 0.
pub fn intent(account: &str) -> Lease {
    let (id, principal) = (LeaseId::random(&mut rand::rng()), person(account));
    Lease {
        id,
        version: 1,
        state: LeaseState::Intent,
        role_name: LeaseRoleName::new(&RolePrefix::default(), &principal, id),
        principal,
        account_id: None,
        cluster: "orders".parse().unwrap(),
        database: "orders".parse().unwrap(),
        role: "orders_read".parse().unwrap(),
        role_oid: None,
        requested_at: at(0),
        create_before: at(30),
        expires_at: at(3600),
        ceiling: at(7200),
        owned_objects: ObjectPolicy::Drop,
        request_key: None,
        reason: None,
        client: "127.0.0.1".parse().unwrap(),
        rule: RuleRef { file: "pg_ident.conf".to_owned(), line: 12 },
        revision: serde_json::from_value("0b5e".repeat(16).into()).unwrap(),
        because: None,
        end: None,
        access_ended_at: None,
        gone_at: None,
        attempts: 0,
        retry_at: None,
        blockers: Vec::new(),
    }
}

pub fn record(seconds: i64) -> Record {
    Record::new(at(seconds), Action::LeaseRequested, Subject::Broker)
}

pub fn session(account: &str, token: &str, authenticated_at: Timestamp) -> Session {
    let identity = serde_json::json!({
        "principal": person(account),
        "groups": ["cn=\"staff\",dc=example,dc=test"],
        "authenticated_at": authenticated_at,
        "expires_at": authenticated_at + SignedDuration::from_hours(8),
    });
    let identity = Identity::from_session_json(&identity.to_string()).unwrap();
    let hash = SessionToken::unverified(token).hash();
    Session::begin(Uuid::new_v4(), hash, identity, authenticated_at)
}

pub async fn opened(store: &dyn Store, lease: &Lease) {
    let change = Change::OpenLease(Box::new(lease.clone()));
    store.commit(vec![change], vec![record(0)]).await.unwrap();
}

async fn try_move(store: &dyn Store, lease: &Lease) -> Result<(), StoreError> {
    store.commit(vec![Change::MoveLease(Box::new(lease.clone()))], vec![record(1)]).await
}

pub async fn audit(store: &dyn Store) -> Vec<AuditEntry> {
    store.audit_after(0, u32::MAX).await.unwrap()
}

pub fn claimant() -> Claimant {
    Claimant::random(&mut rand::rng())
}

/// Claims on cluster `orders`.
pub async fn claim(store: &dyn Store, now: Timestamp, limit: u32, by: Claimant) -> Vec<Lease> {
    let orders: ClusterName = "orders".parse().unwrap();
    store.claim(&orders, now, limit, by).await.unwrap()
}

/// A lease that is due at second 100, and so that the sooner `age` is high.
pub fn overdue(age: i64) -> Lease {
    Lease { state: LeaseState::Active, expires_at: at(100 - age), ..intent("alice") }
}

fn rule(failures: u32) -> LockoutRule {
    LockoutRule { failures, window: "10m".parse().unwrap(), pause: "5m".parse().unwrap() }
}

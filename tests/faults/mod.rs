//! Faults of the network, the disk, the clocks and the store, through the whole broker.
//!
//! The faults that a broker must stand, and the tests that show it, here or elsewhere:
//!
//! ```text
//! F-01 crash after the intent
//!      a_crash_before_any_step_of_issuing_leaves_no_role_without_a_lease_on_15
//!      what_a_broker_had_begun_that_was_killed_another_one_aborts_or_ends
//! F-02 crash after the role
//!      a_crash_before_any_step_of_issuing_leaves_no_role_without_a_lease_on_16
//!      what_a_broker_had_begun_that_was_killed_another_one_aborts_or_ends
//! F-03 crash before the answer
//!      asking_again_after_an_answer_that_was_lost_ends_the_lease_that_nobody_holds
//! F-04 connection cut anywhere
//!      issuing_cut_at_any_message_gives_a_credential_that_works_or_none_and_no_role
//!      issuing_cut_at_any_record_of_tls_gives_a_credential_that_works_or_none_and_no_role
//!      renewing_cut_at_any_message_leaves_no_role_that_outlives_what_was_asked_for
//!      revoking_cut_at_any_message_is_carried_to_its_end
//!      revoking_cut_at_any_answer_is_carried_to_its_end
//! F-05 role held up on its way
//!      a_role_that_was_sent_and_comes_too_late_is_not_made
//!      a_role_that_comes_after_its_lease_was_aborted_is_not_made
//! F-06 broker paused past the end
//!      a_broker_that_was_paused_past_the_end_of_a_lease_leaves_nothing_of_it
//!      a_broker_that_was_paused_while_its_role_was_made_hands_out_nothing_that_works
//! F-07 cluster restarts
//!      a_cluster_that_restarts_while_roles_are_made_and_ended_is_in_order_afterwards
//! F-08 fail-over loses a role
//!      on_a_cluster_that_was_set_back_revoked_roles_end_again_and_new_leases_are_lost
//! F-09 fail-over loses an end
//!      on_a_cluster_that_was_set_back_revoked_roles_end_again_and_new_leases_are_lost
//! F-10 cluster restored
//!      on_a_cluster_that_was_set_back_revoked_roles_end_again_and_new_leases_are_lost
//! F-11 store restored
//!      with_a_store_set_back_to_a_backup_no_role_stays_that_it_does_not_know
//! F-12 standby, read-only
//!      on_a_standby_nothing_is_issued_and_what_must_end_ends_once_it_is_promoted
//!      where_transactions_are_read_only_by_default_roles_are_made_and_ended_all_the_same
//! F-13 disk full
//!      on_a_full_disk_nothing_is_handed_out_and_access_ends_all_the_same
//!      on_a_disk_that_fills_up_while_a_role_is_made_nobody_gets_its_password_and_it_goes
//!      on_a_disk_that_fills_up_while_a_lease_ends_its_access_ends_and_the_rest_is_written_later
//!      on_a_full_disk_what_an_operator_ends_has_no_access_and_is_written_down_later
//! F-14 fsync fails
//!      a_disk_that_fails_to_sync_stops_the_broker_and_the_next_start_mends
//! F-15 store held by another
//!      a_store_that_another_process_holds_gives_an_error_and_nothing_half_done
//!      while_the_store_is_down_both_brokers_say_so_and_afterwards_go_on_by_themselves
//! F-16 clocks
//!      a_clock_that_jumps_neither_ends_leases_nor_prolongs_them_and_stops_issuing
//!      a_start_with_a_wrong_clock_ends_no_lease_that_is_not_over
//!      a_clock_of_a_cluster_that_jumps_ends_no_lease_and_prolongs_none
//!      a_clock_of_the_store_that_jumps_ends_no_lease_and_prolongs_none
//!      what_is_told_to_end_by_a_clock_that_is_ahead_ends_as_soon_as_others_were_asked
//!      whoever_is_told_to_end_by_a_wrong_clock_loses_all_and_may_come_back
//!      a_lease_is_renewed_once_the_clocks_were_compared_and_not_before
//! F-17 two revoke one lease
//!      two_brokers_that_remove_the_same_role_both_find_it_gone
//!      two_brokers_that_revoke_the_same_lease_tell_it_once
//! F-18 renewal meets the end
//!      a_renewal_that_meets_the_end_never_leaves_a_role_that_can_log_in
//! F-19 issue meets "disabled"
//!      a_request_held_back_gives_nothing_once_its_login_has_ended
//!      an_issue_that_meets_the_end_of_its_person_leaves_no_lease
//!      whoever_is_disabled_while_they_ask_has_no_lease_within_the_period
//! F-20 a long reader
//!      a_long_reader_of_the_roles_table_is_named_and_the_role_goes_once_it_is_done
//! F-21 databases out of reach
//!      each_database_out_of_reach_is_told_and_the_others_are_cleared
//! F-22 a DBA changed the role
//!      a_role_is_found_by_its_oid_when_a_dba_renamed_it
//!      what_others_gave_the_role_is_told_as_statements_that_take_it_back
//!      a_role_that_was_made_a_superuser_is_refused
//!      what_a_dba_gave_the_role_blocks_with_words_and_not_the_end_of_access
//!      a_role_without_our_mark_is_never_touched
//! F-23 a DBA made it anew
//!      a_role_is_ours_by_oid_and_mark_together
//! F-24 nobody gets in
//!      access_ends_when_the_cluster_lets_nobody_in_any_more
//! F-25 everything is logged
//!      no_secret_is_in_any_log_audit_store_error_or_catalogue
//! F-26 settings of a DBA
//!      settings_of_the_login_or_a_database_do_not_reach_a_removal
//! F-27 a pooler between
//!      a_pooler_that_shares_sessions_is_found_and_one_that_does_not_is_good
//! F-28 sessions that will not go
//!      a_log_in_held_back_until_its_role_is_gone_is_ended_when_it_shows
//!      a_session_that_hears_no_signal_is_told_with_its_process
//!      a_hundred_open_sessions_end
//!      nothing_of_a_hostile_holder_is_left_on_16
//! F-29 what a session leaves
//!      nothing_of_a_hostile_holder_is_left_on_13
//!      nothing_of_a_hostile_holder_is_left_on_14
//!      nothing_of_a_hostile_holder_is_left_on_15
//!      nothing_of_a_hostile_holder_is_left_on_16
//!      nothing_of_a_hostile_holder_is_left_on_17
//!      nothing_of_a_hostile_holder_is_left_on_18
//!      a_replication_slot_that_may_be_the_roles_holds_it_until_a_dba_has_looked
//! F-30 log-ins that fail or sleep
//!      a_database_that_lets_nobody_in_is_told_in_bounded_time_and_issuing_goes_on
//! F-31 hundreds end at once
//!      hundreds_of_leases_that_end_in_one_second_are_all_gone_and_issuing_goes_on
//! F-32 one cluster hangs
//!      a_cluster_that_hangs_keeps_no_other_one_waiting
//! F-33 old and new on one store
//!      a_lease_in_a_state_that_is_not_known_is_never_taken_for_one_that_is_over
//!      an_older_broker_goes_on_beside_a_newer_one_as_long_as_the_schema_allows
//!      while_a_newer_broker_changes_the_schema_nobody_writes_with_the_old_one
//! F-34 store copied
//!      two_hosts_with_a_copy_of_one_store_leave_no_role_without_a_lease_in_both
//! F-35 partition
//!      without_a_way_to_the_cluster_nothing_is_issued_and_what_must_end_ends_when_there_is_one
//!      without_a_way_to_the_store_nothing_is_issued_and_what_must_end_ends_when_there_is_one
//!      a_store_that_is_away_for_a_while_leaves_no_role_without_a_lease
//!      a_store_on_postgresql_that_is_away_for_a_while_leaves_no_role_without_a_lease
//! F-36 panic, no memory
//!      a_panic_ends_no_more_than_what_panicked
//!      a_panic_costs_one_request_and_says_nothing
//!      a_broker_that_dies_for_lack_of_memory_leaves_no_role_without_a_lease
//!      no_lock_stays_poisoned
//! F-37 OID of another by now
//!      an_oid_that_another_lease_has_by_now_is_left_to_it
//!      a_role_is_ours_by_oid_and_mark_together
//! ```
//!
//! What is not run, or is not run as far as the line goes:
//! - F-08, F-09: a cluster that was set back stands for a fail-over that lost the last transactions;
//!   the broker sees the same.
//! - F-11: that the end of the audit is missing cannot be seen without a chain of records.
//! - F-16: a clock that drifts is followed in steps; that is a table beside `broker::time`.
//! - F-18: as many meetings as fit into some seconds, with real servers; `RACES=10000` makes as many
//!   as the line says. `broker::model` runs 100,000 steps of all moves at once.
//! - F-30: no library that sleeps when it is loaded can be had as a package; a trigger at the log-in
//!   that sleeps, since 17, keeps the broker waiting at the same place.
//! - F-31: hundreds, here; `make bench BENCH=revoke` measures 5,000, and the latency of issuing.
//! - F-32: for seconds. What an attempt waits for ends by its own limits, of which none is longer.
//! - F-13 needs root, or a kernel that lets others have file systems of their own; F-14 needs root, to
//!   let the disk fail under a process that runs.

mod clocks;
mod clusters;
mod cuts;
mod disk;
mod hosts;
mod network;
mod store;

use std::fs;
use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Caller, SOON, TestBed, until};

/// A broker that compares often, and gives up soon on a role that was to be made.
fn bed(major: u32) -> TestBed {
    TestBed::start_with(major, |config| often(&config))
}

fn often(config: &str) -> String {
    config.replace("[broker]", "[broker]\nreconcile_every = \"1s\"\ncreate_within = \"5s\"")
}

fn wish(ttl: &str) -> Value {
    json!({ "cluster": "orders", "role": "orders_read", "ttl": ttl })
}

async fn issue(bed: &TestBed, token: &str, ttl: &str) -> Answer {
    bed.call(Method::POST, "/v1/leases", Caller::Session(token), Some(wish(ttl))).await
}

/// Issues and gives id, role and password of the lease.
async fn held(bed: &TestBed, token: &str, ttl: &str) -> [String; 3] {
    let answer = issue(bed, token, ttl).await;
    assert_eq!(answer.status, 201, "{answer:?}\n{}", bed.log());
    ["/lease/id", "/lease/role_name", "/password"].map(|pointer| answer.text(pointer))
}

/// Issues until that is possible.
async fn held_in_the_end(bed: &TestBed, token: &str, ttl: &str) -> [String; 3] {
    until("a lease", async || {
        let answer = issue(bed, token, ttl).await;
        let held = ["/lease/id", "/lease/role_name", "/password"];
        (answer.status == 201).then(|| held.map(|pointer| answer.text(pointer)))
    })
    .await
}

/// The answer was an error that says so, and holds no password.
#[track_caller]
fn assert_refused(answer: &Answer) {
    assert!(answer.status >= 400, "{answer:?}");
    assert!(answer.json().get("password").is_none(), "{answer:?}");
}

async fn revoke(bed: &TestBed, token: &str, id: &str) -> Answer {
    bed.call(Method::DELETE, &format!("/v1/leases/{id}"), Caller::Session(token), None).await
}

async fn lease(bed: &TestBed, token: &str, id: &str) -> Answer {
    bed.call(Method::GET, &format!("/v1/leases/{id}"), Caller::Session(token), None).await
}

/// Returns once the lease is in `state`.
async fn is_in_state(bed: &TestBed, token: &str, id: &str, state: &str) -> Answer {
    until(&format!("state {state} of {id}"), async || {
        let answer = lease(bed, token, id).await;
        (answer.status == 200 && answer.text("/state") == state).then_some(answer)
    })
    .await
}

/// The table above names every fault, and tests that are there.
#[test]
fn every_fault_has_a_test_by_that_name() {
    let table: Vec<&str> =
        include_str!("mod.rs").lines().take_while(|line| line.starts_with("//!")).collect();
    for fault in 1..=37 {
        let begins = format!("//! F-{fault:02} ");
        assert!(table.iter().any(|line| line.starts_with(&begins)), "{begins} is not in the table");
    }
    let names = table.iter().filter_map(|line| line.strip_prefix("//!      "));
    let mut sources = String::new();
    for root in ["tests", "src"] {
        read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join(root), &mut sources);
    }
    for name in names {
        assert!(sources.contains(&format!("fn {name}()")), "there is no test {name}");
    }
}

/// F-36: a lock that somebody held when they panicked is taken by the next all the same.
#[test]
fn no_lock_stays_poisoned() {
    let mut files = Vec::new();
    list(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut locks = 0;
    for file in files {
        // What only tests are made of may panic as it likes.
        let path = file.display().to_string();
        if ["/model/", "/tests", "/testing"].iter().any(|word| path.contains(word)) {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a source is text");
        let own = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let flat: String = own.split_whitespace().collect();
        for taken in [".lock().", ".read().", ".write()."] {
            for (at, _) in flat.match_indices(taken) {
                let after = &flat[at + taken.len()..];
                let gives_up = ["unwrap()", "expect("].iter().any(|word| after.starts_with(word));
                assert!(!gives_up, "{path}: {}", after.chars().take(80).collect::<String>());
                let goes_on = "unwrap_or_else(PoisonError::into_inner)";
                locks += usize::from(after.starts_with(goes_on));
            }
        }
    }
    assert!(locks > 10, "{locks}");
}

fn read_all(directory: &Path, into: &mut String) {
    let mut files = Vec::new();
    list(directory, &mut files);
    for file in files {
        into.push_str(&fs::read_to_string(file).expect("a source is text"));
    }
}

/// Every source under `directory`.
fn list(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            list(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

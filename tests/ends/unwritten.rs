//! Ends that the store takes only later, or not all of them: the access ends all the same, and what
//! was done is told.

use pgbridge::broker::{Credential, RenewLeaseError, Workers};
use pgbridge::store::StoreError;

use super::{
    Arc, Caller, Clock, Duration, Faults, Lease, LeaseError, LeaseState, Moment, Rehearsal,
    Selection, Share, Stand, Store, audit, carol, now, request, started, until, wish,
};
use crate::support::inside::bob;

/// Every call from the `first` on.
fn from(first: u64) -> Faults {
    Faults { first, count: u64::MAX, moment: Moment::Before }
}

fn on_orders() -> Selection {
    Selection { cluster: "orders".parse().ok(), ..Selection::default() }
}

impl Stand {
    async fn begun(major: u32, clock: Clock) -> (Self, Workers) {
        let stand = Self::new(major, clock).await;
        let workers = started(&stand.broker, &stand.clock).await;
        (stand, workers)
    }

    async fn issue(&self, caller: &Caller) -> Lease {
        let issued = self.broker.issue(&request(), caller, wish()).await;
        let Credential { lease, .. } = issued.unwrap_or_else(|error| panic!("{error:?}"));
        assert!(self.can_log_in(&lease).await);
        lease
    }

    async fn bob(&self) -> Caller {
        bob(&self.broker, &*self.sound, self.clock.now()).await
    }

    async fn carol(&self) -> Caller {
        carol(&self.broker, &*self.sound, self.clock.now()).await
    }

    async fn end(&self, carol: &Caller, selection: Selection) -> Result<Vec<Lease>, LeaseError> {
        self.broker.revoke_selected(&request(), carol, selection, Rehearsal::No).await
    }

    async fn is_revoked(&self, lease: &Lease) {
        until("the lease to be revoked", async || {
            (self.lease(lease.id).await.state == LeaseState::Revoked).then_some(())
        })
        .await;
    }

    /// The last record of `action` about `lease`, if there is one.
    async fn told(&self, action: &str, lease: &Lease) -> Option<String> {
        let records = audit(&*self.sound).await;
        let mut of = records.iter().rev().filter(|record| record["lease"] == lease.id.to_string());
        let record = of.find(|record| record["action"] == action)?;
        Some(record["detail"].as_str().unwrap_or_default().to_owned())
    }

    fn directory_says(&self, ldif: &[String]) {
        self.inside.directory.change(&ldif.join("\n"));
        // A look at a person counts for two seconds.
        self.clock.advance(Duration::from_secs(3));
    }
}

fn entry(person: &str, change: &str) -> String {
    format!("dn: uid={person},ou=people,dc=example,dc=test\n{change}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_cannot_be_written_down_keeps_no_other_waiting() {
    let (stand, workers) = Stand::begun(16, Clock::system()).await;
    let (alice, carol) = (stand.alice().await, stand.carol().await);
    let older = stand.issue(&alice).await;
    let newer = stand.issue(&alice).await;
    stand.failing.refuse("commit");
    assert!(stand.end(&carol, on_orders()).await.is_err());
    // The first of the two that are owed cannot be read.
    let rows = rusqlite::Connection::open(stand.inside.file("1.db")).expect("the file is there");
    let id = newer.id.to_string();
    let rule = "SELECT rule FROM lease WHERE id = ?1";
    let rule: String = rows.query_row(rule, [&id], |row| row.get(0)).expect("it is there");
    let set = |rule: &str| {
        let text = "UPDATE lease SET rule = ?2 WHERE id = ?1";
        rows.execute(text, [&id, rule]).expect("it can be written")
    };
    set("unreadable");
    stand.failing.heal();
    stand.is_revoked(&older).await;
    assert!(stand.sound.lease(newer.id).await.is_err());
    assert!(!stand.can_log_in(&newer).await);
    set(&rule);
    stand.is_revoked(&newer).await;
    workers.stop().await;
}

/// The operator is told of it, and all others end.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_cannot_be_read_keeps_no_other_from_an_operators_end() {
    let (stand, workers) = Stand::begun(16, Clock::system()).await;
    let (alice, bob, carol) = (stand.alice().await, stand.bob().await, stand.carol().await);
    let broken = stand.issue(&bob).await;
    let rows = rusqlite::Connection::open(stand.inside.file("1.db")).expect("the file is there");
    let breaks = "UPDATE lease SET rule = 'unreadable' WHERE id = ?1";
    rows.execute(breaks, [broken.id.to_string()]).expect("it can be written");
    let person = Some(alice.identity().principal().key());
    for selection in [on_orders(), Selection { person, ..Selection::default() }] {
        let lease = stand.issue(&alice).await;
        let told = stand.end(&carol, selection).await;
        let is_unread = matches!(told, Err(LeaseError::Store(StoreError::Unreadable { .. })));
        assert!(is_unread, "{told:?}");
        stand.is_revoked(&lease).await;
    }
    workers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_are_missing_lose_the_access_when_the_store_cannot_write_it_down() {
    let (stand, workers) = Stand::begun(16, Clock::manual(now())).await;
    let (carol, people) = (stand.carol().await, [stand.alice().await, stand.bob().await]);
    let leases = [stand.issue(&people[0]).await, stand.issue(&people[1]).await];
    stand.directory_says(&["alice", "bob"].map(|person| {
        entry(person, &format!("changetype: modrdn\nnewrdn: uid=not-{person}\ndeleteoldrdn: 1\n"))
    }));
    for (caller, lease) in people.iter().zip(&leases) {
        let refused = stand.broker.renew(&request(), caller, lease.id, None).await;
        assert!(matches!(refused, Err(RenewLeaseError::LoginEnded)), "{refused:?}");
        assert!(stand.can_log_in(lease).await);
    }
    stand.failing.refuse("commit");
    let missing = Selection { missing_from: "corp".parse().ok(), ..Selection::default() };
    let failed = stand.end(&carol, missing).await;
    assert!(matches!(failed, Err(LeaseError::Store(_))), "{failed:?}");
    for lease in &leases {
        assert!(!stand.can_log_in(lease).await);
    }
    stand.failing.heal();
    for lease in &leases {
        stand.is_revoked(lease).await;
    }
    workers.stop().await;
}

/// F-13, F-19; the other, who is not gone, keeps what he has.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_gone_loses_the_access_when_the_store_cannot_write_it_down() {
    let (stand, workers) = Stand::begun(15, Clock::manual(now())).await;
    let (alice, bob) = (stand.alice().await, stand.bob().await);
    let (lost, kept) = (stand.issue(&alice).await, stand.issue(&bob).await);
    stand.directory_says(&[entry(
        "alice",
        "changetype: modify\nadd: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z\n",
    )]);
    stand.failing.refuse("commit");
    assert!(stand.broker.renew(&request(), &alice, lost.id, None).await.is_err());
    assert!(stand.broker.renew(&request(), &bob, kept.id, None).await.is_err());
    assert!(!stand.can_log_in(&lost).await);
    assert!(stand.can_log_in(&kept).await);
    stand.failing.heal();
    stand.is_revoked(&lost).await;
    assert!(stand.broker.renew(&request(), &bob, kept.id, None).await.is_ok());
    workers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_takes_the_access_when_the_lease_has_moved_and_cannot_be_read_again() {
    let (stand, workers) = Stand::begun(15, Clock::system()).await;
    let (alice, carol) = (stand.alice().await, stand.carol().await);
    let lease = stand.issue(&alice).await;
    // The first change is the note of what was asked for.
    stand.failing.overtake_in(&["commit", "lease"], from(2));
    let failed = stand.end(&carol, on_orders()).await;
    assert!(matches!(failed, Err(LeaseError::Store(_))), "{failed:?}");
    assert!(!stand.can_log_in(&lease).await);
    stand.failing.heal();
    stand.is_revoked(&lease).await;
    workers.stop().await;
}

/// F-36.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_panics_is_told_like_one_that_failed_and_made_again() {
    let (stand, workers) = Stand::begun(16, Clock::system()).await;
    let alice = stand.alice().await;
    let lease = stand.issue(&alice).await;
    // What a DBA gave only a DBA takes back, so that there are attempts.
    let given = format!("CONNECT ON DATABASE reports TO {}", lease.role_name);
    stand.inside.see(&format!("GRANT {given}")).await;
    let held = stand.broker.revoke(&request(), &alice, lease.id).await.expect("it is told to end");
    assert_eq!(held.state, LeaseState::Quarantined);
    stand.failing.panic_at("commit");
    until("the panic to be told", async || {
        let told = stand.told("lease.quarantined", &lease).await;
        told.filter(|detail| detail.contains("panicked"))
    })
    .await;
    stand.inside.see(&format!("REVOKE {}", given.replace(" TO ", " FROM "))).await;
    stand.is_revoked(&lease).await;
    workers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_to_the_attic_is_told_once_though_the_store_did_not_take_it_at_first() {
    let (stand, workers) = Stand::begun(16, Clock::system()).await;
    let alice = stand.alice().await;
    // Written are the request, the end of the access, what is about to go, and the end of the role.
    for (table, faults) in [("kept", None), ("late", Some(Faults { count: 2, ..from(3) }))] {
        let lease = stand.issue(&alice).await;
        let role = &lease.role_name;
        let given = format!(
            "CREATE TABLE workbench.{table} (); ALTER TABLE workbench.{table} OWNER TO {role}"
        );
        stand.inside.postgres.sql("orders", &given);
        if let Some(faults) = faults {
            stand.failing.fail_in(&["commit"], faults);
        }
        let ended = stand.broker.revoke(&request(), &alice, lease.id).await;
        assert!(ended.is_ok(), "{ended:?}");
        stand.is_revoked(&lease).await;
        assert_eq!(stand.failing.heal().contains_key("commit"), faults.is_some(), "{table}");
        let told = stand.told("lease.revoked", &lease).await.expect("it is told");
        assert!(told.contains(&format!("workbench.{table}")), "{told}");
        assert_eq!(told.matches("1 object in database orders").count(), 1, "{told}");
        let announced = stand.told("lease.handing_over", &lease).await;
        assert_eq!(announced.is_some(), faults.is_none(), "{table}");
    }
    workers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_a_lease_goes_whatever_group_a_dba_put_it_in() {
    let (stand, workers) = Stand::begun(16, Clock::system()).await;
    let alice = stand.alice().await;
    let member = stand.issue(&alice).await;
    stand.issue(&alice).await;
    workers.stop().await;
    let text = format!("CREATE ROLE of_the_dba; GRANT of_the_dba TO {}", member.role_name);
    stand.inside.see(&text).await;
    // A store that knows of neither.
    let store = stand.inside.store("2.db");
    let shared = Arc::clone(&store) as Arc<dyn Store>;
    let broker = stand.inside.broker(Share(1), shared, stand.clock.clone());
    let workers = started(&broker, &stand.clock).await;
    stand.inside.in_order(Share(1), &*store, "roles without a lease").await;
    workers.stop().await;
    let records = audit(&*store).await;
    let removed = records.iter().filter(|record| record["action"] == "orphan.removed");
    let ends: Vec<_> = removed.map(|record| record["outcome"].clone()).collect();
    assert_eq!(ends, ["done", "done"], "{records:#?}");
}

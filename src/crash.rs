//! Places where a test can end the process, as a power cut would: nothing is flushed, nothing is
//! undone. In a release build there are none.
//!
//! There is one before each thing that a lease's life does to the store or to a cluster, and before
//! each answer: so one between any two of them. A place in a loop is also there before the second
//! turn, between the first effect of the loop and the next.

/// The places, each with its name.
macro_rules! places {
    ($($place:ident $name:literal,)*) => {
        /// A place. Its name says what has not begun there yet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "each has its name")]
        pub enum Place {
            $($place,)*
        }

        impl Place {
            /// Every place, in the order of a lease's life.
            pub const ALL: &[Self] = &[$(Self::$place,)*];

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$place => $name,)*
                }
            }
        }
    };
}

places! {
    IssueIntent "issue before the intent",
    IssueRole "issue before the role",
    IssueAbort "issue before the abort of what was not made",
    IssueActivation "issue before activation",
    IssueEndUndelivered "issue before the end of what may have been made",
    IssueAnswer "issue before the answer",
    IssueEndUnheard "issue before the end of what nobody heard of",

    RenewWithdraw "renew before a lease that is refused is withdrawn",
    RenewStore "renew before the store",
    RenewCluster "renew before the cluster",
    RenewTakeBack "renew before it is taken back",
    RenewAnswer "renew before the answer",

    RevokeRequest "revoke before it is requested",
    RevokeExpiry "revoke before an expiry is written",
    RevokeSelected "revoke before the leases of a selection",
    RevokePerson "revoke before the leases of a person whose logins ended",
    RevokeUnwritten "revoke before access ends that the store did not take",
    RevokeDueUnwritten "revoke before access ends that is over and the store did not take",
    RevokeAccess "revoke before the access ends",
    RevokeWay "revoke before what keeps the role from closing is ended",
    RevokeJoin "revoke before the broker becomes a member to act for the role",
    RevokeJoinToSignal "revoke before the broker becomes a member to end sessions in the way",
    RevokeSignalAsMember "revoke before it ends sessions in the way as a member",
    RevokePiecemeal "revoke before memberships are taken one by one",
    RevokePiecemealCommit "revoke before what was taken one by one is committed",
    RevokeSessions "revoke before the sessions end",
    RevokeAccessEnded "revoke before its end is written",
    RevokeRemove "revoke before the role is removed",
    RevokeCloseAgain "revoke before it is closed again",
    RevokePrepared "revoke before a prepared transaction is rolled back",
    RevokeShared "revoke before shared objects are cleared",
    RevokeDatabase "revoke before a database is cleared",
    RevokeHandOver "revoke before it is written down what is about to go to the attic",
    RevokePortion "revoke before a portion of a database is cleared",
    RevokeDropSome "revoke before a portion of what it owns is dropped one by one",
    RevokeDropSomeCommit "revoke before what was dropped one by one is committed",
    RevokeDrop "revoke before the drop",
    RevokeVerify "revoke before it is verified",
    RevokeHold "revoke before the quarantine is written",
    RevokeLateEnd "revoke before an end of access is written after the drop",
    RevokeClose "revoke before the last record",
    RevokeGiveBack "revoke before the claim is given back",
    RevokeAnswer "revoke before the answer",

    ReconcileUndelivered "reconcile before the end of what nobody has",
    ReconcileAbort "reconcile before the abort of what was never made",
    ReconcileSetBack "reconcile before a role that outlives its lease is set back",
    ReconcileLostAccess "reconcile before the sessions of a lost role end",
    ReconcileLost "reconcile before a lease is lost",
    ReconcileFound "reconcile before a role without a lease is written down",
    ReconcileAccess "reconcile before the access of a role without a lease ends",
    ReconcileRemove "reconcile before a role without a lease is removed",
    ReconcileRemoved "reconcile before its removal is written",

    RecheckPerson "recheck before the logins of a person end",
    RecheckLeases "recheck before the leases of a person whose logins ended",

    WatchSessions "watch before a session without a role ends",
}

/// The environment variable that names a file. While that file holds the name of a place, and
/// after a `#` the turn that is meant, the process ends there.
pub const VARIABLE: &str = "PGBRIDGE_CRASH_FILE";

/// Ends the process here, if a test wants that: in a debug build whose environment says where.
#[inline]
pub fn at(place: Place) {
    #[cfg(debug_assertions)]
    if let Some(file) = std::env::var_os(VARIABLE) {
        wanted(place, std::path::Path::new(&file));
    }
    #[cfg(not(debug_assertions))]
    let _ = place;
}

/// Ends the process if `file` wants it to end at `place`, now.
#[cfg(debug_assertions)]
fn wanted(place: Place, file: &std::path::Path) {
    use std::sync::atomic::{AtomicU32, Ordering};
    /// How often the place that is wanted was come to.
    static TURNS: AtomicU32 = AtomicU32::new(0);

    let Ok(text) = std::fs::read_to_string(file) else { return };
    let (name, turn) = text.trim_end().split_once('#').unwrap_or((text.trim_end(), "1"));
    let here = name == place.name();
    if here && turn.parse() == Ok(TURNS.fetch_add(1, Ordering::Relaxed) + 1) {
        // What a test looks for, to know that this place was come to.
        let _ = std::fs::write(file, format!("crashed {name}"));
        std::process::abort();
    }
}

//! A lease: one login role on one cluster, lent to one person for a while.
//!
//! Invariant: nothing here does I/O, reads the time, is async or makes its own randomness.

mod blocker;
mod diff;
mod explanation;
mod marker;
pub mod plan;
mod state;

pub use blocker::{Blocker, BlockerKind, Holder};
pub use diff::{Finding, FoundRole, LiveLease, compare, leads_to};
pub use explanation::{Again, LeaseExplanation, PastDecision, explain, holder_of};
pub use marker::{
    KeyFingerprint, KeyFingerprintError, Marker, MarkerKey, MarkerKeyError, MarkerReading,
};
pub use state::{EndReason, Lease, LeaseState, MoveError, Order, RenewError, Terms};

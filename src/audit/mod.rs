//! What is written down, before any answer leaves.
//!
//! Invariant: nothing here does I/O or reads the time. No field can hold a secret.

mod record;

pub use record::{Action, Outcome, Record, Subject, cut};

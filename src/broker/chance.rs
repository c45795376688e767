//! The one place of the broker that draws: ids, tokens and passwords.

#[cfg(not(test))]
use rand::CryptoRng;

/// The operating system's generator, for this thread.
#[cfg(not(test))]
pub(super) fn rng() -> impl CryptoRng {
    rand::rng()
}

/// The same, unless a run of the model has said what is drawn.
#[cfg(test)]
pub(super) use super::model::rng;

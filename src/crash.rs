//! Places where a test can end the process, as a power cut would: nothing is flushed, nothing is
//! undone. In a release build there are none.

/// Every place, in the order of a lease's life. "before" means that the step has not begun.
pub const PLACES: [&str; 14] = [
    "issue before the intent",
    "issue before the role",
    "issue before activation",
    "issue before the answer",
    "renew before the store",
    "renew before the cluster",
    "renew before the answer",
    "revoke before it is requested",
    "revoke before the access ends",
    "revoke before its end is written",
    "revoke before the role is removed",
    "revoke before a database is cleared",
    "revoke before the drop",
    "revoke before the last record",
];

/// The environment variable that names the place.
pub const VARIABLE: &str = "PGBRIDGE_CRASH";

/// Ends the process here, if a test wants that: in a debug build whose environment names `place`.
#[inline]
pub fn at(place: &'static str) {
    #[cfg(debug_assertions)]
    if std::env::var_os(VARIABLE).is_some_and(|wanted| wanted == place) {
        std::process::abort();
    }
    #[cfg(not(debug_assertions))]
    let _ = place;
}

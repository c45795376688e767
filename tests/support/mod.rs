//! Starts the real servers for a test: PostgreSQL, OpenLDAP, Samba AD, a KDC and pgbridge itself.
//!
//! Everything listens on loopback, keeps its data in a temporary directory and ends with the test,
//! also when the test panics or its process is killed. Nothing is shared between tests but two
//! caches: the PostgreSQL binaries that `scripts/install-packages test` put in place, and under
//! `target/tmp` one freshly seeded data directory per major and one domain of Active Directory, which
//! are copied for each server.
//!
//! As root the daemons run as `postgres` and `openldap` (neither starts as root), else as oneself.

pub mod broker;
pub mod daemon;
pub mod directory;
pub mod failing_store;
pub mod initiator;
pub mod inside;
pub mod kdc;
pub mod order;
pub mod postgres;
pub mod proxy;
pub mod samba;
pub mod scratch;
pub mod store;
pub mod tls;

pub use broker::{Answer, Caller, Fellow, TestBed};
pub use daemon::{Signal, send};
pub use directory::{Directory, SERVICE_DN, SERVICE_PASSWORD, password_of};
pub use failing_store::{FailingStore, Faults, Moment};
pub use inside::Inside;
pub use order::{locked_roles, until, waiting};
pub use postgres::{BROKER_LOGIN, BROKER_PASSWORD, Postgres};
pub use proxy::{CutAfter, Proxy, Towards};
pub use samba::{AD_GROUPS, AD_PEOPLE, AD_SERVICE_DN, DOMAIN, DomainController};
pub use scratch::Scratch;
pub use store::StoreServer;
pub use tls::TestCa;

use std::thread::sleep;
use std::time::Duration;

/// How long what a broker or a server does by itself may take to show. Nothing takes that long: it is for
/// a machine that does much else beside.
pub const SOON: Duration = Duration::from_mins(2);

/// Asks `probe` every 10 ms until it gives a value.
///
/// # Panics
/// When it has given none after about `limit`, naming `what` was waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    const PAUSE: Duration = Duration::from_millis(10);
    for _ in 0..=limit.as_millis() / PAUSE.as_millis() {
        if let Some(found) = probe() {
            return found;
        }
        sleep(PAUSE);
    }
    panic!("waited {limit:?} for {what}");
}

/// Whether this process may do everything. A test that needs that and must not says so and ends.
pub fn am_root() -> bool {
    let root = scratch::is_root();
    if !root {
        eprintln!("not run: only root may do this");
    }
    root
}

//! Clusters that are older than the release as which the map is read. The map is the broker's own,
//! and decides alike for all clusters; but its lines are proven on a server and copied from one, and
//! an older one would read some of them otherwise.

use std::sync::Mutex;
use std::sync::PoisonError;

use tracing::warn;

use super::{Broker, Site};

/// The major release that was looked at last, if any was.
#[derive(Default)]
pub(super) struct Release(Mutex<Option<u32>>);

impl Release {
    /// Whether `major` is another release than the one that was looked at last.
    fn is_new(&self, major: u32) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.replace(major) != Some(major)
    }
}

impl Broker {
    /// Looks which release the cluster's server is. One that cannot be asked says so elsewhere.
    pub(super) async fn look_at_release(&self, site: &Site) {
        let Ok(health) = site.cluster.probe().await else { return };
        self.note_release(site, health.version / 10_000);
    }

    /// Says once that the cluster is older than the map is read as; again when it was another
    /// release in between.
    fn note_release(&self, site: &Site, major: u32) {
        let read_as = self.policy().map.dialect();
        if site.release.is_new(major) && major < read_as.major() {
            warn!(
                cluster = %site.cluster.name(),
                server.major = major,
                map.postgres = read_as.major(),
                "the map is read as a newer PostgreSQL reads it than the cluster is: the same lines can mean something else there; `postgres` in its [[cluster]] or in [map] of the configuration says how the map is read"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_new_once_and_again_after_another() {
        let release = Release::default();
        let seen = [15, 15, 16, 16, 15].map(|major| release.is_new(major));
        assert_eq!(seen, [true, false, true, false, true]);
    }
}

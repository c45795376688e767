//! Following the files of the map: another content is read, written down, and then used. What
//! cannot be used leaves the map before in force.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::Broker;
use super::in_force::MapHealth;
use crate::audit::{Action, Outcome, Record, Subject};
use crate::causes::with_causes;
use crate::mapping::{
    DiffContext, IdentMap, MapLook, MapMistake, MapReading, MapSource, MapUses, Policy, diff,
};
use crate::store::{Change, StoreError, StoredMap};

/// For how long files must look the same: whoever writes one may have written half of it.
const SETTLED: Duration = Duration::from_millis(500);

/// How often files that change again and again are read before they are left to the next time.
const READINGS: u32 = 20;

/// Lines that say who gains and loses what in one audit record, and in the log.
const CHANGES: usize = 100;

/// How long finding that out may take before the new map comes into force without it.
const DIFFERENCE_WITHIN: Duration = Duration::from_secs(10);

/// Mistakes that stand in one audit record; the log has all.
const TOLD: usize = 20;

/// Why the files are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// Somebody asked for it.
    Told,
    /// It was time.
    Due,
}

impl Broker {
    /// Looks at the files of the map for ever, and takes what they say.
    pub(super) async fn watch_map_for_ever(&self, stop: CancellationToken) {
        let Some((source, every)) = &self.0.map_source else { return };
        self.0.in_force.note_health(MapHealth::Current);
        let mut seen = None;
        loop {
            let occasion = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.0.in_force.told() => Occasion::Told,
                () = sleep(every.duration()) => Occasion::Due,
            };
            self.look_at_map(source, occasion, &mut seen).await;
        }
    }

    /// Looks whether the files have changed since they were `seen`, and if so takes what they say,
    /// or refuses it. What could not be written down is not seen: the next look tries it again.
    async fn look_at_map(
        &self,
        source: &MapSource,
        occasion: Occasion,
        seen: &mut Option<MapLook>,
    ) {
        if let Some(seen) = seen
            && looks_like(source, seen.clone()).await
        {
            self.tell_unchanged(occasion);
            return;
        }
        let Some(MapReading { map, look }) = settled(source).await else {
            warn!(
                "the files of the map change again and again; the map before stays in force until they rest"
            );
            return;
        };
        let done = match map {
            Ok(map) if map.revision() == self.policy().map.revision() => {
                self.note_as_before();
                self.tell_unchanged(occasion);
                Ok(())
            }
            Ok(map) => match self.policy().misfits(&map).as_slice() {
                [] => self.take_map(map).await,
                missing => self.refuse_map(missing).await,
            },
            Err(mistakes) => {
                let told: Vec<String> = mistakes.iter().map(told).collect();
                self.refuse_map(&told).await
            }
        };
        match done {
            Ok(()) => *seen = Some(look),
            Err(failed) => {
                self.0.in_force.note_health(MapHealth::Stale);
                error!(
                    cause = with_causes(&failed),
                    "the files of the map have changed, but that cannot be written down; the map before stays in force, and it is tried again"
                );
            }
        }
    }

    fn tell_unchanged(&self, occasion: Occasion) {
        match (occasion, self.0.in_force.health()) {
            (Occasion::Due, _) => {}
            (Occasion::Told, MapHealth::Current) => {
                info!(map.revision = %self.policy().map.revision(), "the map has not changed");
            }
            (Occasion::Told, MapHealth::Stale) => {
                warn!(
                    "the files of the map have not changed since they were refused; the map before stays in force"
                );
            }
        }
    }

    /// Notes that the files say what the map in force says.
    fn note_as_before(&self) {
        if self.0.in_force.health() == MapHealth::Stale {
            info!(map.revision = %self.policy().map.revision(), "the files of the map say again what is in force");
        }
        self.0.in_force.note_health(MapHealth::Current);
    }

    /// Puts `map` in force, once that is on disk.
    ///
    /// # Errors
    /// When the store does not take the record. Then nothing has changed.
    async fn take_map(&self, map: IdentMap) -> Result<(), StoreError> {
        let former = self.policy();
        let next = Arc::new(former.with_map(map));
        let (revision, former_revision) =
            (next.map.revision().clone(), former.map.revision().clone());
        let changes = difference(&former, &next).await;
        let record = Record {
            map_revision: Some(revision.clone()),
            former_map_revision: Some(former_revision.clone()),
            detail: Some(changes.join("\n")),
            ..Record::new(self.now(), Action::MapReloaded, Subject::Broker)
        };
        self.store().commit(vec![self.keep(&next.map)], vec![record]).await?;
        self.0.in_force.replace(next);
        self.0.in_force.note_health(MapHealth::Current);
        info!(map.revision = %revision, map.former_revision = %former_revision, "another map is in force");
        for change in changes {
            info!(map.revision = %revision, "{change}");
        }
        Ok(())
    }

    /// What keeps `map` for ever.
    pub(super) fn keep(&self, map: &IdentMap) -> Change {
        Change::KeepMap(Box::new(StoredMap {
            revision: map.revision().clone(),
            dialect: map.dialect(),
            text: map.text().clone(),
            first_used_at: self.now(),
        }))
    }

    /// Tells all that keeps the files from being used, and writes down the first of it.
    ///
    /// # Errors
    /// When the store does not take the record.
    async fn refuse_map(&self, mistakes: &[String]) -> Result<(), StoreError> {
        self.0.in_force.note_health(MapHealth::Stale);
        for mistake in mistakes {
            error!("{mistake}");
        }
        error!(
            mistakes = mistakes.len(),
            "the files of the map have changed and cannot be used; the map before stays in force"
        );
        counter!("pgbridge_map_refused_total").increment(1);
        let record = Record {
            former_map_revision: Some(self.policy().map.revision().clone()),
            ..Record::new(self.now(), Action::MapRefused, Subject::Broker)
        };
        let record = record.ended(Outcome::Refused, "map_mistakes", &bounded(mistakes));
        self.store().commit(Vec::new(), vec![record]).await
    }
}

/// Who gains and who loses what when `next` takes the place of `former`, one a line. Whoever loses
/// something must not keep it until that is found out: it is left out when it takes too long.
async fn difference(former: &Arc<Policy>, next: &Arc<Policy>) -> Vec<String> {
    let (former, next) = (Arc::clone(former), Arc::clone(next));
    let find = tokio::task::spawn_blocking(move || {
        let uses = MapUses::of(&next);
        let context = DiffContext { uses: Some(&uses), identities: &[] };
        diff(&former.map, &next.map, &context).lines(CHANGES)
    });
    match timeout(DIFFERENCE_WITHIN, find).await {
        Ok(Ok(changes)) if changes.is_empty() => vec!["nobody gains or loses anything".to_owned()],
        Ok(Ok(changes)) => changes,
        _ => vec![
            "who gains and loses what was not found out in time; `pgbridge map diff` says it"
                .to_owned(),
        ],
    }
}

/// A mistake with what to do about it.
fn told(mistake: &MapMistake) -> String {
    let hint = Some(&mistake.hint).filter(|hint| !hint.is_empty());
    hint.map_or_else(|| mistake.to_string(), |hint| format!("{mistake}; {hint}"))
}

/// The first mistakes, one a line, and how many more there are.
fn bounded(mistakes: &[String]) -> String {
    let mut told: Vec<String> = mistakes.iter().take(TOLD).cloned().collect();
    if let Some(more) = mistakes.len().checked_sub(TOLD).filter(|more| *more > 0) {
        told.push(format!("and {more} more, which the log has"));
    }
    told.join("\n")
}

/// Reads the files until two looks agree. Nothing when they do not come to rest, or cannot be read
/// by a defect.
async fn settled(source: &MapSource) -> Option<MapReading> {
    for _ in 0..READINGS {
        let files = source.clone();
        let reading = tokio::task::spawn_blocking(move || files.read()).await.ok()?;
        sleep(SETTLED).await;
        if looks_like(source, reading.look.clone()).await {
            return Some(reading);
        }
    }
    None
}

/// Reads away from the threads that serve requests: the files may lie on a network.
async fn looks_like(source: &MapSource, look: MapLook) -> bool {
    let files = source.clone();
    let same = tokio::task::spawn_blocking(move || files.still_looks_like(&look)).await;
    same.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::io;
    use std::path::Path;
    use std::sync::Mutex;

    use super::*;
    use crate::mapping::{Dialect, MapFiles};

    /// A file that holds one text after the other, each for one look, and the last for ever.
    struct Writing(Mutex<Vec<&'static str>>);

    impl MapFiles for Writing {
        fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
            let mut texts = self.0.lock().unwrap();
            let text = if texts.len() > 1 { texts.remove(0) } else { texts[0] };
            Ok(text.as_bytes().to_vec())
        }

        fn list(&self, _: &Path) -> io::Result<Vec<OsString>> {
            Ok(Vec::new())
        }
    }

    fn writing(texts: &[&'static str]) -> MapSource {
        let files = Arc::new(Writing(Mutex::new(texts.to_vec())));
        MapSource { dialect: Dialect::default(), main: "pg_ident.conf".into(), files }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_being_written_is_read_again_until_it_rests() {
        const WHOLE: &str = "corp alice orders_read\ncorp bob orders_write\n";
        let half = ["", "corp alice ord", "corp alice orders_read\n", WHOLE];
        for count in 0..=half.len() {
            let texts: Vec<&str> = half[..count].iter().copied().chain([WHOLE]).collect();
            let map = settled(&writing(&texts)).await.unwrap().map.unwrap();
            let whole = IdentMap::parse(Dialect::default(), "pg_ident.conf", WHOLE.as_bytes());
            assert_eq!(map.revision(), whole.unwrap().revision(), "{texts:?}");
        }
        let never: Vec<&str> = ["corp a b\n", "corp a c\n"].repeat(READINGS as usize);
        assert!(settled(&writing(&never)).await.is_none());
    }

    #[test]
    fn a_record_of_many_mistakes_stays_small_and_says_how_many_there_are() {
        let mistakes: Vec<String> = (1..=23).map(|line| format!("map:{line}:1: no")).collect();
        let told = bounded(&mistakes);
        assert!(told.starts_with("map:1:1: no\nmap:2:1: no\n"), "{told}");
        assert!(told.ends_with("map:20:1: no\nand 3 more, which the log has"), "{told}");
        assert_eq!(bounded(&mistakes[..20]).lines().count(), 20);
        assert_eq!(bounded(&mistakes[..1]), "map:1:1: no");
    }
}

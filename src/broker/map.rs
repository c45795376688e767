//! Following the files of the map: another content is read, written down, and then used. What
//! cannot be used leaves the map before in force.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::Broker;
use super::difference::{Configuration, Former, Taken};
use super::in_force::{InForce, MapHealth};
use super::owed::Debt;
use crate::audit::{Action, Outcome, Record, Subject};
use crate::causes::with_causes;
use crate::mapping::{IdentMap, MapLook, MapMistake, MapReading, MapRevision, MapSource, Policy};
use crate::store::{Change, StoreError, StoredMap};

/// For how long files must look the same: whoever writes one may have written half of it.
const SETTLED: Duration = Duration::from_millis(500);

/// How often files that change again and again are read before they are left to the next time.
const READINGS: u32 = 20;

/// How long the files may take to be read before the map counts as stale.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Why the files were not taken when no two looks at them agree.
const RESTLESS: &str = "the files of the map change again and again, or reading them fails by a defect; the map before stays in force until they rest";

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

/// What the files were when they were looked at last.
enum Seen {
    /// What they were is not known, or is to be tried again.
    Nothing,
    /// They rested, and what they said was taken or refused.
    At(MapLook),
    /// They did not rest, which was told.
    Restless,
}

impl Broker {
    /// Looks at the files of the map for ever, and takes what they say.
    pub(super) async fn watch_map_for_ever(&self, stop: CancellationToken) {
        let Some((source, every)) = &self.0.map_source else { return };
        self.0.in_force.note_health(MapHealth::Current);
        let mut seen = Seen::Nothing;
        loop {
            let occasion = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.0.in_force.told() => Occasion::Told,
                () = sleep(every.duration()) => Occasion::Due,
            };
            let files = Files { source, in_force: &self.0.in_force, stop: &stop };
            self.look_at_map(&files, occasion, &mut seen).await;
        }
    }

    /// Looks whether the files have changed since they were `seen`, and if so takes what they say,
    /// or refuses it. A map that could not be written down is not seen: the next look tries it again.
    async fn look_at_map(&self, files: &Files<'_>, occasion: Occasion, seen: &mut Seen) {
        if let Seen::At(seen) = seen
            && files.look_like(seen.clone()).await
        {
            self.tell_unchanged(occasion);
            return;
        }
        let reading = files.settled().await;
        if files.stop.is_cancelled() {
            return;
        }
        let Some(MapReading { map, look }) = reading else {
            // What they looked like before may come back: it is to be read again then.
            self.note_restless(seen).await;
            *seen = Seen::Restless;
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
                missing => {
                    self.refuse_map(missing).await;
                    Ok(())
                }
            },
            Err(mistakes) => {
                let told: Vec<String> = mistakes.iter().map(told).collect();
                self.refuse_map(&told).await;
                Ok(())
            }
        };
        match done {
            Ok(()) => *seen = Seen::At(look),
            Err(failed) => {
                *seen = Seen::Nothing;
                self.0.in_force.note_health(MapHealth::Stale);
                error!(
                    cause = with_causes(&failed),
                    "the files of the map have changed, but that cannot be written down; the map before stays in force, and it is tried again"
                );
            }
        }
    }

    /// Notes that nobody knows what the files say: once, in the audit too, for as long as that lasts.
    /// Whoever may write one of them must not keep by it, unseen, what another one takes away.
    async fn note_restless(&self, before: &Seen) {
        match before {
            Seen::Restless => warn!("{RESTLESS}"),
            Seen::Nothing | Seen::At(_) => self.refuse_map(&[RESTLESS.to_owned()]).await,
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

    /// Puts `map` in force, once that is on disk. Who gains and who loses what is found out after.
    ///
    /// # Errors
    /// When the store does not take the record. Then nothing has changed.
    async fn take_map(&self, map: IdentMap) -> Result<(), StoreError> {
        let former = self.policy();
        let next = Arc::new(former.with_map(map));
        let (revision, former_revision) =
            (next.map.revision().clone(), former.map.revision().clone());
        let record = self.reloaded(&next, &former_revision);
        self.store().commit(vec![self.keep(&next.map)], vec![record]).await?;
        self.0.in_force.replace(Arc::clone(&next));
        self.0.in_force.note_health(MapHealth::Current);
        info!(map.revision = %revision, map.former_revision = %former_revision, "another map is in force");
        self.0.differences.find(Taken {
            former: Former::Held(former),
            revision,
            next,
            configuration: Configuration::Same,
            owed_since: None,
        });
        Ok(())
    }

    /// The record that the map of `policy` has come.
    pub(super) fn reloaded(&self, policy: &Policy, former: &MapRevision) -> Record {
        Record {
            map_revision: Some(policy.map.revision().clone()),
            former_map_revision: Some(former.clone()),
            policy: Some(policy.configured()),
            ..Record::new(self.now(), Action::MapReloaded, Subject::Broker)
        }
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

    /// Tells all that keeps the files from being used, and writes down the first of it: now, or once
    /// the store takes it.
    async fn refuse_map(&self, mistakes: &[String]) {
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
        if let Err(failed) = self.store().commit(Vec::new(), vec![record.clone()]).await {
            warn!(
                cause = with_causes(&failed),
                "that the files of the map cannot be used is not written down yet; it is tried again"
            );
            self.0.owed.note(Debt::Noted { changes: Vec::new(), record });
        }
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

/// The files of the map, read away from the threads that serve requests: they may lie on a network.
/// No two reads go on at once, so that files which hang hold up one thread and no more.
struct Files<'a> {
    source: &'a MapSource,
    in_force: &'a InForce,
    stop: &'a CancellationToken,
}

impl Files<'_> {
    /// Reads them until two looks agree. Nothing when they do not come to rest, cannot be read by a
    /// defect, or the broker stops.
    async fn settled(&self) -> Option<MapReading> {
        for _ in 0..READINGS {
            let reading = self.beside(MapSource::read).await?;
            self.stop.run_until_cancelled(sleep(SETTLED)).await?;
            if self.look_like(reading.look.clone()).await {
                return Some(reading);
            }
        }
        None
    }

    async fn look_like(&self, look: MapLook) -> bool {
        self.beside(move |files| files.still_looks_like(&look)).await.unwrap_or(false)
    }

    /// Reads in a thread of its own. While that does not come back the map is stale: nobody knows
    /// what the files say. Nothing by a defect, or when the broker stops.
    async fn beside<Read: Send + 'static>(
        &self,
        read: impl FnOnce(&MapSource) -> Read + Send + 'static,
    ) -> Option<Read> {
        let files = self.source.clone();
        let mut reading = tokio::task::spawn_blocking(move || read(&files));
        if let Ok(read) = timeout(READ_WITHIN, &mut reading).await {
            return read.ok();
        }
        let before = self.in_force.health();
        self.in_force.note_health(MapHealth::Stale);
        error!(
            "the files of the map do not answer; the map before stays in force, and nothing more is read until they do"
        );
        let read = self.stop.run_until_cancelled(reading).await?;
        self.in_force.note_health(before);
        info!("the files of the map answer again");
        read.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::io;
    use std::path::Path;
    use std::sync::Mutex;

    use super::*;
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use tokio::task::yield_now;
    use tokio::time::advance;

    use crate::mapping::{AccessMaps, Dialect, MapFiles, Policy};

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

    /// A file that answers as often as it is let.
    struct Hanging {
        reads: AtomicUsize,
        let_go: Mutex<mpsc::Receiver<()>>,
    }

    impl MapFiles for Hanging {
        fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
            self.reads.fetch_add(1, Ordering::SeqCst);
            self.let_go.lock().unwrap().recv().unwrap();
            Ok(b"corp alice orders_read\n".to_vec())
        }

        fn list(&self, _: &Path) -> io::Result<Vec<OsString>> {
            Ok(Vec::new())
        }
    }

    fn in_force() -> InForce {
        let map = IdentMap::parse(Dialect::default(), "pg_ident.conf", b"corp a b\n").unwrap();
        let (ways, access) = (BTreeMap::new(), AccessMaps::default());
        InForce::new(Policy { map, ways, access, targets: Vec::new() }, [].into_iter())
    }

    async fn settled(source: &MapSource) -> Option<MapReading> {
        let (in_force, stop) = (in_force(), CancellationToken::new());
        Files { source, in_force: &in_force, stop: &stop }.settled().await
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_hangs_makes_the_map_stale_and_holds_up_one_thread_until_it_comes_back() {
        let (go, let_go) = mpsc::channel();
        let hanging = Arc::new(Hanging { reads: AtomicUsize::new(0), let_go: Mutex::new(let_go) });
        let files = Arc::clone(&hanging) as Arc<dyn MapFiles + Send + Sync>;
        let source = MapSource { dialect: Dialect::default(), main: "pg_ident.conf".into(), files };
        let (in_force, stop) = (Arc::new(in_force()), CancellationToken::new());
        let reading = tokio::spawn({
            let (in_force, stop) = (Arc::clone(&in_force), stop.clone());
            async move {
                let files = Files { source: &source, in_force: &in_force, stop: &stop };
                (files.settled().await.is_some(), files.settled().await.is_some())
            }
        });
        while hanging.reads.load(Ordering::SeqCst) == 0 {
            yield_now().await;
        }
        advance(READ_WITHIN / 2).await;
        yield_now().await;
        assert_eq!(in_force.health(), MapHealth::Current);
        advance(READ_WITHIN / 2).await;
        while in_force.health() == MapHealth::Current {
            yield_now().await;
        }
        advance(READ_WITHIN * 100).await;
        yield_now().await;
        assert_eq!(hanging.reads.load(Ordering::SeqCst), 1);

        // It comes back, and so does the look after it; the next read hangs for ever.
        go.send(()).unwrap();
        while in_force.health() == MapHealth::Stale {
            yield_now().await;
        }
        go.send(()).unwrap();
        advance(SETTLED).await;
        while hanging.reads.load(Ordering::SeqCst) < 3 {
            yield_now().await;
        }
        assert_eq!(in_force.health(), MapHealth::Current);
        advance(READ_WITHIN).await;
        while in_force.health() == MapHealth::Current {
            yield_now().await;
        }
        stop.cancel();
        assert_eq!(reading.await.unwrap(), (true, false));
        go.send(()).unwrap();
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

//! `pgbridge map diff`: who gains and who loses what.

use std::io;
use std::path::Path;

use super::files::{self, MapError};
use crate::cli::args::MapDiff;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::operate::{OperateError, store_of};
use crate::cli::terminal::{self, Shown, note, safe_json, warn};
use crate::config::MapDisk;
use crate::mapping::{
    Dialect, DiffContext, Effort, IdentMap, MapDifference, RevisionBeginning, diff,
};
use crate::store;

/// Digits of a revision before the name of a file that is no file any more.
const SHOWN_DIGITS: usize = 12;

/// The maps are too much to compare all of them.
const NOT_WHOLE: Exit = Exit::Own(3);

/// Compares two maps.
pub(super) async fn run(command: &MapDiff) -> Result<Exit, Failure> {
    let settings = command.config.as_deref().map(files::settings).transpose()?;
    let of_config = settings.as_ref().map(|settings| settings.dialect);
    let dialect = command.postgres.or(of_config).unwrap_or_default();
    let identities = command.identities.as_deref().map(files::identities).transpose()?;
    let disk = settings.as_ref().map(|settings| settings.disk.clone()).unwrap_or_default();
    let old = map(&command.old, dialect, &disk, command).await?;
    let new = map(&command.new, dialect, &disk, command).await?;
    let context = DiffContext {
        uses: settings.as_ref().map(|settings| &settings.uses),
        identities: identities.as_deref().unwrap_or_default(),
    };
    let difference = diff(&old, &new, &context, &Effort::default());
    if command.json {
        let json = safe_json(&format!("{:#}", difference.to_json()));
        terminal::answer(&json).map_err(Failure::Output)?;
    } else {
        say(&difference).map_err(Failure::Output)?;
    }
    Ok(match (difference.is_whole(), difference.is_empty()) {
        (false, _) => NOT_WHOLE,
        (true, true) => Exit::Done,
        (true, false) => Exit::Failed,
    })
}

/// What changes is the answer; what decides nothing is told beside it.
fn say(difference: &MapDifference) -> io::Result<()> {
    for idle in difference.idle() {
        warn(Shown::new(idle));
    }
    for misfit in difference.misfits() {
        warn(Shown::new(format!("the broker would refuse the new map: {misfit}")));
    }
    if difference.before() != difference.after() {
        for map in difference.caseins_users() {
            let told = "upper and lower case are the same in names that its lines spell out";
            warn(Shown::new(format!("map {map}: {told} (`caseins_users`)")));
        }
    }
    if difference.is_empty() {
        note("nobody gains or loses anything");
        return Ok(());
    }
    let changes = difference.changes().iter().map(|change| Shown::new(change).to_string());
    let left = difference.not_compared().iter().map(|left| Shown::new(left).to_string());
    let lines: Vec<String> = changes.chain(left).collect();
    terminal::answer(&lines.join("\n"))
}

/// The map in a file; or one that the broker of the configuration has had in force, by the beginning
/// of its revision.
async fn map(
    named: &Path,
    dialect: Dialect,
    disk: &MapDisk,
    command: &MapDiff,
) -> Result<IdentMap, Failure> {
    let digits = named.to_str().filter(|named| is_hex(named) && !Path::new(named).exists());
    match (&command.config, digits.map(|digits| (digits, RevisionBeginning::from_hex(digits)))) {
        (Some(config), Some((digits, Some(beginning)))) => {
            stored(config, (digits, beginning), command.postgres).await
        }
        (_, Some((digits, _))) => {
            Err(MapError::NeitherFileNorRevision { named: Shown::new(digits) }.into())
        }
        (_, None) => files::map(named, dialect, disk),
    }
}

/// Whether it may be meant as a revision.
fn is_hex(named: &str) -> bool {
    !named.is_empty() && named.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A map of the store, read as it was then unless another release is named.
async fn stored(
    config: &Path,
    (named, beginning): (&str, RevisionBeginning),
    postgres: Option<Dialect>,
) -> Result<IdentMap, Failure> {
    let store = store::open_read_only(store_of(config)?).await.map_err(OperateError::Store)?;
    let mut found = store.map_revisions(&beginning).await.map_err(OperateError::Store)?;
    let Some(revision) = found.pop() else {
        return Err(MapError::NoRevision { named: Shown::new(named), beginning }.into());
    };
    if !found.is_empty() {
        found.push(revision);
        return Err(MapError::ManyRevisions { beginning, found }.into());
    }
    let kept = store.map_revision(&revision).await.map_err(OperateError::Store)?;
    let kept = kept.ok_or(MapError::NoRevision { named: Shown::new(named), beginning })?;
    let dialect = postgres.unwrap_or(kept.dialect);
    let map = IdentMap::load(dialect, kept.text.main(), &kept.text);
    let map = map.map_err(|mistakes| files::refused(Path::new(revision.as_str()), mistakes))?;
    let digits: String = revision.as_str().chars().take(SHOWN_DIGITS).collect();
    Ok(map.called(&revision).shown_at(|file| format!("{digits}:{file}")))
}

//! `pgbridge map diff`: who gains and who loses what.

use std::path::Path;

use super::files::{self, MapError};
use crate::cli::args::MapDiff;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::operate::{OperateError, store_of};
use crate::cli::terminal::{self, Shown, note, safe_json};
use crate::mapping::{Dialect, DiffContext, IdentMap, MapRevision, diff};
use crate::store;

/// Compares two maps.
pub(super) async fn run(command: &MapDiff) -> Result<Exit, Failure> {
    let settings = command.config.as_deref().map(files::settings).transpose()?;
    let of_config = settings.as_ref().map(|settings| settings.dialect);
    let dialect = command.postgres.or(of_config).unwrap_or_default();
    let identities = command.identities.as_deref().map(files::identities).transpose()?;
    let old = map(&command.old, dialect, command).await?;
    let new = map(&command.new, dialect, command).await?;
    let context = DiffContext {
        uses: settings.as_ref().map(|settings| &settings.uses),
        identities: identities.as_deref().unwrap_or_default(),
    };
    let difference = diff(&old, &new, &context);
    if command.json {
        let json = safe_json(&format!("{:#}", difference.to_json()));
        terminal::answer(&json).map_err(Failure::Output)?;
    } else if difference.is_empty() {
        note("nobody gains or loses anything");
    } else {
        let lines: Vec<String> =
            difference.changes().iter().map(|change| Shown::new(change).to_string()).collect();
        terminal::answer(&lines.join("\n")).map_err(Failure::Output)?;
    }
    Ok(if difference.is_empty() { Exit::Done } else { Exit::Failed })
}

/// The map in a file; or one that the broker of the configuration has had in force, by its revision.
async fn map(named: &Path, dialect: Dialect, command: &MapDiff) -> Result<IdentMap, Failure> {
    let revision = named.to_str().and_then(MapRevision::from_hex);
    match (&command.config, revision) {
        (Some(config), Some(revision)) if !named.exists() => {
            stored(config, &revision, command.postgres).await
        }
        _ => files::map(named, dialect),
    }
}

/// A map of the store, read as it was then unless another release is named.
async fn stored(
    config: &Path,
    revision: &MapRevision,
    postgres: Option<Dialect>,
) -> Result<IdentMap, Failure> {
    let store = store::open_read_only(store_of(config)?).await.map_err(OperateError::Store)?;
    let found = store.map_revision(revision).await.map_err(OperateError::Store)?;
    let found = found.ok_or_else(|| MapError::NoRevision { revision: revision.clone() })?;
    let dialect = postgres.unwrap_or(found.dialect);
    let map = IdentMap::load(dialect, found.text.main(), &found.text);
    map.map_err(|mistakes| files::refused(Path::new(revision.as_str()), &mistakes))
}

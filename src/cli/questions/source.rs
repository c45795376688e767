//! What questions are answered from: the map and what it is used for. The secrets of the
//! configuration are read only when a server must be asked.

use std::path::{Path, PathBuf};

use crate::cli::operate::{OperateError, configuration, told};
use crate::cli::terminal::warn;
use crate::config::{self, Config, Diagnostic};
use crate::mapping::Policy;

/// What an auditor can do who may not read the files.
const ASK_THE_BROKER: &str =
    "; or ask the broker, as an auditor: `GET /v1/explain`, `/v1/who-can` and `/v1/what-can`";

/// Where answers come from.
pub(super) struct Source {
    path: PathBuf,
    /// Who may become what, as the files say it now.
    pub(super) policy: Policy,
}

impl Source {
    /// Reads the map, and what the configuration says of it.
    ///
    /// # Errors
    /// When this user may not read one of the files, or one of them has a mistake; all of those are on
    /// standard error by then.
    pub(super) fn read(path: PathBuf) -> Result<Self, OperateError> {
        match config::policy_only(&path) {
            Ok(policy) => Ok(Self { path, policy }),
            Err(diagnostics) => Err(unusable(&path, diagnostics)),
        }
    }

    /// Where the configuration is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The whole configuration, with its secrets.
    ///
    /// # Errors
    /// When it has a mistake; all of them are on standard error by then.
    pub(super) fn config(&self) -> Result<Config, OperateError> {
        configuration(&self.path)
    }
}

/// Tells what is wrong, and what an auditor can do about it.
fn unusable(path: &Path, diagnostics: Vec<Diagnostic>) -> OperateError {
    let is_of_the_map = is_of_the_map(path, &diagnostics);
    match told(path, diagnostics) {
        OperateError::Closed { told, path, mistakes, .. } => {
            OperateError::Closed { told, instead: ASK_THE_BROKER, path, mistakes }
        }
        error => {
            if is_of_the_map {
                warn(
                    "a broker that runs keeps the map that it had in force before these mistakes; \
                     which one that is cannot be known here, so ask the broker: \
                     `GET /v1/explain`, `/v1/who-can` and `/v1/what-can`",
                );
            }
            error
        }
    }
}

/// Whether a file of the map has a mistake, and not only the configuration.
fn is_of_the_map(config: &Path, diagnostics: &[Diagnostic]) -> bool {
    let config = config.display().to_string();
    diagnostics.iter().any(|diagnostic| diagnostic.file != config)
}

//! What questions are answered from: the map and what it is used for. The secrets of the
//! configuration are read only when a server must be asked.

use std::path::{Path, PathBuf};

use crate::cli::closed::Closed;
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
            Err(diagnostics) => {
                if let Some(closed) = Closed::of_config(&path) {
                    return Err(OperateError::Closed {
                        told: closed.told(),
                        instead: ASK_THE_BROKER,
                    });
                }
                let error = told(&path, &diagnostics);
                if is_of_the_map(&path, &diagnostics) {
                    warn(
                        "a broker that runs keeps the map that it had in force before these \
                         mistakes; which one that is cannot be known here, so ask the broker: \
                         `GET /v1/explain`, `/v1/who-can` and `/v1/what-can`",
                    );
                }
                Err(error)
            }
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

/// Whether a file of the map has a mistake, and not only the configuration.
fn is_of_the_map(config: &Path, diagnostics: &[Diagnostic]) -> bool {
    let config = config.display().to_string();
    diagnostics.iter().any(|diagnostic| diagnostic.file != config)
}

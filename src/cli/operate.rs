//! The commands for operators and auditors, on the broker's machine.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use super::args::{AuditCommand, OperatorCommand, command};
use super::closed;
use super::doctor;
use super::exit::Exit;
use super::failure::Failure;
use super::map;
use super::questions;
use super::terminal::{self, Shown, note, safe_json, warn};
use crate::clock::Clock;
use crate::config::{self, Config, Diagnostic, StoreSettings};
use crate::store::{self, AuditEntry, StoreError};

/// Why an operator's command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum OperateError {
    #[error("{} in the configuration {path}; nothing was done", counted(.mistakes.len()))]
    Config { path: Shown, mistakes: Vec<Diagnostic> },
    #[error("{told}{instead}")]
    Closed { told: Shown, instead: &'static str, path: Shown, mistakes: Vec<Diagnostic> },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the manual pages cannot be written to {path}")]
    Manual { path: PathBuf, source: io::Error },
}

/// Records that are read from the store at once.
const BATCH: u32 = 1000;

/// Does what an operator or auditor asked for.
pub(super) async fn run(command: OperatorCommand, clock: &Clock) -> Result<Exit, Failure> {
    match command {
        OperatorCommand::Check(file) => check(&file.config),
        OperatorCommand::Doctor(command) => doctor::run(command, clock).await,
        OperatorCommand::Explain(command) => Ok(questions::explain(command, clock).await),
        OperatorCommand::WhoCan(command) => Ok(questions::who_can(command, clock).await),
        OperatorCommand::WhatCan(command) => Ok(questions::what_can(command, clock).await),
        OperatorCommand::Map(command) => Ok(map::run(command).await),
        OperatorCommand::Audit(AuditCommand::Export { config, after }) => {
            export(&config.config, after).await
        }
        OperatorCommand::Completions { shell } => completions(shell),
        OperatorCommand::Man { dir } => manual(dir.as_deref()),
    }
}

/// Prints what was found on standard output: it is what was asked for.
fn check(path: &Path) -> Result<Exit, Failure> {
    match config::load(path) {
        Ok(config) => {
            let path = Shown::new(path.display());
            let mut found = format!("{path}: no mistakes (no server was contacted)\n");
            for odd in &config.notes {
                found.push_str(Shown::new(odd).as_str());
                found.push('\n');
            }
            terminal::answer(&found).map_err(Failure::Output)?;
            Ok(Exit::Done)
        }
        Err(diagnostics) => {
            terminal::answer(&listed(&diagnostics)).map_err(Failure::Output)?;
            note(counted(diagnostics.len()));
            Ok(Exit::Failed)
        }
    }
}

/// Where the store is. An auditor may read that, and none of the secrets beside it but the password
/// of a store on PostgreSQL, which may be that of a login of their own.
pub(super) fn store_of(path: &Path) -> Result<StoreSettings, OperateError> {
    config::store_only(path).map_err(|diagnostics| told(path, diagnostics))
}

/// The whole configuration.
///
/// # Errors
/// When it has a mistake; all of them are on standard error by then.
pub(super) fn configuration(path: &Path) -> Result<Config, OperateError> {
    config::load(path).map_err(|diagnostics| told(path, diagnostics))
}

/// Tells every mistake of the configuration in `path`, and gives what is said last.
pub(super) fn told(path: &Path, mistakes: Vec<Diagnostic>) -> OperateError {
    warn(listed(&mistakes).trim_end());
    let path = Shown::new(path.display());
    match closed::told(mistakes.iter().filter_map(|mistake| mistake.closed.as_deref())) {
        Some(told) => OperateError::Closed { told, instead: "", path, mistakes },
        None => OperateError::Config { path, mistakes },
    }
}

/// Each mistake with its place and hint, as the file's author must see it; its lines stay lines.
fn listed(diagnostics: &[Diagnostic]) -> String {
    let mut list = String::new();
    for diagnostic in diagnostics {
        for line in diagnostic.to_string().lines() {
            list.push_str(Shown::new(line).as_str());
            list.push('\n');
        }
    }
    list
}

fn counted(mistakes: usize) -> String {
    if mistakes == 1 { "1 mistake".to_owned() } else { format!("{mistakes} mistakes") }
}

/// Writes the audit, batch by batch, so that it need not fit into memory.
async fn export(path: &Path, mut after: u64) -> Result<Exit, Failure> {
    let settings = store_of(path)?;
    let store = store::open_read_only(settings).await.map_err(OperateError::Store)?;
    loop {
        let entries = store.audit_after(after, BATCH).await.map_err(OperateError::Store)?;
        let Some(last) = entries.last() else { return Ok(Exit::Done) };
        after = last.seq;
        let lines: String = entries.iter().map(numbered).collect();
        // The record byte for byte as it was made, unless a person's terminal would obey it.
        let lines = if io::stdout().is_terminal() { safe_json(&lines) } else { lines };
        terminal::hand_out(&lines).map_err(Failure::Output)?;
    }
}

/// The record as it was made, with its number as its first field.
fn numbered(entry: &AuditEntry) -> String {
    let fields = entry.json.strip_prefix('{').unwrap_or(&entry.json);
    format!("{{\"seq\":{},{fields}\n", entry.seq)
}

fn completions(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "pgbridge", &mut script);
    terminal::answer(&String::from_utf8_lossy(&script)).map_err(Failure::Output)?;
    Ok(Exit::Done)
}

fn manual(dir: Option<&Path>) -> Result<Exit, Failure> {
    let Some(dir) = dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command()).render(&mut page).map_err(Failure::Output)?;
        terminal::answer(&String::from_utf8_lossy(&page)).map_err(Failure::Output)?;
        return Ok(Exit::Done);
    };
    let written = fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(command(), dir));
    written.map_err(|source| OperateError::Manual { path: dir.to_owned(), source })?;
    Ok(Exit::Done)
}

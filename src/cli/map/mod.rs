//! `pgbridge map`: what can be asked of a map file, without a broker.

mod diff;
mod eval;
mod files;
mod lint;

use super::args::MapCommand;
use super::exit::Exit;
use super::failure::Failure;
use super::{in_one_line, terminal};

/// Does what was asked of a map.
pub(super) async fn run(command: MapCommand) -> Result<Exit, Failure> {
    match command {
        MapCommand::Eval(command) => eval::run(&command),
        MapCommand::Diff(command) => settled(diff::run(&command).await, command.json),
        MapCommand::Lint(command) => settled(lint::run(&command).await, command.json),
    }
}

/// 1 is an answer of these commands, so what could not be answered is another code. Where JSON was
/// asked for, that is JSON too.
fn settled(outcome: Result<Exit, Failure>, wants_json: bool) -> Result<Exit, Failure> {
    match outcome {
        Err(failure) if !failure.is_closed_pipe() => {
            terminal::warn(in_one_line(&failure));
            if wants_json && !matches!(failure, Failure::Output(_)) {
                // Who does not read it is told by the exit code.
                let _ = terminal::answer(&terminal::safe_json(&files::as_json(&failure)));
            }
            Ok(Exit::Own(2))
        }
        outcome => outcome,
    }
}

pub(super) use files::MapError;

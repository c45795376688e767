//! `pgbridge map`: what can be asked of a map file, without a broker.

mod diff;
mod eval;
mod files;
mod lint;

use super::args::MapCommand;
use super::exit::Exit;
use super::unanswered::settled;

/// Does what was asked of a map. 1 is an answer of these commands, so what could not be answered is
/// another code.
pub(super) async fn run(command: MapCommand) -> Exit {
    match command {
        MapCommand::Eval(command) => settled(eval::run(&command), false),
        MapCommand::Diff(command) => settled(diff::run(&command).await, command.json),
        MapCommand::Lint(command) => settled(lint::run(&command).await, command.json),
    }
}

pub(super) use files::MapError;

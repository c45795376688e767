//! What stands in the place of an answer that cannot be given.

use serde_json::{Value, json};

use super::exit::Exit;
use super::failure::Failure;
use super::in_one_line;
use super::map::MapError;
use super::operate::OperateError;
use super::terminal::{self, Shown, safe_json};
use crate::config::Diagnostic;
use crate::mapping::load_error;

/// Whatever fails, there is no answer, and the exit code must be that of none. Where JSON was asked
/// for, what is wrong is JSON too. Whoever has stopped reading half an answer is told nothing more.
pub(super) fn settled(outcome: Result<Exit, Failure>, wants_json: bool) -> Exit {
    let failure = match outcome {
        Ok(exit) => return exit,
        Err(failure) if failure.is_closed_pipe() => return Exit::Unanswered,
        Err(failure) => failure,
    };
    terminal::warn(in_one_line(&failure));
    if wants_json && !matches!(failure, Failure::Output(_)) {
        // Who does not read it is told by the exit code.
        let _ = terminal::answer(&safe_json(&as_json(&failure)));
    }
    Exit::Unanswered
}

/// What programs read in the place of an answer: what is wrong first, and where.
fn as_json(failure: &Failure) -> String {
    use OperateError::{Closed, Config};

    match failure {
        Failure::Map(
            MapError::Map { path, mistakes } | MapError::Closed { path, mistakes, .. },
        ) => load_error(&path.to_string(), mistakes),
        Failure::Operate(Config { path, mistakes } | Closed { path, mistakes, .. }) => {
            of_config(path, mistakes).to_string()
        }
        other => json!({
            "load_error": in_one_line(other), "file": null, "line": null, "column": null,
            "end_column": null, "hint": null, "mistakes": 1,
        })
        .to_string(),
    }
}

fn of_config(path: &Shown, mistakes: &[Diagnostic]) -> Value {
    let first = mistakes.first();
    let position = first.and_then(|first| first.position);
    json!({
        "load_error": first.map(|first| &first.message),
        "file": first.map_or(path.to_string(), |first| first.file.clone()),
        "line": position.map(|position| position.line),
        "column": position.map(|position| position.column),
        "end_column": position.map(|position| position.end_column),
        "hint": first.and_then(|first| first.hint.as_ref()),
        "mistakes": mistakes.len(),
    })
}

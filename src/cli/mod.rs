//! The command line: what people, operators and auditors type.
//!
//! Answers go to standard output and nothing else does. A secret is shown where it was asked for
//! ([`args::Format`]) and nowhere else: types that hold one cannot be printed. What came from a
//! server is made safe for the terminal before it is shown.

mod answers;
mod args;
mod client;
mod closed;
mod credential;
mod doctor;
mod exit;
mod failure;
mod leases;
mod login;
mod map;
mod operate;
mod person;
mod psql;
mod questions;
mod roles;
mod secret;
mod server;
mod state;
mod table;
mod terminal;
mod ticket;
mod unanswered;

pub use args::{
    About, AuditCommand, Cli, Command, ConfigFile, DeclareGone, Doctor, DoctorAnswer, Explain,
    FailOn, Format, Issue, Leases, Login, MapCommand, MapDiff, MapEval, MapLint, Member,
    MemberError, Members, OperatorCommand, Output, PersonCommand, Psql, Renew, Revoke, Selection,
    Target, TargetError, WhatCan, WhoCan, Wish, command,
};
pub use exit::Exit;
pub use server::{ServerUrl, ServerUrlError};

use std::error::Error;

use crate::causes::with_causes;
use crate::clock::Clock;
use failure::Failure;
use terminal::Shown;

pub use terminal::warn;

/// Does what a person asked for, and says on standard error why it could not be done.
pub async fn run_person(command: PersonCommand, clock: &Clock) -> Exit {
    finish(person::run(command, clock).await)
}

/// Does what an operator or auditor asked for, and says on standard error why it could not be
/// done.
pub async fn run_operator(command: OperatorCommand, clock: &Clock) -> Exit {
    finish(operate::run(command, clock).await)
}

/// An error and its causes on one line, each said once, safe to show on a terminal.
#[must_use]
pub fn in_one_line(error: &dyn Error) -> String {
    Shown::new(with_causes(error)).to_string()
}

fn finish(outcome: Result<Exit, Failure>) -> Exit {
    match outcome {
        Ok(exit) => exit,
        Err(failure) => {
            // Whoever has stopped reading half an answer knows that it was not all.
            if !failure.is_closed_pipe() {
                terminal::warn(in_one_line(&failure));
            }
            failure.exit()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn an_error_names_each_cause_once_and_cannot_steer_the_terminal() {
        let error = Layer("a", Some(Box::new(Layer("b: c", Some(Box::new(Layer("c", None)))))));
        assert_eq!(in_one_line(&error), "a: b: c");
        assert_eq!(in_one_line(&Layer("a\u{1b}[31m\nb", None)), "a\\u{1b}[31m\\nb");
    }
}

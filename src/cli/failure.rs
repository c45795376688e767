//! Why a command did not do what it was asked.

use std::io;

use super::client::ClientError;
use super::credential::CredentialError;
use super::doctor::DoctorError;
use super::exit::Exit;
use super::map::MapError;
use super::operate::OperateError;
use super::questions::QuestionError;
use super::roles::ChoiceError;
use super::server::{ServerUrl, ServerUrlError};
use super::state::StateError;
use crate::names::LeaseId;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    #[error(transparent)]
    Operate(#[from] OperateError),
    #[error(transparent)]
    Doctor(#[from] DoctorError),
    #[error(transparent)]
    Question(#[from] QuestionError),
    #[error("you are not logged in: run `pgbridge login`")]
    NotLoggedIn,
    #[error(
        "you are not logged in, and your Kerberos ticket has expired: run `kinit`, or `pgbridge login`"
    )]
    TicketExpired,
    #[error("nobody logs in at {server} by password: get a Kerberos ticket with `kinit`")]
    TicketNeeded { server: ServerUrl },
    #[error(
        "you are logged in at {session}, but PGBRIDGE_URL is {wanted}: run `pgbridge login`, or unset it"
    )]
    OtherServer { session: ServerUrl, wanted: ServerUrl },
    #[error("PGBRIDGE_URL names no server: {0}")]
    BadServer(ServerUrlError),
    #[error("which server? Give it with `--server` or in PGBRIDGE_URL")]
    NoServer,
    #[error(
        "the password cannot be asked for without a terminal: use `--user` and `--password-stdin`, or get a Kerberos ticket with `kinit`"
    )]
    NoTerminal(#[source] io::Error),
    #[error("the password cannot be read from standard input")]
    PasswordUnread(#[source] io::Error),
    #[error("a password has more than nothing in it: it was not sent")]
    BlankPassword,
    #[error("the file {path} cannot be found")]
    NoFile { path: String, source: io::Error },
    #[error("lease {lease} was issued but could not be handed to you, and was given back")]
    NotHandedOut { lease: LeaseId, source: Box<CredentialError> },
    #[error(transparent)]
    Credential(CredentialError),
    #[error(
        "psql is not installed, or not in PATH (Debian: `apt install postgresql-client`); nothing was issued"
    )]
    NoPsql,
    #[error("psql cannot be started")]
    PsqlNotStarted(#[source] io::Error),
    #[error("{leases} leases would end: say `--yes` if that is meant, or look with `--dry-run`")]
    NeedsYes { leases: usize },
    #[error("signals cannot be watched")]
    Signals(#[source] io::Error),
    #[error(transparent)]
    Map(#[from] MapError),
    #[error("the questions cannot be read from standard input")]
    QuestionsUnread(#[source] io::Error),
    #[error("standard output cannot be written")]
    Output(#[source] io::Error),
}

impl Failure {
    /// Whether the reader of standard output went away before all of the answer was written.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(source) if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// How the process ends on it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Client(failure) | Self::Credential(CredentialError::Client(failure)) => {
                failure.exit()
            }
            Self::Choice(failure) => failure.exit(),
            Self::Map(_) | Self::Question(_) => Exit::Unanswered,
            Self::NotLoggedIn
            | Self::TicketExpired
            | Self::TicketNeeded { .. }
            | Self::OtherServer { .. } => Exit::LoggedOut,
            Self::NoServer
            | Self::BadServer(_)
            | Self::NoTerminal(_)
            | Self::BlankPassword
            | Self::NeedsYes { .. } => Exit::Usage,
            Self::State(_)
            | Self::Operate(_)
            | Self::Doctor(_)
            | Self::PasswordUnread(_)
            | Self::NoFile { .. }
            | Self::NotHandedOut { .. }
            | Self::Credential(_)
            | Self::NoPsql
            | Self::PsqlNotStarted(_)
            | Self::Signals(_)
            | Self::QuestionsUnread(_)
            | Self::Output(_) => Exit::Failed,
        }
    }
}

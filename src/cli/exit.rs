//! How the process ends.

use std::process::{ExitCode, ExitStatus};

/// How the process ends, as its exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed.
    Failed,
    /// 2: the command line is wrong.
    Usage,
    /// 2: a question has no answer, where 0 is a yes and 1 is a no.
    Unanswered,
    /// 3: the server refused: not allowed, no such thing, or not possible in this state.
    Refused,
    /// 4: not logged in, or the login was refused.
    LoggedOut,
    /// 5: the server cannot be reached.
    Unreachable,
    /// A code of the command's own, which its help explains.
    Own(u8),
    /// The code of the program that was run in the person's place; 128 and the number of the
    /// signal when a signal ended it, as shells do.
    Program(u8),
}

impl Exit {
    /// What a person sees who ends pgbridge by Ctrl-C: 128 and SIGINT.
    pub(super) const INTERRUPTED: Self = Self::Program(130);

    /// The code itself.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage | Self::Unanswered => 2,
            Self::Refused => 3,
            Self::LoggedOut => 4,
            Self::Unreachable => 5,
            Self::Own(code) | Self::Program(code) => code,
        }
    }

    /// What the answer of a server with this HTTP status means.
    #[must_use]
    pub(super) fn of_status(status: u16) -> Self {
        match status {
            401 => Self::LoggedOut,
            403 | 404 | 409 | 422 => Self::Refused,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt;

        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        Self::Program(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn each_answer_has_the_code_that_the_help_promises() {
        for (status, code) in [(401, 4), (403, 3), (404, 3), (409, 3), (422, 3), (400, 1), (500, 1)]
        {
            assert_eq!(Exit::of_status(status).code(), code, "{status}");
        }
        assert_eq!(Exit::Unreachable.code(), 5);
    }

    #[test]
    fn a_program_ends_with_its_own_code_or_its_signal() {
        assert_eq!(Exit::from(ExitStatus::from_raw(3 << 8)).code(), 3);
        assert_eq!(Exit::from(ExitStatus::from_raw(15)).code(), 143);
    }
}

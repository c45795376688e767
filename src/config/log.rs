//! `[log]`: what the broker says about its work, on standard error.

use super::form;
use super::reader::Table;

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// How a line looks.
    pub format: LogFormat,
    /// The least important lines that are written.
    pub level: LogLevel,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How important a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something failed and somebody must look.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What an operator wants to have seen.
    Info,
    /// What a developer wants to see.
    Debug,
    /// Everything.
    Trace,
}

const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

impl LogLevel {
    /// The level's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

pub(super) fn read(table: Table<'_>) -> Option<LogSettings> {
    let formats = form::choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    let format = table.defaulted("format", "\"text\"", &formats);
    let level = table.defaulted("level", "\"info\"", &form::choice(LEVELS));
    table.finish();
    Some(LogSettings { format: format?, level: level? })
}

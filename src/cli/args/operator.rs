//! What operators and auditors do, with its options and its help.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::map::MapCommand;
use super::questions::{Explain, WhatCan, WhoCan};
use crate::names::ClusterName;

const EXPLAIN_JSON: &str = "{\"explanations\": […]}, each as `GET /v1/explain` answers it";
const EXPLAIN_HELP: &str = "\
Exit codes:
  0  allowed: by one way in, as one role at least
  1  denied
  2  no answer: members are not known, the files have a mistake, or something failed

Examples:
  pgbridge explain alice --cluster orders --role orders_read --config pgbridge.toml
  pgbridge explain alice --cluster orders --config pgbridge.toml \\
      --groups cn=orders-readers,ou=groups,dc=example,dc=test --json
  pgbridge explain alice --cluster orders --role orders_read --resolve --config pgbridge.toml
  pgbridge explain carol --duty auditor --config pgbridge.toml
  pgbridge explain --lease abcdefghijklmnop --config pgbridge.toml";

const WHO_CAN_JSON: &str = "what `GET /v1/who-can` answers, and the \"people\" with --resolve";
const WHO_CAN_HELP: &str = "\
Exit codes:
  0  somebody may
  1  nobody may
  2  no answer: members are not known, the files have a mistake, or something failed

Examples:
  pgbridge who-can orders_write --cluster orders --config pgbridge.toml
  pgbridge who-can orders_write --cluster orders --config pgbridge.toml --resolve --json
  pgbridge who-can --duty auditor --config pgbridge.toml";

const WHAT_CAN_JSON: &str = "{\"people\": […]}, each as `GET /v1/what-can` answers it";
const WHAT_CAN_HELP: &str = "\
Exit codes:
  0  they may act as a role at least, or have a duty
  1  they may act as none
  2  no answer: members are not known, the files have a mistake, or something failed

Examples:
  pgbridge what-can alice --resolve --config pgbridge.toml
  pgbridge what-can alice --config pgbridge.toml \\
      --groups cn=orders-readers,ou=groups,dc=example,dc=test";

/// What is printed with `--json` in the place of an answer.
const NO_ANSWER: &str = "\
  With exit code 2 an answer that says what is not known; or, when there is none at all:
  load_error   what is wrong first; beside it \"file\", \"line\", \"column\", \"end_column\", \"hint\", each
               null where there is none, and how many \"mistakes\" there are";

/// The help of a question, with what `--json` prints: `answer`, and what stands in its place.
fn with_json(help: &str, answer: &str) -> String {
    format!("{help}\n\nWhat --json prints:\n  {answer} (see /openapi.json).\n{NO_ANSWER}")
}

/// What operators and auditors do on the broker's machine: each reads its configuration.
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Check a configuration and print every mistake
    ///
    /// Ends with 0 when there is none, and 1 otherwise. What is allowed and may not be meant is noted
    /// and is no mistake: lines of the map that allow nothing, since no cluster lends the role that
    /// they name, and directories that cannot look people up again. Connects to nothing.
    Check(ConfigFile),
    /// Examine the clusters and print what is unsafe or missing
    ///
    /// Connects to each cluster of the configuration as the broker does, knocks at its door as a
    /// lease role would, changes nothing, and prints a line for each check: `pass`, `note`, `warn`
    /// or `FAIL`, and under it why that matters and the SQL or setting that mends it. Ends with 0
    /// when nothing failed, and 1 otherwise; a cluster that cannot be reached has failed.
    #[command(after_help = "Examples:
  pgbridge doctor --config pgbridge.toml
  pgbridge doctor --config pgbridge.toml --cluster orders --print-sql > prepare.sql
  psql -X -d postgres -f prepare.sql
  pgbridge doctor --config pgbridge.toml --cluster orders --print-hba")]
    Doctor(Doctor),
    /// Explain why somebody may act as a role, or may not
    ///
    /// Reads the map and what the configuration says of it, none of the secrets, and asks no server,
    /// but for the members of a group role that a line names as `+GROUP`: these the cluster is asked
    /// for, unless `--member` says them; and with `--resolve` the directories. Shows each line that is
    /// asked, in order, first with the person's own name, then with each of their groups, and what it
    /// says. Nobody is proven by this: it answers what would be if the name and the groups were
    /// theirs. It is answered from the files as they are now. A running broker keeps the map before
    /// while they have a mistake: what is in force then is known by asking it, `GET /v1/explain`.
    #[command(after_help = with_json(EXPLAIN_HELP, EXPLAIN_JSON))]
    Explain(Explain),
    /// List who may act as a role, and by which lines
    ///
    /// With `--resolve` the directories are searched, as for a login, for everybody who could log
    /// in, and those who may act as the role are named; one that does not show all is an error. An
    /// OpenLDAP server shows no more than its size limit, unless `limits` lifts it for the service
    /// account: see the README.
    #[command(after_help = with_json(WHO_CAN_HELP, WHO_CAN_JSON))]
    WhoCan(WhoCan),
    /// List the roles that somebody may act as, and by which lines
    ///
    /// The duties of the broker's own, auditor and operator, are listed with them.
    #[command(after_help = with_json(WHAT_CAN_HELP, WHAT_CAN_JSON))]
    WhatCan(WhatCan),
    /// Ask a map, compare two, and find what is not meant
    #[command(subcommand)]
    Map(MapCommand),
    /// Read the audit
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Print completions for a shell
    #[command(after_help = "Example:
  pgbridge completions bash > /etc/bash_completion.d/pgbridge")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for every command
    Man {
        /// Write pgbridge.1, pgbridge-login.1 and the others into this directory, made if missing
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

/// What can be done with the audit.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Write the audit to standard output, one JSON object a line
    ///
    /// Each begins with its number: `{"seq":17,"at":…}`. Reads the store directly, also while the
    /// broker runs, so it must run as a user who can read the store's file: the broker's own, or
    /// root. Of the configuration only `[store]` is read, and none of the secrets.
    Export {
        /// Where the configuration is.
        #[command(flatten)]
        config: ConfigFile,
        /// Only records with a higher `seq` than this
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        after: u64,
    },
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The configuration file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: PathBuf,
}

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Only this cluster [default: all]
    #[arg(long, value_name = "CLUSTER")]
    pub cluster: Option<ClusterName>,
    /// Print what was found as JSON
    #[arg(long, conflicts_with_all = ["print_hba", "print_sql"])]
    pub json: bool,
    /// Print the lines of `pg_hba.conf` that let lease roles in by TLS and SCRAM, and not otherwise
    #[arg(long, conflicts_with = "print_sql")]
    pub print_hba: bool,
    /// The server's major version, for `--print-hba` [default: asked of the server]
    #[arg(long, value_name = "MAJOR", requires = "print_hba")]
    #[arg(value_parser = clap::value_parser!(u32).range(13..=18))]
    pub major: Option<u32>,
    /// Print the statements that prepare a cluster, for a superuser's psql
    #[arg(long)]
    pub print_sql: bool,
}

/// What `doctor` is to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoctorAnswer {
    /// What was found, for people.
    Text,
    /// What was found, for programs.
    Json,
    /// Lines for `pg_hba.conf`.
    Hba,
    /// Statements.
    Sql,
}

impl Doctor {
    /// What it is to print.
    #[must_use]
    pub fn answer(&self) -> DoctorAnswer {
        match (self.json, self.print_hba, self.print_sql) {
            (_, _, true) => DoctorAnswer::Sql,
            (_, true, _) => DoctorAnswer::Hba,
            (true, _, _) => DoctorAnswer::Json,
            _ => DoctorAnswer::Text,
        }
    }
}

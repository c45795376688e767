//! What can be typed: every command, its options and its help.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::PossibleValuesParser;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint};

use super::server::ServerUrl;
use crate::lease::LeaseState;
use crate::names::{
    ClusterName, DatabaseName, DatabaseNameError, LabelError, LeaseId, RoleName, Ttl, WayName,
};

const ABOUT: &str = "Short-lived PostgreSQL roles for people who can prove who they are";

const AFTER_HELP: &str = "\
Examples:
  pgbridge login --server https://pgbridge.example.test
  pgbridge roles
  pgbridge psql orders
  pgbridge psql orders/archive --role orders_read -- -c 'select count(*) from orders'
  credential=$(pgbridge issue orders --ttl 30m --format env) && eval \"$credential\"
  pgbridge serve --config /etc/pgbridge/pgbridge.toml

Exit codes:
  0  done
  1  failed
  2  wrong usage
  3  refused: not allowed, no such thing, or not possible in this state
  4  not logged in, or the login was refused
  5  the server cannot be reached
  `pgbridge psql` ends with the exit code of psql.

Environment:
  PGBRIDGE_URL    the server, in place of `login --server`; it must be that of the session
  PGBRIDGE_CA     file with the server's root certificates, in place of `login --ca`
  XDG_STATE_HOME  where the session is kept (default: ~/.local/state)

Files:
  ~/.local/state/pgbridge/session.json  the session, readable by its owner only
  ~/.local/state/pgbridge/CLUSTER.crt   root certificates of a cluster, for sslrootcert";

/// The command line of pgbridge.
#[derive(Debug, Parser)]
#[command(
    name = "pgbridge",
    version,
    about = ABOUT,
    after_help = AFTER_HELP,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Everything that pgbridge can be asked to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the broker
    ///
    /// Runs until SIGTERM or SIGINT, then lets running requests finish.
    Serve(ConfigFile),
    /// What people do.
    #[command(flatten)]
    Person(PersonCommand),
    /// What operators and auditors do on the broker's machine.
    #[command(flatten)]
    Operator(OperatorCommand),
}

/// What people do: each talks to a running broker.
#[derive(Debug, Subcommand)]
pub enum PersonCommand {
    /// Prove who you are and begin a session
    ///
    /// The password is asked for on the terminal, and goes to the server as typed. The session is
    /// kept in a file that only you can read, until it ends or `pgbridge logout`.
    #[command(after_help = "Examples:
  pgbridge login --server https://pgbridge.example.test
  pgbridge login --user alice --password-stdin < password.txt")]
    Login(Login),
    /// End the session
    Logout,
    /// Show who you are to the server
    Whoami(Output),
    /// List the roles on offer to you
    Roles(Output),
    /// Get a role and its password
    ///
    /// The password is shown once and cannot be shown again.
    #[command(after_help = "Examples:
  pgbridge issue orders
  pgbridge issue orders/archive --role orders_read --ttl 30m --reason 'ticket 4711'
  credential=$(pgbridge issue orders --format env) && eval \"$credential\"

Formats:
  table    for reading
  json     the answer of the API; sslrootcert and uri name the certificate file on this machine
  env      shell commands that set PGHOST, PGPASSWORD and the others
  uri      postgresql://…
  pgpass   a line for ~/.pgpass
  service  a section for ~/.pg_service.conf")]
    Issue(Issue),
    /// Open psql with a role that ends with it
    ///
    /// Gets a role, runs psql, renews the role while psql runs, and revokes it when psql ends. The
    /// password is in psql's environment and nowhere else. Ends with the exit code of psql.
    #[command(after_help = "Examples:
  pgbridge psql orders
  pgbridge psql orders/archive --role orders_read -- -X -c 'select 1'")]
    Psql(Psql),
    /// List your leases, or everybody's
    ///
    /// What keeps a lease from being gone stands below the list, with what to do about it.
    #[command(after_help = "Examples:
  pgbridge leases
  pgbridge leases --everyone --cluster orders --state quarantined")]
    Leases(Leases),
    /// Move the end of a lease
    ///
    /// With `--ttl` the new end may also be earlier; without, it never is.
    Renew(Renew),
    /// End leases now: one of yours, or as an operator those of a person, role or cluster
    ///
    /// As an operator, name what the leases have in common: those that are all of it end. With
    /// `--person` or `--missing-from` and nothing else, the logins end too. You are asked first when more than
    /// one lease would end.
    #[command(after_help = "Examples:
  pgbridge revoke abcdefghijklmnop
  pgbridge revoke --person ldap:corp:alice
  pgbridge revoke --role orders_write --cluster orders --dry-run
  pgbridge revoke --role-name pgb_alice_abcdefghijklmnop
  pgbridge revoke --missing-from corp --dry-run")]
    Revoke(Revoke),
    /// Say that nothing is left of a lease whose role's place another role has taken
    ///
    /// As an operator, for a lease that stays `revoking` because the OID of its role belongs to a role
    /// that is not the broker's, as after a restored backup. That role is not touched. Refused while
    /// any role carries the mark or the name of the lease. Who said it and why is recorded.
    #[command(after_help = "Example:
  pgbridge declare-gone abcdefghijklmnop --reason 'restored; OID 16500 is reports_new'")]
    DeclareGone(DeclareGone),
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

/// How to print an answer.
#[derive(Clone, Copy, Debug, Args)]
pub struct Output {
    /// Print the answer of the API as JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `login`.
#[derive(Debug, Args)]
pub struct Login {
    /// The server [default: that of the last login]
    #[arg(long, value_name = "URL", env = "PGBRIDGE_URL", hide_env_values = true)]
    #[arg(value_hint = ValueHint::Url)]
    pub server: Option<ServerUrl>,
    /// The way in, when the server has several
    #[arg(long, value_name = "NAME")]
    pub way: Option<WayName>,
    /// Your name there [default: asked for]
    #[arg(long, short, value_name = "USER")]
    pub user: Option<String>,
    /// Read the password from standard input; one newline at its end is left away
    #[arg(long, requires = "user")]
    pub password_stdin: bool,
    /// File with the root certificates that the server's certificate must come from, instead of
    /// those of the system
    #[arg(long, value_name = "FILE", env = "PGBRIDGE_CA", value_hint = ValueHint::FilePath)]
    pub ca: Option<PathBuf>,
}

/// Which role, for how long, and why.
#[derive(Debug, Args)]
pub struct Wish {
    /// The cluster, and the database when the role has several
    #[arg(value_name = "CLUSTER[/DATABASE]")]
    pub target: Target,
    /// The role [default: the only one on offer there]
    #[arg(long, short, value_name = "ROLE")]
    pub role: Option<RoleName>,
    /// How long, such as 15m or 1h30m [default: set by the server for each role]
    #[arg(long, value_name = "TIME")]
    pub ttl: Option<Ttl>,
    /// Why, for the audit; some roles ask for it
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Options of `issue`.
#[derive(Debug, Args)]
pub struct Issue {
    /// Which role.
    #[command(flatten)]
    pub wish: Wish,
    /// How to print it
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// How a role and its password are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For reading
    Table,
    /// The answer of the API
    Json,
    /// Shell commands
    Env,
    /// Connection URI
    Uri,
    /// Line of a password file
    Pgpass,
    /// Section of a connection service file
    Service,
}

/// Options of `psql`.
#[derive(Debug, Args)]
pub struct Psql {
    /// Which role.
    #[command(flatten)]
    pub wish: Wish,
    /// Arguments for psql
    #[arg(last = true, value_name = "PSQL ARGUMENTS")]
    pub args: Vec<std::ffi::OsString>,
}

/// Options of `leases`.
#[derive(Debug, Args)]
pub struct Leases {
    /// List those of every state, also ended ones [default: those that are not gone yet]
    #[arg(long, conflicts_with = "states")]
    pub all: bool,
    /// Only those in this state, or in one of several
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',')]
    #[arg(value_parser = PossibleValuesParser::new(LeaseState::ALL.map(LeaseState::as_str)))]
    pub states: Vec<String>,
    /// Everybody's leases; you must be an auditor or operator
    #[arg(long)]
    pub everyone: bool,
    /// Only of this person, such as ldap:corp:alice
    #[arg(long, value_name = "PERSON", requires = "everyone")]
    pub person: Option<String>,
    /// Only on this cluster
    #[arg(long, value_name = "CLUSTER", requires = "everyone")]
    pub cluster: Option<ClusterName>,
    /// Only of this group role
    #[arg(long, value_name = "ROLE", requires = "everyone")]
    pub role: Option<RoleName>,
    /// How to print them.
    #[command(flatten)]
    pub output: Output,
}

/// Options of `renew`.
#[derive(Debug, Args)]
pub struct Renew {
    /// The lease
    pub lease: LeaseId,
    /// How long from now, such as 15m or 1h30m [default: set by the server for each role, and not
    /// earlier than before]
    #[arg(long, value_name = "TIME")]
    pub ttl: Option<Ttl>,
    /// How to print it.
    #[command(flatten)]
    pub output: Output,
}

/// Options of `revoke`.
#[derive(Debug, Args)]
pub struct Revoke {
    /// The lease
    #[arg(required_unless_present_any = SELECTORS, conflicts_with_all = SELECTORS)]
    pub lease: Option<LeaseId>,
    /// Which leases instead.
    #[command(flatten)]
    pub selection: Selection,
    /// Only list what would end
    #[arg(long, conflicts_with = "lease")]
    pub dry_run: bool,
    /// Do not ask, however many leases end
    #[arg(long, short, conflicts_with_all = ["lease", "dry_run"])]
    pub yes: bool,
    /// How to print it.
    #[command(flatten)]
    pub output: Output,
}

/// Options of `declare-gone`.
#[derive(Debug, Args)]
pub struct DeclareGone {
    /// The lease
    pub lease: LeaseId,
    /// How you know, for the audit
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// How to print it.
    #[command(flatten)]
    pub output: Output,
}

/// What says which leases are meant, by the names of the options.
const SELECTORS: [&str; 5] = ["person", "role", "cluster", "role_name", "missing_from"];

/// Which leases an operator means: those that are all of what is named.
#[derive(Clone, Debug, Args)]
pub struct Selection {
    /// Those of this person, such as ldap:corp:alice (operators)
    #[arg(long, value_name = "PERSON")]
    pub person: Option<String>,
    /// Those of this group role (operators)
    #[arg(long, value_name = "ROLE")]
    pub role: Option<RoleName>,
    /// Those on this cluster (operators)
    #[arg(long, value_name = "CLUSTER")]
    pub cluster: Option<ClusterName>,
    /// The one whose own role has this name in `pg_stat_activity` (operators)
    #[arg(long, value_name = "NAME")]
    pub role_name: Option<String>,
    /// Those of people whom this way in does not show any more (operators)
    #[arg(long, value_name = "WAY")]
    pub missing_from: Option<WayName>,
}

/// A cluster, and a database on it when one is named: `orders` or `orders/archive`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The cluster.
    pub cluster: ClusterName,
    /// The database; none means the one that the role's profile names first.
    pub database: Option<DatabaseName>,
}

/// Why a text names no cluster or database.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// What stands before the `/` is no name of a cluster.
    #[error("{0}")]
    Cluster(LabelError),
    /// What stands after the `/` is no name of a database.
    #[error("{0}")]
    Database(DatabaseNameError),
}

impl FromStr for Target {
    type Err = TargetError;

    /// Splits at the first `/`: the name of a database may hold one, that of a cluster may not.
    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (cluster, database) = match text.split_once('/') {
            Some((cluster, database)) => (cluster, Some(database)),
            None => (text, None),
        };
        let cluster = cluster.parse().map_err(TargetError::Cluster)?;
        let database = database.map(str::parse).transpose().map_err(TargetError::Database)?;
        Ok(Self { cluster, database })
    }
}

/// Groups of the command list in `--help`. A test holds that each command stands in one.
const GROUPS: [(&str, &[&str]); 3] = [
    ("For people", &["login", "logout", "whoami", "roles"]),
    ("Database access", &["psql", "issue", "leases", "renew", "revoke"]),
    (
        "For operators and auditors",
        &["serve", "check", "doctor", "declare-gone", "audit", "completions", "man", "help"],
    ),
];

/// The command line with its commands listed in groups. Parse with this one.
#[must_use]
pub fn command() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    let listing = grouped(&command);
    // An empty variable is as good as none.
    let without_empty = |argument: clap::Arg| {
        let is_empty = |name| std::env::var_os(name).is_some_and(|value| value.is_empty());
        let name = argument.get_env().map(std::ffi::OsStr::to_owned);
        if name.is_some_and(is_empty) {
            argument.env(clap::builder::Resettable::Reset)
        } else {
            argument
        }
    };
    let command = Cli::command().mut_subcommand("login", |login| login.mut_args(without_empty));
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{listing}Options:\n{{options}}{{after-help}}"
    ))
}

fn grouped(command: &clap::Command) -> String {
    let mut listing = String::new();
    for (heading, names) in GROUPS {
        let _ = writeln!(listing, "{heading}:");
        for subcommand in names.iter().filter_map(|name| command.find_subcommand(name)) {
            let about = subcommand.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(listing, "  {:<12} {about}", subcommand.get_name());
        }
        listing.push('\n');
    }
    listing
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        let matches = command().try_get_matches_from(line.split(' '))?;
        Cli::from_arg_matches(&matches)
    }

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn every_command_stands_in_exactly_one_group_of_the_help() {
        let mut command = command();
        command.build();
        let mut listed: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        listed.sort_unstable();
        let mut known: Vec<String> =
            command.get_subcommands().map(|known| known.get_name().to_owned()).collect();
        known.sort_unstable();
        assert_eq!(listed, known);
        let help = command.render_long_help().to_string();
        for name in known {
            assert!(help.contains(&format!("\n  {name:<12} ")), "{name} is missing in:\n{help}");
        }
        assert!(help.contains("\nExit codes:\n") && help.contains("--version"), "{help}");
    }

    #[test]
    fn a_target_is_a_cluster_and_perhaps_a_database() {
        let target: Target = "orders".parse().unwrap();
        assert_eq!((target.cluster.as_str(), target.database), ("orders", None));
        let target: Target = "orders/a/b".parse().unwrap();
        assert_eq!(target.database.map(|name| name.to_string()).as_deref(), Some("a/b"));
        for bad in ["", "/x", "orders/", "Orders", "../orders"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn arguments_after_two_dashes_are_for_psql() {
        let Command::Person(PersonCommand::Psql(psql)) =
            parse("pgbridge psql orders --role r -- --role x -c").unwrap().command
        else {
            panic!("not psql")
        };
        assert_eq!(psql.args, ["--role", "x", "-c"]);
        assert_eq!(psql.wish.role.map(|role| role.to_string()).as_deref(), Some("r"));
        assert!(parse("pgbridge psql orders -c").is_err());
    }

    #[test]
    fn what_cannot_be_right_is_refused_before_anything_is_sent() {
        for bad in [
            "pgbridge issue orders --ttl 15",
            "pgbridge issue orders --role pg_monitor",
            "pgbridge renew ../whoami",
            "pgbridge revoke",
            "pgbridge revoke abcdefghijklmnop --person ldap:alice",
            "pgbridge revoke abcdefghijklmnop --yes",
            "pgbridge revoke abcdefghijklmnop --dry-run",
            "pgbridge revoke --dry-run",
            "pgbridge revoke --yes",
            "pgbridge revoke abcdefghijklmnop --missing-from corp",
            "pgbridge declare-gone abcdefghijklmnop",
            "pgbridge declare-gone --reason r",
            "pgbridge leases --person ldap:alice",
            "pgbridge leases --state gone",
            "pgbridge leases --all --state active",
            "pgbridge login --password-stdin",
            "pgbridge login --server http://pgbridge.example.test",
            "pgbridge check",
            "pgbridge doctor --config x.toml --json --print-sql",
            "pgbridge doctor --config x.toml --print-hba --print-sql",
            "pgbridge doctor --config x.toml --major 16",
            "pgbridge doctor --config x.toml --print-hba --major 12",
        ] {
            let refusal = parse(bad).err().unwrap_or_else(|| panic!("accepted: {bad}"));
            assert_eq!(refusal.exit_code(), 2, "{bad}");
        }
        for good in [
            "pgbridge issue orders --ttl 15m",
            "pgbridge issue orders --role monitor",
            "pgbridge renew abcdefghijklmnop",
            "pgbridge revoke abcdefghijklmnop",
            "pgbridge revoke --person ldap:alice --yes",
            "pgbridge revoke --role r --cluster c --person ldap:alice --dry-run",
            "pgbridge revoke --role-name pgb_alice_abcdefghijklmnop",
            "pgbridge revoke --missing-from corp --dry-run",
            "pgbridge declare-gone abcdefghijklmnop --reason r",
            "pgbridge leases --everyone --person ldap:alice --cluster c --role r",
            "pgbridge leases --state active,revoking",
            "pgbridge login --password-stdin --user alice",
            "pgbridge login --server https://pgbridge.example.test",
            "pgbridge check --config x.toml",
            "pgbridge doctor --config x.toml --cluster orders --json",
            "pgbridge doctor --config x.toml --print-hba --major 13",
        ] {
            assert!(parse(good).is_ok(), "{good}: {:?}", parse(good).err());
        }
    }
}

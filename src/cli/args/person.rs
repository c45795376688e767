//! What people do, with its options and its help.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args, Subcommand, ValueEnum, ValueHint};

use crate::cli::server::ServerUrl;
use crate::lease::LeaseState;
use crate::names::{
    ClusterName, DatabaseName, DatabaseNameError, LabelError, LeaseId, RoleName, Ttl, WayName,
};

/// What people do: each talks to a running broker.
#[derive(Debug, Subcommand)]
pub enum PersonCommand {
    /// Prove who you are and begin a session
    ///
    /// With a Kerberos ticket (`kinit`) that the server takes, nothing is asked: both sides prove who
    /// they are, and the ticket itself is given to nobody. A ticket that is refused is told, and no
    /// password is asked for in its place. Without a ticket, or with `--password` or `--user`, the
    /// password is asked for on the terminal, and goes to the server as typed. The session is kept in a
    /// file that only you can read, until it ends or `pgbridge logout`.
    ///
    /// With a ticket the other commands log in by themselves where there is no session, or it is
    /// over, at the server of the last login or of `PGBRIDGE_URL`.
    #[command(after_help = "Examples:
  pgbridge login --server https://pgbridge.example.test
  kinit && pgbridge psql orders
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
    /// Gets a role, runs psql, renews the role while psql runs, and revokes it when psql ends. With a
    /// Kerberos ticket nothing is asked: where there is no session, it is the login too. The
    /// password is in psql's environment and nowhere else. Ends with the exit code of psql.
    #[command(after_help = "Examples:
  pgbridge psql orders
  pgbridge psql orders/archive --role orders_read -- -X -c 'select 1'")]
    Psql(Psql),
    /// List your leases, or everybody's
    ///
    /// What keeps a lease from being gone stands below the list, with what to do about it and when
    /// it is tried again.
    #[command(after_help = "Examples:
  pgbridge leases
  pgbridge leases --all
  pgbridge leases --everyone --cluster orders --state quarantined

Why a lease ended or ends (WHY):
  expired      its time was over
  released     its holder gave it back
  operator     an operator ended it
  replaced     its holder asked again with the same key
  undelivered  its password may not have reached anybody
  lost         its role was gone from the cluster, and not by pgbridge
  withdrawn    its holder may not have it any more")]
    Leases(Leases),
    /// Move the end of a lease
    ///
    /// With `--ttl` the new end may also be earlier; without, it never is.
    Renew(Renew),
    /// End leases now: one of yours, or as an operator those of a person, role or cluster
    ///
    /// As an operator, name what the leases have in common: those that are all of it end. With
    /// `--person` or `--missing-from` and nothing else, the logins end too. You are asked first
    /// when more than one lease would end.
    #[command(after_help = "Examples:
  pgbridge revoke abcdefghijklmnop
  pgbridge revoke --person ldap:corp:alice
  pgbridge revoke --role orders_write --cluster orders --dry-run
  pgbridge revoke --role-name pgb_alice_abcdefghijklmnop
  pgbridge revoke --missing-from corp --dry-run")]
    Revoke(Revoke),
    /// Say that nothing is left of a lease whose role the broker cannot look for
    ///
    /// As an operator, for a lease that stays `revoking` because the OID of its role belongs to a role
    /// that is not the broker's, as after a restored backup, or because its cluster is not in the
    /// configuration any more. That role is not touched. Refused while any role of the cluster carries
    /// the mark or the name of the lease. Who said it and why is recorded.
    #[command(after_help = "Example:
  pgbridge declare-gone abcdefghijklmnop --reason 'restored; OID 16500 is reports_new'")]
    DeclareGone(DeclareGone),
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
    /// Your name there, for a login by password [default: asked for]
    #[arg(long, short, value_name = "USER")]
    pub user: Option<String>,
    /// Ask for the password, also where there is a ticket
    #[arg(long, conflicts_with = "password_stdin")]
    pub password: bool,
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
#[command(group(
    ArgGroup::new("which").required(true).multiple(true).arg("lease").args(SELECTORS)
))]
pub struct Revoke {
    /// The lease
    #[arg(conflicts_with_all = SELECTORS)]
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

#[cfg(test)]
mod tests {
    use super::*;

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
}

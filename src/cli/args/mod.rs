//! What can be typed: every command, its options and its help.

mod map;
mod operator;
mod person;
mod questions;

use std::fmt::Write as _;

use clap::{CommandFactory, Parser, Subcommand};

pub use self::map::{FailOn, MapCommand, MapDiff, MapEval, MapLint};
pub use self::operator::{AuditCommand, ConfigFile, Doctor, DoctorAnswer, OperatorCommand};
pub use self::person::{
    DeclareGone, Format, Issue, Leases, Login, Output, PersonCommand, Psql, Renew, Revoke,
    Selection, Target, TargetError, Wish,
};
pub use self::questions::{About, Explain, Member, MemberError, Members, WhatCan, WhoCan};

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
  `pgbridge psql` ends with the exit code of psql; explain, who-can and what-can with 0 for
  yes, 1 for no, and 2 when there is no answer; `map diff` with 0 for no difference, 1 for some
  and 3 when not all was compared, `map lint` with 0 for no finding and 1 for some, `map eval`
  with 1 when a line was no question, and all three with 2 when a map cannot be read. A reader
  who closes the pipe early changes none of them, but for `map eval` and `audit export`, which
  then stop half-way: 2 and 1.

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
    /// Runs until SIGTERM or SIGINT, then lets running requests finish. On SIGHUP, and when their
    /// files change, it reads the map and its certificate again, and nothing else.
    Serve(ConfigFile),
    /// What people do.
    #[command(flatten)]
    Person(PersonCommand),
    /// What operators and auditors do on the broker's machine.
    #[command(flatten)]
    Operator(OperatorCommand),
}

/// Groups of the command list in `--help`. A test holds that each command stands in one.
const GROUPS: [(&str, &[&str]); 3] = [
    ("For people", &["login", "logout", "whoami", "roles"]),
    ("Database access", &["psql", "issue", "leases", "renew", "revoke"]),
    (
        "For operators and auditors",
        &[
            "serve",
            "check",
            "doctor",
            "map",
            "explain",
            "who-can",
            "what-can",
            "declare-gone",
            "audit",
            "completions",
            "man",
            "help",
        ],
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
    fn how_revoke_is_used_names_every_way_to_say_which_leases() {
        let mut command = command();
        command.build();
        let usage = command.find_subcommand_mut("revoke").unwrap().render_usage().to_string();
        let refusal = parse("pgbridge revoke").unwrap_err().to_string();
        for which in
            ["LEASE", "--person", "--role", "--cluster", "--role-name", "--missing-from <WAY>"]
        {
            assert!(usage.contains(which), "{which}: {usage}");
            assert!(refusal.contains(which), "{which}: {refusal}");
        }
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
            "pgbridge explain alice --config x.toml",
            "pgbridge explain --cluster orders --config x.toml",
            "pgbridge explain alice --cluster orders --member staff --config x.toml",
            "pgbridge explain alice --lease abcdefghijklmnop --config x.toml",
            "pgbridge explain --lease abcdefghijklmnop --groups g --config x.toml",
            "pgbridge explain alice --cluster orders --from here --config x.toml",
            "pgbridge explain alice --cluster orders --duty auditor --config x.toml",
            "pgbridge explain alice --duty owner --config x.toml",
            "pgbridge explain --lease abcdefghijklmnop --duty auditor --config x.toml",
            "pgbridge explain alice --cluster c --resolve --groups g --config x.toml",
            "pgbridge who-can orders_read --config x.toml",
            "pgbridge who-can --cluster orders --config x.toml",
            "pgbridge who-can orders_read --cluster orders --duty auditor --config x.toml",
            "pgbridge what-can --config x.toml",
            "pgbridge map",
            "pgbridge map eval",
            "pgbridge map eval --file x.conf --postgres 12",
            "pgbridge map diff x.conf",
            "pgbridge map lint",
            "pgbridge map lint x.conf --clusters",
            "pgbridge map lint x.conf --fail-on note",
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
            "pgbridge explain alice --cluster orders --config x.toml",
            "pgbridge explain --lease abcdefghijklmnop --config x.toml",
            "pgbridge explain alice --cluster c --role r --way w --groups cn=a,dc=x --groups cn=b \
             --member staff=r --member none= --from ::1 --json --config x.toml",
            "pgbridge explain alice --duty auditor --way corp --resolve --config x.toml",
            "pgbridge who-can orders_read --cluster orders --resolve --json --config x.toml",
            "pgbridge who-can --duty operator --resolve --config x.toml",
            "pgbridge what-can alice --resolve --config x.toml",
            "pgbridge what-can alice --groups cn=a --config x.toml",
            "pgbridge map eval --file x.conf --postgres 18",
            "pgbridge map diff x.conf y.conf --config x.toml --identities z --json",
            "pgbridge map lint x.conf",
            "pgbridge map lint --config x.toml --clusters --fail-on error",
        ] {
            assert!(parse(good).is_ok(), "{good}: {:?}", parse(good).err());
        }
    }
}

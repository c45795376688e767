//! What can be done with a map file, with its options and its help.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use crate::mapping::{Dialect, LintCode, LintSeverity};

/// What can be done with a map file. None of it needs a broker that runs.
#[derive(Debug, Subcommand)]
pub enum MapCommand {
    /// Answer questions: may this user act as this role?
    ///
    /// Reads one question a line from standard input and writes one answer a line, in order, as soon
    /// as it has read the question: it can be kept running and asked again and again. A question is
    /// at most 1 MiB. What is decided is what a PostgreSQL server of that release decides at a
    /// log-in; the role is cut to 63 bytes as the server cuts it.
    #[command(after_help = "\
A question:
  {\"map\":\"corp\",\"user\":\"alice@CORP.TEST\",\"role\":\"orders_read\"}
  map       the map; \"\" for none, which allows equal names only
  user      the account or group; in its place \"user_hex\", hexadecimal, for what is no UTF-8
  role      the role that is asked for; or \"role_hex\"
  members   {\"group\":[\"role\",…]}: who is a member of what, for +role lines; a member may be a
            group with members of its own
  caseins   true: the case of ASCII letters is left out (krb_caseins_users)

Its answer:
  {\"decision\":\"allow\",\"file\":\"pg_ident.conf\",\"line\":3,\"reason\":\"pg_ident.conf:3 allows it\"}
  decision  allow; deny: no line allows it; error: this line could not be evaluated, which denies,
            or, where \"line\" is null, the question could not be read
  file      as the map names it: from the directory of the map file, or from the root

Exit codes:
  0  every question was answered
  1  a line could not be read as a question; its answer says why, and the others were answered
  2  the map cannot be read; the one answer is {\"load_error\":…,\"file\":…,\"line\":…}, its first
     mistake; `pgbridge map lint FILE` tells all of them. Or not all questions could be read, or
     not all answers written: whoever read them went away

Example:
  pgbridge map eval --postgres 16 --file pg_ident.conf < questions.jsonl > answers.jsonl")]
    Eval(MapEval),
    /// Say who gains and who loses what between two maps
    ///
    /// Not a comparison of texts: order, comments, quotes, included files, and a pattern in the place
    /// of two lines are no difference, unless they let somebody in or keep somebody out. `+` is what
    /// is gained, `-` what is lost, and `?` what may be, where two patterns cannot be compared, where a
    /// pattern may give up on a long name, or where it turns on who is a member of a group. Accounts
    /// have at most 256 bytes and groups 1,024; a map counts as one of groups unless --config says that
    /// it is not. With --config a role that no cluster lends and a map that nobody uses give nobody
    /// anything; a new line that names one is told on standard error, and so is why the broker would
    /// refuse the new map.
    #[command(after_help = DIFF_HELP, after_long_help = format!("{DIFF_JSON}\n\n{DIFF_HELP}"))]
    Diff(MapDiff),
    /// Find what is probably not meant
    ///
    /// Patterns that match more than they seem to, lines that can decide nothing, roles that nobody
    /// lends, maps that nobody uses. Each finding has its place, a name that stays the same, and what
    /// to do about it. Without --config every name counts that an account or a group can have.
    #[command(after_help = LINT_HELP, after_long_help = lint_help())]
    Lint(MapLint),
}

const DIFF_HELP: &str = "\
Exit codes, as those of diff:
  0  nobody gains or loses anything
  1  somebody does, or may
  2  a map or the configuration cannot be read
  3  not everything was compared, which would take too long; `!` says how much was not

Examples:
  pgbridge map diff pg_ident.conf pg_ident.conf.new
  pgbridge map diff --config pgbridge.toml 3f2a9c01 pg_ident.conf";

const DIFF_JSON: &str = "\
What --json prints:
  old, new     the revisions
  same         true: nobody gains or loses anything
  whole        true: everything was compared
  caseins_users
               the maps in which upper and lower case are the same in names that lines spell out,
               as `caseins_users` of the configuration says
  would_be_refused
               why the broker would not take the new map although it can be read, and keep the one
               before: a map that it uses has no line, or a duty is given to +role; null without
               --config, for then it is not known
  changes      what changes, each with
    map        the map
    who        {\"name\": an account}, {\"group\": whoever is in it}, or {\"pattern\": whoever matches,
               \"example\": somebody who does, \"example_role\": what is gained or lost then}; beside a
               name that is no UTF-8 stands \"hex\"
    change     gains or loses
    certain    false: it may be, as `?` says
    turns_on_members_of
               the groups on whose members it turns, if it does
    roles      each {\"role\": …}, {\"all\": true}, {\"members_of\": a group} or {\"pattern\": …} with the
               \"file\" and the \"line\" that gives or gave it; \"but\" lists what of it is no change
    text       the same for people
  idle         new lines that allow nothing, each with \"map\", \"file\", \"line\", \"text\", and
    why        unused-map; or role-not-lent, with the \"role\"
  not_compared
               what was not, each with \"map\", \"text\", and how many names and patterns
  load_error   in the place of all that, with exit code 2: what is wrong first; beside it \"file\",
               \"line\", \"column\", \"end_column\", \"hint\", each null where there is none, and how
               many \"mistakes\" there are";

const LINT_HELP: &str = "\
Exit codes:
  0  nothing was found, or nothing as severe as --fail-on
  1  something was
  2  the map, the configuration or a cluster cannot be read

Examples:
  pgbridge map lint pg_ident.conf
  pgbridge map lint --config pgbridge.toml --clusters --fail-on error";

const LINT_JSON: &str = "\
What --json prints:
  findings     what was found, each with
    file       where; neither that nor a line when it is about what is not there
    line       the line, from 1
    code       its name, one of those below
    severity   warning or error
    message    what is seen
    hint       what to do about it
  errors       how many of them are errors
  warnings     how many are warnings
  load_error   in the place of all that, with exit code 2: what is wrong first; beside it \"file\",
               \"line\", \"column\", \"end_column\", \"hint\", each null where there is none, and how
               many \"mistakes\" there are";

/// All that can be found, with what it means.
fn lint_help() -> String {
    let mut help = format!("{LINT_JSON}\n\nWhat is found (* is an error):\n");
    for code in LintCode::ALL {
        let mark = if code.severity() == LintSeverity::Error { '*' } else { ' ' };
        // Writing to a String cannot fail.
        let _ = writeln!(help, "{mark} {:<22} {}", code.as_str(), code.meaning());
    }
    format!("{help}\n{LINT_HELP}")
}

/// Options of `map eval`.
#[derive(Debug, Args)]
pub struct MapEval {
    /// The map file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Read it as this release of PostgreSQL does, 13 to 18 [default: 16]
    #[arg(long, value_name = "MAJOR")]
    pub postgres: Option<Dialect>,
}

/// Options of `map diff`.
#[derive(Debug, Args)]
pub struct MapDiff {
    /// The map before: a file, /dev/null for none, or, with --config, the revision of one that was in
    /// force, at least its first 8 digits
    #[arg(value_name = "OLD", value_hint = ValueHint::FilePath)]
    pub old: PathBuf,
    /// The map after, likewise
    #[arg(value_name = "NEW", value_hint = ValueHint::FilePath)]
    pub new: PathBuf,
    /// Compare for what this configuration uses and lends; none of its secrets is read
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Read both as this release of PostgreSQL does, 13 to 18 [default: the configuration's, or 16]
    #[arg(long, value_name = "MAJOR")]
    pub postgres: Option<Dialect>,
    /// Compare these accounts and groups one by one: a file with one a line
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub identities: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `map lint`.
#[derive(Debug, Args)]
pub struct MapLint {
    /// The map file [default: that of the configuration]
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath, required_unless_present = "config")]
    pub file: Option<PathBuf>,
    /// Hold the map against what this configuration uses and lends; none of its secrets is read,
    /// unless for --clusters
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Read it as this release of PostgreSQL does, 13 to 18 [default: the configuration's, or 16]
    #[arg(long, value_name = "MAJOR")]
    pub postgres: Option<Dialect>,
    /// Ask the clusters of the configuration about the roles of the map
    #[arg(long, requires = "config")]
    pub clusters: bool,
    /// The least severe finding that ends with exit code 1
    #[arg(long, value_name = "SEVERITY", value_enum, default_value_t)]
    pub fail_on: FailOn,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Which findings end with exit code 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Any.
    #[default]
    Warning,
    /// Errors.
    Error,
}

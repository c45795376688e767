//! What makes a cluster fit for lending roles, ready to paste: statements for a superuser's psql,
//! and lines for `pg_hba.conf`.

use std::fmt::Write as _;

use ipnet::IpNet;

use super::Expected;
use super::expected::Protection;
use crate::dial::Host;
use crate::names::{DatabaseName, RoleName, identifier, literal, printable};

/// `GRANT role TO member`, with the options that the server's version has.
pub(super) fn grant(role: &RoleName, member: &RoleName, options: &str, version: u32) -> String {
    let (role, member) = (role.quoted(), member.quoted());
    if version >= SIXTEEN {
        format!("GRANT {role} TO {member} WITH {options};")
    } else {
        format!("GRANT {role} TO {member};")
    }
}

/// Where memberships got options, and `pg_hba.conf` regular expressions for users.
pub(super) const SIXTEEN: u32 = 160_000;

/// To hand a group on, and use none of its rights.
pub(super) const HAND_ON: &str = "ADMIN TRUE, INHERIT FALSE, SET FALSE";

/// To have its rights and to become it.
pub(super) const BECOME: &str = "INHERIT TRUE, SET TRUE";

/// The statements that prepare a cluster, for psql and a superuser; one text for all versions.
/// Running it twice is harmless. It holds no password: psql asks for it.
pub(super) fn sql(expected: &Expected) -> String {
    let mut script = head(expected);
    script.push_str(&guard(expected));
    script.push_str(&service_roles(expected));
    script.push_str(&group_roles(expected));
    script.push_str(&memberships(expected));
    script.push_str(&databases(expected));
    script.push_str("COMMIT;\n\n");
    script.push_str(&by_choice(expected));
    script.push_str(&password(expected));
    script
}

fn head(expected: &Expected) -> String {
    format!(
        "-- Prepares cluster {} for pgbridge. Run it with psql as a superuser:\n\
         --   psql -X -d {} -f THIS_FILE\n\
         -- It asks for the password of the broker's login when that has none yet. Running it twice is\n\
         -- harmless.\n\
         \\set ON_ERROR_STOP on\n\
         BEGIN;\n\n",
        expected.cluster,
        // A name that would end the comment or need quotes in a shell is not worth a command line.
        Some(expected.maintenance.as_str()).filter(|name| is_plain(name)).unwrap_or("postgres"),
    )
}

fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Stops before the superuser who runs the script, or the first one of the cluster, becomes a
/// broker.
fn guard(expected: &Expected) -> String {
    let own: Vec<String> = own_roles(expected).map(RoleName::literal).collect();
    let body = format!(
        "BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname IN ({}) AND (rolname = session_user OR oid = 10)) \
         THEN RAISE EXCEPTION 'the broker needs roles of its own, not this superuser'; END IF; END",
        own.join(", ")
    );
    format!("DO {};\n\n", literal(&body))
}

/// The login, the group of brokers and the attic.
fn own_roles(expected: &Expected) -> impl Iterator<Item = &RoleName> {
    [&expected.user].into_iter().chain(&expected.admin_role).chain(&expected.attic_role)
}

/// `CREATE ROLE`, unless there is one of that name.
fn create(role: &RoleName, options: &str) -> String {
    let statement = literal(&format!("CREATE ROLE {} {options}", role.quoted()));
    format!(
        "SELECT {statement} WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {})\n\\gexec\n",
        role.literal()
    )
}

fn service_roles(expected: &Expected) -> String {
    const PLAIN: &str = "NOSUPERUSER NOCREATEDB NOREPLICATION NOBYPASSRLS";
    let mut script = String::new();
    script.push_str("-- The broker's login: makes lease roles and drops them, reads no table.\n");
    script.push_str(&create(&expected.user, "LOGIN"));
    let user = expected.user.quoted();
    let _ = writeln!(script, "ALTER ROLE {user} LOGIN INHERIT CREATEROLE {PLAIN};");
    for (role, what) in [
        (
            &expected.admin_role,
            "-- Holds ADMIN on the roles that are lent and on every lease role.",
        ),
        (&expected.attic_role, "-- Gets what a lease role leaves behind; member of nothing."),
    ] {
        if let Some(role) = role {
            let _ = writeln!(script, "{what}");
            script.push_str(&create(role, "NOLOGIN"));
            let _ = writeln!(script, "ALTER ROLE {} NOLOGIN NOCREATEROLE {PLAIN};", role.quoted());
        }
    }
    script.push('\n');
    script
}

fn group_roles(expected: &Expected) -> String {
    let mut script =
        "-- What is lent: rights on objects go to these roles, by statements of yours.\n"
            .to_owned();
    script.extend(expected.groups().map(|group| create(group, "NOLOGIN")));
    script.push('\n');
    script
}

fn memberships(expected: &Expected) -> String {
    let user = expected.user.quoted();
    let holder = expected.holder_of_admin().quoted();
    let joined = joined(expected);
    let lent: Vec<String> = expected.groups().map(RoleName::quoted).collect();
    let (joined, lent) = (joined.join(", "), lent.join(", "));
    format!(
        "-- pg_signal_backend ends the sessions of a lease, even when its role is gone already.\n\
         SELECT current_setting('server_version_num')::int >= {SIXTEEN} AS grants_have_options\n\
         \\gset\n\
         \\if :grants_have_options\n\
         GRANT {joined} TO {user} WITH {BECOME};\n\
         -- CREATEROLE alone may grant no role that it did not make.\n\
         GRANT {lent} TO {holder} WITH {HAND_ON};\n\
         \\else\n\
         -- CREATEROLE may grant, and become, any role but a superuser: guard this login like one.\n\
         GRANT {joined} TO {user};\n\
         \\endif\n\n"
    )
}

/// What the login is a member of.
fn joined(expected: &Expected) -> Vec<String> {
    let service = expected.admin_role.iter().chain(&expected.attic_role);
    let service = service.map(RoleName::quoted);
    [identifier("pg_signal_backend")].into_iter().chain(service).collect()
}

fn databases(expected: &Expected) -> String {
    let mut script =
        "-- The broker connects to clear what a lease leaves there, a lease role to work.\n"
            .to_owned();
    for database in expected.databases() {
        let who = expected.profiles.iter().filter(|profile| profile.databases.contains(database));
        let who: Vec<String> = [expected.user.quoted()]
            .into_iter()
            .chain(who.map(|profile| profile.role.quoted()))
            .collect();
        let name = identifier(database.as_str());
        let _ = writeln!(script, "GRANT CONNECT ON DATABASE {name} TO {};", who.join(", "));
    }
    let maintenance = identifier(expected.maintenance.as_str());
    let user = expected.user.quoted();
    let _ = writeln!(script, "GRANT CONNECT ON DATABASE {maintenance} TO {user};\n");
    script
}

/// What may break something else on the cluster, or gives the broker more than it must have: an
/// operator takes the two dashes away who wants it.
fn by_choice(expected: &Expected) -> String {
    let user = expected.user.quoted();
    let mut script = "-- By choice: take the dashes away from what you want.\n".to_owned();
    let _ = writeln!(
        script,
        "-- So that `pgbridge doctor` sees every setting, the replicas and pg_hba.conf:\n\
         -- GRANT pg_monitor TO {user};\n\
         -- GRANT SELECT ON pg_catalog.pg_hba_file_rules TO {user};\n\
         -- GRANT EXECUTE ON FUNCTION pg_catalog.pg_hba_file_rules() TO {user};"
    );
    for database in expected.databases() {
        let name = one_line(&identifier(database.as_str()));
        let _ = writeln!(
            script,
            "-- Who holds no lease for database {name} has no business there, and nobody makes things in public:\n\
             -- REVOKE CONNECT, TEMPORARY ON DATABASE {name} FROM PUBLIC;\n\
             -- \\connect {name}\n\
             -- REVOKE CREATE ON SCHEMA public FROM PUBLIC;"
        );
    }
    if let Some(attic) = &expected.attic_role {
        let attic = one_line(&attic.quoted());
        let _ = writeln!(
            script,
            "-- In each schema where lease roles may make things, else their functions cannot be \
             taken over:\n\
             -- GRANT CREATE ON SCHEMA workbench TO {attic};"
        );
    }
    script.push('\n');
    script
}

/// A comment ends with its line.
fn one_line(text: &str) -> String {
    printable(text)
}

/// Asks for the password last, so that nothing that was pasted behind it is taken for one.
fn password(expected: &Expected) -> String {
    let (user, name) = (expected.user.quoted(), expected.user.literal());
    format!(
        "-- The password, which psql makes a SCRAM verifier of; the same goes into `password_file`.\n\
         SET password_encryption = 'scram-sha-256';\n\
         SELECT rolpassword IS NULL AS asks_for_password FROM pg_authid WHERE rolname = {name}\n\
         \\gset\n\
         \\if :asks_for_password \\password {user} \\endif\n"
    )
}

/// What of a server its `pg_hba.conf` depends on.
#[derive(Clone, Copy, Debug)]
pub struct HbaServer<'a> {
    /// Its major version.
    pub major: u32,
    /// The address that it sees the broker at, if that is known.
    pub broker_address: Option<&'a str>,
}

impl HbaServer<'_> {
    /// Whether a user may be a regular expression.
    fn knows_patterns(self) -> bool {
        self.major >= SIXTEEN / 10_000
    }
}

/// The lines for `pg_hba.conf`.
pub(super) fn hba(expected: &Expected, server: HbaServer<'_>) -> String {
    let mut lines = hba_head(expected, server);
    lines.push_str(&broker_line(expected, server));
    lines.push_str(&admitting(expected, server));
    lines.push_str("# Nothing else lets a lease role in.\n");
    for line in rejecting(expected, server) {
        lines.push_str(&line);
        lines.push('\n');
    }
    lines
}

fn hba_head(expected: &Expected, server: HbaServer<'_>) -> String {
    let (cluster, major) = (&expected.cluster, server.major);
    let mut head = format!(
        "# pgbridge, cluster {cluster}, PostgreSQL {major}. These lines go before all others, since the first\n\
         # that fits decides. Then: SELECT pg_reload_conf();\n"
    );
    if !server.knows_patterns() {
        head.push_str(
            "# Before 16 a line cannot say \"lease roles\", so it says \"members of the roles that are lent\": that\n\
             # holds for whoever else is a member of them, too.\n",
        );
    }
    head.push_str("# TYPE   DATABASE  USER  ADDRESS  METHOD\n");
    head
}

fn broker_line(expected: &Expected, server: HbaServer<'_>) -> String {
    let user = hba_name(expected.user.as_str());
    let address = server.broker_address.map(|address| match address.parse::<std::net::IpAddr>() {
        Ok(address) => IpNet::from(address).to_string(),
        Err(_) => "all".to_owned(),
    });
    let mut lines =
        "# The broker, to every database that a lease may leave something in.\n".to_owned();
    let kind = match expected.protection {
        Protection::Socket => {
            let _ = writeln!(lines, "local    all  {user}  scram-sha-256");
            return lines;
        }
        Protection::Tls => "hostssl ",
        Protection::Local => "host    ",
    };
    if address.is_none() {
        lines.push_str("# Better than `all` is the broker's own address.\n");
    }
    let address = address.unwrap_or_else(|| "all".to_owned());
    let _ = writeln!(lines, "{kind} all  {user}  {address}  scram-sha-256");
    lines
}

/// The lines by which lease roles come in: TLS, SCRAM, their databases, their networks.
fn admitting(expected: &Expected, server: HbaServer<'_>) -> String {
    let mut lines = String::new();
    let socket = matches!(expected.client_host(), Some(Host::Socket(_)));
    let kind = match (socket, expected.clients_stay_local()) {
        (true, _) => "local   ",
        (false, true) => "host    ",
        (false, false) => "hostssl ",
    };
    for database in expected.databases() {
        for (user, networks) in guests(expected, database, server) {
            let name = hba_name(database.as_str());
            if socket {
                let _ = writeln!(lines, "{kind} {name}  {user}  scram-sha-256");
                continue;
            }
            let Some(networks) = networks else {
                lines.push_str(
                    "# `networks` in the profile would say from where; now it is from anywhere.\n",
                );
                let _ = writeln!(lines, "{kind} {name}  {user}  all  scram-sha-256");
                continue;
            };
            for network in networks {
                let _ = writeln!(lines, "{kind} {name}  {user}  {network}  scram-sha-256");
            }
        }
    }
    let title = "# Lease roles, to the databases of their profiles.\n";
    format!("{title}{lines}")
}

/// Who comes to a database, and from where; no networks means from anywhere.
fn guests(
    expected: &Expected,
    database: &DatabaseName,
    server: HbaServer<'_>,
) -> Vec<(String, Option<Vec<IpNet>>)> {
    let profiles = expected.profiles.iter().filter(|profile| profile.databases.contains(database));
    if !server.knows_patterns() {
        let guest = |profile: &std::sync::Arc<crate::mapping::Profile>| {
            (members_of(&profile.role), profile.networks.clone())
        };
        return profiles.map(guest).collect();
    }
    // The pattern cannot tell the profiles apart: from wherever one of them may come.
    let all = profiles.map(|profile| profile.networks.clone()).collect::<Option<Vec<_>>>();
    let networks = all.map(|all| {
        let mut networks: Vec<IpNet> = all.into_iter().flatten().collect();
        networks.sort_unstable();
        networks.dedup();
        networks
    });
    vec![(pattern(expected), networks)]
}

/// The lines that keep lease roles out wherever no line before them let one in.
pub(super) fn rejecting(expected: &Expected, server: HbaServer<'_>) -> Vec<String> {
    let users: Vec<String> = if server.knows_patterns() {
        vec![pattern(expected)]
    } else {
        expected.groups().map(members_of).collect()
    };
    let lines = |user: &String| {
        [format!("host     all  {user}  all  reject"), format!("local    all  {user}  reject")]
    };
    users.iter().flat_map(lines).collect()
}

/// Every lease role. A prefix has no character that means something in a pattern.
fn pattern(expected: &Expected) -> String {
    format!("/^{}", expected.role_prefix.as_str())
}

fn members_of(group: &RoleName) -> String {
    format!("+{}", hba_name(group.as_str()))
}

/// A name as `pg_hba.conf` has it: in quotes, so that no name is a keyword
/// (manual, "The `pg_hba.conf` File"). A line break cannot stand in the file; such a name is printed
/// so that it fits nobody.
fn hba_name(name: &str) -> String {
    printable(&identifier(name))
}

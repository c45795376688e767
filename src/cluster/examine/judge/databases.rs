//! The databases of the profiles.

use super::super::Expected;
use super::super::facts::{Database, Facts, Looked, Schema};
use super::super::finding::{Check, Finding};
use super::{listed, seen};
use crate::names::{RoleName, identifier};

pub(super) fn judge(expected: &Expected, facts: &Facts) -> Vec<Finding> {
    let mut findings = seen(Check::Database, &facts.databases, |databases| {
        let wanted = databases.iter().filter(|database| database.wanted);
        let mut findings: Vec<Finding> =
            wanted.clone().flat_map(|wanted| database(expected, wanted)).collect();
        findings.push(public_connect(databases));
        findings.push(store(expected, facts, databases));
        findings.extend(public_temporary(wanted));
        findings
    });
    for (database, schemas) in &facts.schemas {
        findings.extend(of_schemas(expected, database, schemas));
    }
    findings
}

fn database(expected: &Expected, database: &Database) -> Vec<Finding> {
    const CHECK: Check = Check::Database;
    let (name, quoted) = (&database.name, identifier(&database.name));
    let mut findings = Vec::new();
    if !database.known {
        let why = "A profile names it, so its leases cannot be used.";
        let finding = Finding::fail(CHECK, format!("there is no database {name}"), why);
        return vec![finding.mend("# databases in [[cluster.profile]]: those that exist")];
    }
    if !database.connectable {
        let why = "Nobody can connect to it, neither a lease role nor the broker.";
        let finding = Finding::fail(CHECK, format!("{name} takes no connections"), why);
        return vec![finding.mend(format!("ALTER DATABASE {quoted} ALLOW_CONNECTIONS true;"))];
    }
    if !database.broker_connects {
        let why = "What a lease leaves there cannot be cleared, so its role cannot be dropped.";
        let seen = format!("{} may not connect to {name}", expected.user);
        let user = expected.user.quoted();
        findings.push(
            Finding::fail(CHECK, seen, why)
                .mend(format!("GRANT CONNECT ON DATABASE {quoted} TO {user};")),
        );
    }
    let lends = |role: &String| {
        expected.profiles.iter().any(|profile| {
            profile.role.as_str() == role
                && profile.databases.iter().any(|database| database.as_str() == name)
        })
    };
    let shut_out: Vec<&String> = database.shut_out.iter().filter(|role| lends(role)).collect();
    if !shut_out.is_empty() {
        let seen = format!("{} may not connect to {name}", listed(&shut_out));
        let why = "A lease has the rights of what it was lent, so it does not get in.";
        let roles: Vec<String> = shut_out.iter().map(|role| identifier(role)).collect();
        findings.push(
            Finding::fail(CHECK, seen, why)
                .mend(format!("GRANT CONNECT ON DATABASE {quoted} TO {};", roles.join(", "))),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::pass(CHECK, format!("{name} is open to the broker and to leases")));
    }
    findings
}

fn public_connect(databases: &[Database]) -> Finding {
    const CHECK: Check = Check::PublicConnect;
    let open = |database: &&Database| database.connectable && database.public_connects;
    let names: Vec<&str> =
        databases.iter().filter(open).map(|database| database.name.as_str()).collect();
    if names.is_empty() {
        return Finding::pass(CHECK, "no database is open to everybody");
    }
    let why = "A lease for one database gets into these as well, if pg_hba.conf lets it; it has no \
               rights there but those of everybody.";
    let revoke = names
        .iter()
        .map(|name| format!("REVOKE CONNECT ON DATABASE {} FROM PUBLIC;", identifier(name)));
    Finding::note(CHECK, format!("open to everybody: {}", listed(&names)), why)
        .mend("-- after GRANT CONNECT to those who need it:")
        .mend_all(revoke)
}

/// Whoever is lent a role on the server of the store can get in its way, without any right there.
fn store(expected: &Expected, facts: &Facts, databases: &[Database]) -> Finding {
    const CHECK: Check = Check::Store;
    let found = expected.store.as_ref().and_then(|store| {
        let name = store.database.as_str();
        databases.iter().find(|database| database.name == name).map(|database| (store, database))
    });
    let Some((store, database)) = found else {
        return Finding::pass(CHECK, "the broker's own store is elsewhere");
    };
    let (name, quoted) = (&database.name, identifier(&database.name));
    let user = store.user.quoted();
    let gets_in = |role: &&RoleName| !database.shut_out.iter().any(|out| out == role.as_str());
    let guests: Vec<&RoleName> = expected.groups().filter(gets_in).collect();
    let reserved = can_reserve(facts).then(|| {
        [
            "-- connections that nobody else gets; it needs a restart:".to_owned(),
            "ALTER SYSTEM SET reserved_connections = 20;".to_owned(),
            format!("GRANT pg_use_reserved_connections TO {user};"),
        ]
    });
    let reserved = reserved.into_iter().flatten();
    if guests.is_empty() && !database.public_connects {
        let seen = format!("the broker's own store is here too, and leases do not get into {name}");
        let why = "Leases that take all connections of the server keep the broker from its store, so \
                   that nothing is issued meanwhile.";
        return Finding::note(CHECK, seen, why).mend_all(reserved);
    }
    let why = "A lease that gets into the database can hold the locks of the store, and those that take \
               all connections keep the broker from it: nothing is issued or written down meanwhile.";
    let guests: Vec<String> = guests.into_iter().map(RoleName::quoted).collect();
    let everybody = std::iter::once("PUBLIC".to_owned()).chain(guests).collect::<Vec<_>>();
    let seen = format!("the broker's own store is here too, and leases get into {name}");
    Finding::warn(CHECK, seen, why)
        .mend("-- best is a server that lends no roles (`url` in [store]); as long as it is this one:")
        .mend(format!("GRANT CONNECT ON DATABASE {quoted} TO {user};"))
        .mend(format!("REVOKE CONNECT ON DATABASE {quoted} FROM {};", everybody.join(", ")))
        .mend_all(reserved)
}

/// Whether the server is 16 or newer, which can keep connections for a role.
fn can_reserve(facts: &Facts) -> bool {
    facts.server.as_ref().is_ok_and(|server| super::server::has_options(server.version))
}

fn public_temporary<'a>(databases: impl Iterator<Item = &'a Database>) -> Option<Finding> {
    let open = |database: &&Database| database.connectable && database.public_temporary;
    let names: Vec<&str> = databases.filter(open).map(|database| database.name.as_str()).collect();
    if names.is_empty() {
        return None;
    }
    let why = "Every lease role can make temporary tables there, whatever it was lent; they end with \
               its sessions.";
    let revoke = names
        .iter()
        .map(|name| format!("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC;", identifier(name)));
    let seen = format!("everybody may make temporary tables in {}", listed(&names));
    Some(Finding::note(Check::PublicTemporary, seen, why).mend_all(revoke))
}

fn of_schemas(expected: &Expected, database: &str, schemas: &Looked<Vec<Schema>>) -> Vec<Finding> {
    seen(Check::PublicCreate, schemas, |schemas| {
        let mut findings = vec![public_create(database, schemas)];
        findings.extend(attic_create(expected, database, schemas));
        findings
    })
}

fn place(database: &str, schema: &Schema) -> String {
    match &schema.name {
        Some(schema) => format!("schema {schema} of {database}"),
        None => format!("database {database}"),
    }
}

/// `GRANT` or `REVOKE` of CREATE on a schema or on the database.
fn on(database: &str, schema: &Schema) -> String {
    match &schema.name {
        Some(schema) => format!("CREATE ON SCHEMA {}", identifier(schema)),
        None => format!("CREATE ON DATABASE {}", identifier(database)),
    }
}

fn public_create(database: &str, schemas: &[Schema]) -> Finding {
    const CHECK: Check = Check::PublicCreate;
    let open: Vec<&Schema> = schemas.iter().filter(|schema| schema.public_creates).collect();
    if open.is_empty() {
        return Finding::pass(CHECK, format!("nobody unnamed may make things in {database}"));
    }
    let places: Vec<String> = open.iter().map(|schema| place(database, schema)).collect();
    let why = "A lease that may only read can plant functions there which others run as themselves \
               (CVE-2018-1058), and leaves more behind than it was lent for.";
    Finding::warn(CHECK, format!("everybody may make things in {}", listed(&places)), why)
        .mend(format!("\\connect {}", identifier(database)))
        .mend_all(open.iter().map(|schema| format!("REVOKE {} FROM PUBLIC;", on(database, schema))))
}

/// Whether the attic may own what lease roles make. To become the owner of a function it needs
/// CREATE on the schema, of a schema on the database.
fn attic_create(expected: &Expected, database: &str, schemas: &[Schema]) -> Option<Finding> {
    const CHECK: Check = Check::AtticCreate;
    let attic = expected.attic_role.as_ref().filter(|_| expected.reassigns())?;
    let made = |schema: &&Schema| !schema.groups_create.is_empty() || schema.public_creates;
    let used: Vec<&Schema> = schemas.iter().filter(made).collect();
    let closed: Vec<&&Schema> = used.iter().filter(|schema| !schema.attic_creates).collect();
    if used.is_empty() {
        return None;
    }
    if closed.is_empty() {
        let seen = format!("{attic} can take over what leases make in {database}");
        return Some(Finding::pass(CHECK, seen));
    }
    let places: Vec<String> = closed.iter().map(|schema| place(database, schema)).collect();
    let why = "Leases may make things there that the attic may not own (functions, schemas): a lease \
               that does stays in quarantine.";
    let finding =
        Finding::warn(CHECK, format!("{attic} may not make things in {}", listed(&places)), why);
    let grants = closed
        .iter()
        .map(|schema| format!("GRANT {} TO {};", on(database, schema), attic.quoted()));
    Some(finding.mend(format!("\\connect {}", identifier(database))).mend_all(grants))
}

//! What the broker's login, its service roles and the roles that are lent may do.

use super::super::Expected;
use super::super::facts::{Facts, Login, Looked, Role, Schema};
use super::super::finding::{Check, Finding};
use super::super::prepare::{BECOME, HAND_ON, SIXTEEN, grant};
use super::server::has_options;
use super::{listed, seen};
use crate::mapping::Profile;
use crate::names::{RoleName, identifier, literal};

pub(super) fn judge(expected: &Expected, facts: &Facts) -> Vec<Finding> {
    // What is right depends on the version; one that is not known is judged by the stricter rule.
    let version = facts.server.as_ref().map_or(SIXTEEN, |server| server.version);
    let mut findings = seen(Check::Login, &facts.login, |login| {
        let mut findings = vec![
            account(expected, login),
            create_role(expected, login),
            signal(expected, login, version),
        ];
        let settings = facts.settings.as_ref().ok();
        let most = settings.and_then(|settings| settings.get("max_connections")?.parse().ok());
        findings.push(connection_limit(expected, login, most));
        findings
    });
    findings.extend(seen(Check::GroupRole, &facts.roles, |roles| {
        let find = |name: &RoleName| roles.iter().find(|role| role.name == name.as_str());
        let mut findings = vec![
            admin_role(expected, expected.admin_role.as_ref().and_then(find), version),
            attic_role(expected, expected.attic_role.as_ref().and_then(find), version),
        ];
        for profile in &expected.profiles {
            findings.extend(find(&profile.role).map(|role| group_role(expected, role, version)));
        }
        for profile in &expected.profiles {
            let known = find(&profile.role).filter(|role| role.known);
            findings.extend(known.map(|role| group_rights(profile, role, &facts.schemas)));
        }
        findings
    }));
    findings.extend(seen(Check::GroupReach, &facts.reaches, |reaches| {
        reaches.iter().map(|(group, powers)| reach(group, powers)).collect()
    }));
    findings
}

fn account(expected: &Expected, login: &Login) -> Finding {
    let user = expected.user.quoted();
    let name = &expected.user;
    if login.superuser {
        let why = "Whoever takes over the broker would own the cluster and, by it, the machine.";
        return Finding::fail(Check::Login, format!("{name} is a superuser"), why)
            .mend(format!("ALTER ROLE {user} NOSUPERUSER;"));
    }
    if !login.powers.is_empty() {
        let seen = format!("{name} is a member of {}", listed(&login.powers));
        let why = "The server's programs and files are as good as superuser.";
        let revoke =
            login.powers.iter().map(|power| format!("REVOKE {} FROM {user};", identifier(power)));
        return Finding::fail(Check::Login, seen, why).mend_all(revoke);
    }
    if !login.needless.is_empty() {
        let seen = format!("{name} has {}", login.needless.join(", "));
        let without = login.needless.iter().map(|attribute| format!("NO{attribute}"));
        let without = without.collect::<Vec<_>>().join(" ");
        return Finding::warn(Check::Login, seen, "The broker does not need it.")
            .mend(format!("ALTER ROLE {user} {without};"));
    }
    if login.expires {
        let why = "From then on the broker cannot log in, and nothing is taken back any more.";
        return Finding::warn(Check::Login, format!("{name} has a VALID UNTIL"), why)
            .mend(format!("ALTER ROLE {user} VALID UNTIL 'infinity';"));
    }
    Finding::pass(Check::Login, format!("{name} is no superuser and reaches none"))
}

fn create_role(expected: &Expected, login: &Login) -> Finding {
    if login.can_create_roles || login.superuser {
        return Finding::pass(Check::CreateRole, format!("{} has CREATEROLE", expected.user));
    }
    let seen = format!("{} has no CREATEROLE", expected.user);
    Finding::fail(Check::CreateRole, seen, "It can make no lease role.")
        .mend(format!("ALTER ROLE {} CREATEROLE;", expected.user.quoted()))
}

fn signal(expected: &Expected, login: &Login, version: u32) -> Finding {
    let name = &expected.user;
    if login.may_signal || login.superuser {
        return Finding::pass(Check::Signal, format!("{name} is in pg_signal_backend"));
    }
    let why = "A session that outlives its role cannot be ended, and goes on with what it has.";
    let user = expected.user.quoted();
    let (options, with) = if has_options(version) {
        (", with INHERIT and SET", format!(" WITH {BECOME}"))
    } else {
        ("", String::new())
    };
    Finding::fail(Check::Signal, format!("{name} is not in pg_signal_backend{options}"), why)
        .mend(format!("GRANT pg_signal_backend TO {user}{with};"))
}

fn connection_limit(expected: &Expected, login: &Login, most: Option<i64>) -> Finding {
    let needed = expected.connections;
    let limit = i64::from(login.connection_limit);
    let own = (limit >= 0).then_some(limit);
    let enough = |limit: i64| usize::try_from(limit).is_ok_and(|limit| limit >= needed);
    let why = "When leases come and go at once, taking back waits for a connection.";
    match (own, most) {
        (Some(own), _) if !enough(own) => {
            let seen =
                format!("{} may have {own} connections, and uses up to {needed}", expected.user);
            Finding::warn(Check::ConnectionLimit, seen, why)
                .mend(format!("ALTER ROLE {} CONNECTION LIMIT -1;", expected.user.quoted()))
        }
        (_, Some(most)) if !enough(most) => {
            let seen =
                format!("max_connections = {most}, and the broker alone uses up to {needed}");
            Finding::warn(Check::ConnectionLimit, seen, why)
                .mend("-- it needs a restart:")
                .mend("ALTER SYSTEM SET max_connections = 200;")
        }
        _ => Finding::pass(Check::ConnectionLimit, format!("room for the broker's {needed}")),
    }
}

fn admin_role(expected: &Expected, found: Option<&Role>, version: u32) -> Finding {
    const CHECK: Check = Check::AdminRole;
    const NEEDED: &str = "Without it only the login that made a lease role can end it: not a second \
                          broker, and not a later login in this one's place.";
    let Some(name) = &expected.admin_role else {
        if !has_options(version) {
            return Finding::pass(CHECK, "none is set; before 16 every CREATEROLE can end a lease");
        }
        return Finding::warn(CHECK, "no admin_role in [[cluster]]", NEEDED).mend(
            "# admin_role = \"pgbridge_admin\" in [[cluster]], then `pgbridge doctor --print-sql`",
        );
    };
    let Some(role) = found.filter(|role| role.known) else {
        let finding = Finding::fail(CHECK, format!("there is no role {name}"), NEEDED);
        return finding.mend(format!("CREATE ROLE {} NOLOGIN;", name.quoted())).mend(grant(
            name,
            &expected.user,
            BECOME,
            version,
        ));
    };
    if !role.attributes.is_empty() {
        return too_much(CHECK, name, role, "Every broker has what this role may do.");
    }
    if has_options(version) && !role.inherited {
        let seen = format!("{} does not have the rights of {name}", expected.user);
        let why = "ADMIN on lease roles and on what is lent works only for who inherits it.";
        return Finding::fail(CHECK, seen, why).mend(grant(name, &expected.user, BECOME, version));
    }
    if role.can_login {
        return logs_in(CHECK, name, "Who logs in by it can end every lease and lend every role.");
    }
    if role.members.is_empty() {
        return Finding::pass(CHECK, format!("{name}, and {} is in it", expected.user));
    }
    let why =
        "Each of them can end leases and hand on what is lent here: right for another broker.";
    Finding::note(CHECK, format!("{name} has other members: {}", listed(&role.members)), why)
}

fn attic_role(expected: &Expected, found: Option<&Role>, version: u32) -> Finding {
    const CHECK: Check = Check::AtticRole;
    let Some(name) = &expected.attic_role else {
        let why = "What a lease role owns at its end is dropped.";
        return Finding::note(CHECK, "no attic_role in [[cluster]]", why);
    };
    let join = grant(name, &expected.user, BECOME, version);
    let Some(role) = found.filter(|role| role.known) else {
        let why = "What a lease role owns cannot be handed over, so the role cannot be dropped.";
        return Finding::fail(CHECK, format!("there is no role {name}"), why)
            .mend(format!("CREATE ROLE {} NOLOGIN;", name.quoted()))
            .mend(join);
    };
    if !role.attributes.is_empty() {
        return too_much(CHECK, name, role, "Functions that a person made run with its rights.");
    }
    if !role.groups.is_empty() {
        let seen = format!("{name} is a member of {}", listed(&role.groups));
        let why = "Functions that a person made, with SECURITY DEFINER, run with its rights.";
        let revoke = role
            .groups
            .iter()
            .map(|group| format!("REVOKE {} FROM {};", identifier(group), name.quoted()));
        return Finding::fail(CHECK, seen, why).mend_all(revoke);
    }
    if !role.inherited || !role.can_be_set {
        let seen = format!("{} cannot act for {name}", expected.user);
        let why = "What a lease role owns cannot be handed over, so the role cannot be dropped.";
        return Finding::fail(CHECK, seen, why).mend(join);
    }
    if role.can_login {
        return logs_in(CHECK, name, "Who logs in by it owns what every lease has left behind.");
    }
    if !role.members.is_empty() {
        let seen = format!("{name} has other members: {}", listed(&role.members));
        let why = "Each of them owns what every lease has left behind.";
        let revoke = role
            .members
            .iter()
            .map(|member| format!("REVOKE {} FROM {};", name.quoted(), identifier(member)));
        return Finding::warn(CHECK, seen, why).mend_all(revoke);
    }
    Finding::pass(CHECK, format!("{name}, which is a member of nothing and nobody logs in by"))
}

fn too_much(check: Check, name: &RoleName, role: &Role, why: &'static str) -> Finding {
    let without: Vec<String> =
        role.attributes.iter().map(|attribute| format!("NO{attribute}")).collect();
    Finding::fail(check, format!("{name} has {}", role.attributes.join(", ")), why).mend(format!(
        "ALTER ROLE {} {};",
        name.quoted(),
        without.join(" ")
    ))
}

fn logs_in(check: Check, name: &RoleName, why: &'static str) -> Finding {
    Finding::fail(check, format!("{name} can log in"), why)
        .mend(format!("ALTER ROLE {} NOLOGIN;", name.quoted()))
}

fn group_role(expected: &Expected, role: &Role, version: u32) -> Finding {
    const CHECK: Check = Check::GroupRole;
    let name = &role.name;
    let quoted = identifier(name);
    let holder = expected.holder_of_admin().quoted();
    if !role.known {
        let mut finding = Finding::fail(
            CHECK,
            format!("there is no role {name}"),
            "A profile lends it, so whoever the map allows it gets an error.",
        )
        .mend(format!("CREATE ROLE {quoted} NOLOGIN;"));
        if has_options(version) {
            finding = finding.mend(format!("GRANT {quoted} TO {holder} WITH {HAND_ON};"));
        }
        return finding.mend("-- and its rights on schemas and tables");
    }
    if has_options(version) && !role.can_be_granted {
        let seen = format!("the broker holds no ADMIN on {name}");
        let why = "Since 16, CREATEROLE may not hand on a role that it did not make.";
        return Finding::fail(CHECK, seen, why)
            .mend(format!("GRANT {quoted} TO {holder} WITH {HAND_ON};"));
    }
    if role.can_login {
        let why = "Whoever knows its password has the same rights with no end, and no audit.";
        return Finding::warn(CHECK, format!("{name} can log in"), why)
            .mend(format!("ALTER ROLE {quoted} NOLOGIN;"));
    }
    Finding::pass(CHECK, format!("{name} can be lent"))
}

/// Whoever sets up the first role to be lent maps people to it and wonders why they see nothing.
fn group_rights(
    profile: &Profile,
    role: &Role,
    schemas: &[(String, Looked<Vec<Schema>>)],
) -> Finding {
    const CHECK: Check = Check::GroupRights;
    let name = &role.name;
    if role.has_rights {
        return Finding::pass(CHECK, format!("{name} has rights of its own"));
    }
    let why = "Whoever is lent it can do what everybody can, and nothing more.";
    let finding = Finding::warn(CHECK, format!("{name} has no rights in any database"), why);
    let Some(database) = profile.databases.first() else {
        return finding.mend("# databases in [[cluster.profile]]: those that it has rights in");
    };
    let seen = schemas.iter().find(|(seen, _)| seen == database.as_str());
    let schemas = seen.and_then(|(_, looked)| looked.as_deref().ok()).unwrap_or_default();
    let names = schemas.iter().filter_map(|schema| schema.name.as_deref());
    let own: Vec<&str> = names.filter(|name| *name != "public").collect();
    // Which of several is meant, nobody can know: what is pasted must not open another.
    let (before, schema) = match own.as_slice() {
        [] => ("", identifier("public")),
        [only] => ("", identifier(only)),
        [..] => ("-- ", "…".to_owned()),
    };
    let role = identifier(name);
    finding
        .mend("-- what its leases are for; such as, to read all tables that a schema has now:")
        .mend(format!("\\connect {}", identifier(database.as_str())))
        .mend(format!("{before}GRANT USAGE ON SCHEMA {schema} TO {role};"))
        .mend(format!("{before}GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role};"))
}

fn reach(group: &str, powers: &[String]) -> Finding {
    const CHECK: Check = Check::GroupReach;
    if powers.is_empty() {
        return Finding::pass(CHECK, format!("{group} reaches no role that rules the cluster"));
    }
    let seen = format!("{group} reaches too much: {}", powers.join(", "));
    let why = "No lease is made of it, for its holder could take over the cluster or the broker.";
    Finding::fail(CHECK, seen, why)
        .mend("-- what it is a member of; take away the one that leads there:")
        .mend(format!(
            "SELECT roleid::regrole FROM pg_auth_members WHERE member = {}::regrole;",
            literal(&identifier(group))
        ))
}

//! Plans for a role that begins or goes on.

use jiff::Timestamp;

use super::{ServerVersion, Statement, grant, guard};
use crate::lease::Marker;
use crate::mapping::Profile;
use crate::names::{LeaseRoleName, RoleName, RoleOid, Verifier, identifier, literal};

/// All that a new lease role is made from.
pub struct Creation<'a> {
    /// Its name.
    pub role: &'a LeaseRoleName,
    /// Its mark.
    pub marker: &'a Marker,
    /// The terms: the group role it gets, its connection limit and its settings.
    pub profile: &'a Profile,
    /// What the server stores in its password's place.
    pub verifier: &'a Verifier,
    /// Until when it can log in, on the cluster's clock.
    pub valid_until: Timestamp,
    /// Until when it may be made, on the cluster's clock.
    pub deadline: Timestamp,
    /// Group of all brokers that may end it; needed since 16.
    pub admin_role: Option<&'a RoleName>,
    /// Version of the server.
    pub version: ServerVersion,
}

/// The statements that make a lease role, for one transaction. The last gives its OID, or fails
/// when it is too late.
///
/// The role has no attribute but LOGIN and no right but what the group gives. On 16 and newer it
/// cannot become the group (SET FALSE), so nothing it makes belongs to the group, and taking the
/// membership away works in open sessions at once. Before 16 a membership has no such option.
///
/// The broker does not become a member of it, although it must be one to hand over what the role
/// leaves: it becomes one then (`let_broker_act_for`). Since 16 the server follows every
/// membership of the broker at each of these statements, so with one for each live lease, making
/// the next would take longer and longer. The brokers' group gets ADMIN and nothing else, and
/// only where ADMIN counts.
#[must_use]
pub fn create(creation: &Creation<'_>) -> Vec<Statement> {
    let version = creation.version;
    let (role, group) = (creation.role.quoted(), creation.profile.role.quoted());
    let comment = literal(creation.marker.as_str());
    let mut statements = vec![
        Statement::secret("make the role", create_role(creation)),
        Statement::new("mark it as ours", format!("COMMENT ON ROLE {role} IS {comment}")),
        Statement::new("its rights", grant(&group, &role, "INHERIT TRUE, SET FALSE", version)),
    ];
    statements.extend(creation.profile.settings.iter().map(|(parameter, value)| {
        let (parameter, value) = (parameter_name(parameter), parameter_value(parameter, value));
        Statement::new("its settings", format!("ALTER ROLE {role} SET {parameter} TO {value}"))
    }));
    if let Some(admin) = creation.admin_role.filter(|_| version.has_membership_options()) {
        let admin = admin.quoted();
        let sql = format!("GRANT {role} TO {admin} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE");
        statements.push(Statement::new("let other brokers end it", sql));
    }
    statements.push(guard::in_time(creation.role, creation.deadline));
    statements
}

/// The statements that move the end of a role's log-in to `valid_until`, unless its access has
/// ended meanwhile.
#[must_use]
pub fn extend(name: &str, oid: RoleOid, valid_until: Timestamp) -> Vec<Statement> {
    let until = literal(&guard::text(valid_until));
    vec![
        Statement::new(
            "move its end",
            format!("ALTER ROLE {} VALID UNTIL {until}", identifier(name)),
        ),
        guard::same_role(name, oid),
        guard::still_open(oid),
    ]
}

/// Makes the broker a member of `role`, already quoted, with all its rights.
pub(super) fn let_broker_act_for(role: &str, version: ServerVersion) -> Statement {
    Statement::new(
        "let the broker act for it",
        grant(role, "CURRENT_USER", "INHERIT TRUE, SET TRUE", version),
    )
}

/// The same for a person to run: in their session `CURRENT_USER` is not the broker.
#[must_use]
pub fn join_remedy(role: &str, broker: &str, version: ServerVersion) -> String {
    grant(&identifier(role), &identifier(broker), "INHERIT TRUE, SET TRUE", version)
}

fn create_role(creation: &Creation<'_>) -> String {
    let role = creation.role.quoted();
    let limit = creation.profile.connection_limit.get();
    let verifier = literal(creation.verifier.expose());
    let until = literal(&guard::text(creation.valid_until));
    format!(
        "CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS \
         INHERIT CONNECTION LIMIT {limit} PASSWORD {verifier} VALID UNTIL {until}"
    )
}

/// A parameter's name; one of an extension has a dot.
fn parameter_name(name: &str) -> String {
    name.split('.').map(identifier).collect::<Vec<_>>().join(".")
}

/// Parameters whose value is a list of names, each an element of its own in `SET`
/// (`GUC_LIST_QUOTE` in the server): one constant with a comma would be one strange name.
const LISTS: [&str; 4] =
    ["search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries"];

fn parameter_value(name: &str, value: &str) -> String {
    if LISTS.contains(&name.to_ascii_lowercase().as_str()) {
        let elements = value.split(',').map(|element| literal(element.trim().trim_matches('"')));
        elements.collect::<Vec<_>>().join(", ")
    } else {
        literal(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::MarkerKey;
    use crate::names::{LeaseId, Password, ScramIterations};

    const OLD: ServerVersion = ServerVersion(150_018);
    const NEW: ServerVersion = ServerVersion(160_014);

    fn profile(role: &str) -> Profile {
        let (database, ttl) = ("orders".parse().unwrap(), "1h".parse().unwrap());
        Profile::plain(role.parse().unwrap(), database, ttl, "8h".parse().unwrap())
    }

    struct Made {
        statements: Vec<Statement>,
        verifier: Verifier,
        marker: Marker,
    }

    fn made(profile: &Profile, version: ServerVersion, admin: Option<&str>) -> Made {
        let mut rng = rand::rng();
        let verifier = Password::random(&mut rng)
            .verifier(1.try_into().unwrap_or(ScramIterations::DEFAULT), &mut rng);
        let key = MarkerKey::random(&mut rng);
        let lease: LeaseId = "aaaaaaaaaaaaaaaa".parse().unwrap();
        let marker = Marker::new(&key, &"b1".parse().unwrap(), &"orders".parse().unwrap(), lease);
        let role = LeaseRoleName::try_from("pgb_alice_aaaaaaaaaaaaaaaa".to_owned()).unwrap();
        let admin = admin.map(|name| name.parse::<RoleName>().unwrap());
        let statements = create(&Creation {
            role: &role,
            marker: &marker,
            profile,
            verifier: &verifier,
            valid_until: "2026-11-20T20:00:00Z".parse().unwrap(),
            deadline: "2026-11-20T19:00:30.25Z".parse().unwrap(),
            admin_role: admin.as_ref(),
            version,
        });
        Made { statements, verifier, marker }
    }

    impl Made {
        /// The plan as a DBA would read it, verifier and mark by their names.
        fn read(&self) -> Vec<String> {
            let plain = |statement: &Statement| {
                let sql = statement.sql().replace(self.verifier.expose(), "VERIFIER");
                sql.replace(self.marker.as_str(), "MARK")
            };
            self.statements.iter().map(plain).collect()
        }
    }

    #[test]
    fn a_role_is_made_as_a_dba_would_write_it() {
        let role = r#""pgb_alice_aaaaaaaaaaaaaaaa""#;
        let create = format!(
            "CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION \
             NOBYPASSRLS INHERIT CONNECTION LIMIT 10 PASSWORD 'VERIFIER' \
             VALID UNTIL '2026-11-20 20:00:00.000000+00'"
        );
        let comment = format!("COMMENT ON ROLE {role} IS 'MARK'");
        let in_time = format!(
            "SELECT CASE WHEN clock_timestamp() < '2026-11-20 19:00:30.250000+00'::timestamptz \
             THEN '{role}'::regrole::oid \
             ELSE concat('too late to make this role, the time is ', clock_timestamp())::oid END"
        );
        assert_eq!(
            made(&profile("orders_read"), NEW, None).read(),
            [
                create.clone(),
                comment.clone(),
                format!("GRANT \"orders_read\" TO {role} WITH INHERIT TRUE, SET FALSE"),
                in_time.clone(),
            ]
        );
        assert_eq!(
            made(&profile("orders_read"), OLD, Some("brokers")).read(),
            [
                create.clone(),
                comment.clone(),
                format!("GRANT \"orders_read\" TO {role}"),
                in_time.clone(),
            ]
        );
        assert_eq!(
            made(&profile("orders_read"), NEW, Some("the \"brokers\"")).read(),
            [
                create,
                comment,
                format!("GRANT \"orders_read\" TO {role} WITH INHERIT TRUE, SET FALSE"),
                format!(
                    "GRANT {role} TO \"the \"\"brokers\"\"\" \
                     WITH ADMIN TRUE, INHERIT FALSE, SET FALSE"
                ),
                in_time,
            ]
        );
    }

    #[test]
    fn a_hostile_group_name_stays_one_identifier() {
        for (name, quoted) in [
            ("x\"; DROP ROLE y; --", "\"x\"\"; DROP ROLE y; --\""),
            ("two\nlines", "\"two\nlines\""),
            ("it's", "\"it's\""),
            ("PUBLIC", "\"PUBLIC\""),
            ("CURRENT_USER", "\"CURRENT_USER\""),
            ("back\\slash", "\"back\\slash\""),
        ] {
            let plan = made(&profile(name), OLD, None).read();
            assert_eq!(plan[2], format!("GRANT {quoted} TO \"pgb_alice_aaaaaaaaaaaaaaaa\""));
        }
    }

    #[test]
    fn settings_become_constants_and_lists_keep_their_elements() {
        let mut profile = profile("orders_read");
        profile.settings = [
            ("statement_timeout", "5min"),
            ("search_path", "\"$user\", app"),
            ("app.who", "it's; --"),
            ("x\" TO 1; --", "v"),
        ]
        .map(|(parameter, value)| (parameter.to_owned(), value.to_owned()))
        .to_vec();
        let role = "ALTER ROLE \"pgb_alice_aaaaaaaaaaaaaaaa\" SET";
        assert_eq!(
            made(&profile, NEW, None).read()[3..7],
            [
                format!("{role} \"statement_timeout\" TO '5min'"),
                format!("{role} \"search_path\" TO '$user', 'app'"),
                format!("{role} \"app\".\"who\" TO 'it''s; --'"),
                format!("{role} \"x\"\" TO 1; --\" TO 'v'"),
            ]
        );
    }

    #[test]
    fn a_printed_plan_shows_no_verifier() {
        let made = made(&profile("orders_read"), NEW, None);
        let printed = format!("{:?}", made.statements);
        assert!(!printed.contains("SCRAM"), "{printed}");
        assert!(printed.contains("COMMENT ON ROLE"), "{printed}");
    }

    #[test]
    fn an_end_is_moved_for_the_role_of_that_oid_only() {
        let until = "2026-11-20T20:00:00+02:00".parse().unwrap();
        let plan = extend("re\"named", RoleOid(77), until);
        let plan: Vec<&str> = plan.iter().map(Statement::sql).collect();
        assert_eq!(
            plan,
            [
                "ALTER ROLE \"re\"\"named\" VALID UNTIL '2026-11-20 18:00:00.000000+00'",
                "SELECT CASE WHEN '\"re\"\"named\"'::regrole::oid = 77 THEN 77 \
                 ELSE concat('another role has this name since ', clock_timestamp())::oid END",
                "SELECT CASE WHEN (SELECT rolcanlogin FROM pg_roles WHERE oid = 77) THEN 77 \
                 ELSE concat('the access of this role has ended before ', clock_timestamp())::oid END",
            ]
        );
    }
}

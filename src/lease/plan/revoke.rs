//! Plan for ending the access that a role gives.

use super::create::{join_remedy, let_broker_act_for};
use super::{ServerVersion, Statement, guard};
use crate::lease::{Blocker, BlockerKind};
use crate::names::{RoleOid, identifier};

/// A lease role as the catalogue shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleView {
    /// Its OID.
    pub oid: RoleOid,
    /// Its name now; a DBA may have changed it.
    pub name: String,
    /// Whether it may log in.
    pub can_login: bool,
    /// Whether a DBA made it one that may copy the cluster.
    pub has_replication: bool,
    /// Version of the server.
    pub version: ServerVersion,
    /// The broker's login.
    pub broker: String,
    /// Whether the broker may end its sessions: as a member of `pg_signal_backend`, or of it.
    pub broker_may_end_sessions: bool,
    /// The groups it is in, one entry for each grantor.
    pub groups: Vec<Membership>,
    /// Who is a member of it, one entry for each grantor.
    pub members: Vec<Membership>,
    /// Memberships that it has handed on to others.
    pub handed_on: Vec<Membership>,
}

impl RoleView {
    /// How many memberships were read.
    #[must_use]
    pub fn memberships(&self) -> usize {
        self.groups.len() + self.members.len() + self.handed_on.len()
    }
}

/// One row of `pg_auth_members`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The group.
    pub group: String,
    /// The member.
    pub member: String,
    /// Whether the member is a broker: this one, the brokers' group, or a login in that group.
    pub member_is_broker: bool,
    /// Who granted it; nothing when that role is gone, which before 16 can happen.
    pub grantor: Option<String>,
}

/// How to end the access of a role, in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessPlan {
    /// The statements.
    pub statements: Vec<Statement>,
    /// How many of them, from the first, must succeed for anything to be committed. The others
    /// take away memberships that somebody else may have granted; one that the broker may not
    /// revoke is no reason to leave the log-in open.
    pub vital: usize,
    /// What they leave, and who can end it.
    pub blockers: Vec<Blocker>,
    /// What a person runs when the server does not let the broker act for the role.
    pub join_remedy: String,
}

/// Plans how to end the access of a role: no log-in, no group, and nobody but brokers has its
/// rights. Sessions are ended after the commit, by OID.
///
/// Memberships go in the same step as LOGIN because a session that is just starting passes the
/// log-in check before it can be seen; without memberships it has no rights.
///
/// Before 16 nobody but a superuser may change a role with REPLICATION, which no lease role has
/// from us: there its memberships go alone.
#[must_use]
pub fn end_access(role: &RoleView) -> AccessPlan {
    let name = identifier(&role.name);
    let guard = || guard::same_role(&role.name, role.oid);
    let closable = !role.has_replication || role.version.has_membership_options();
    let mut statements = Vec::new();
    let mut blockers = Vec::new();
    if closable {
        let close = format!(
            "ALTER ROLE {name} NOLOGIN CONNECTION LIMIT 0 PASSWORD NULL VALID UNTIL '-infinity'"
        );
        statements.extend([Statement::new("let nobody in", close), guard()]);
    } else {
        statements.push(guard());
        let detail = "the role has REPLICATION, so before 16 only a superuser may close it";
        let sql = format!("ALTER ROLE {name} NOLOGIN NOREPLICATION");
        blockers.push(Blocker::new(BlockerKind::Role, detail).remedy_sql(&sql));
    }
    let vital = statements.len();
    if !role.broker_may_end_sessions || !role.handed_on.is_empty() {
        statements.push(let_broker_act_for(&name, role.version));
    }
    let mut revoke = |what, memberships: &[Membership]| {
        let foreign = memberships.iter().filter(|membership| !membership.member_is_broker);
        statements
            .extend(foreign.map(|one| Statement::new(what, revoke_membership(one, role.version))));
    };
    revoke("take it out of a group", &role.groups);
    revoke("take back a membership it gave", &role.handed_on);
    revoke("take a member out of it", &role.members);
    if !closable {
        // Nothing has locked the role's row: the name must be its own still.
        statements.push(guard());
    }
    let join_remedy = join_remedy(&role.name, &role.broker, role.version);
    AccessPlan { statements, vital, blockers, join_remedy }
}

/// Plans how to end the rights of a role alone, while somebody keeps its row locked and so its
/// log-in open: taking it out of a group needs no lock on that row (measured on every major).
/// Empty when it is in no group.
#[must_use]
pub fn end_rights(role: &RoleView) -> AccessPlan {
    let groups = role.groups.iter().filter(|membership| !membership.member_is_broker);
    let revoke =
        |one| Statement::new("take it out of a group", revoke_membership(one, role.version));
    let mut statements: Vec<Statement> = groups.map(revoke).collect();
    if !statements.is_empty() {
        // Nothing locks the role's row: the name must be its own before and after.
        let guard = || guard::same_role(&role.name, role.oid);
        statements.insert(0, guard());
        statements.push(guard());
    }
    let join_remedy = join_remedy(&role.name, &role.broker, role.version);
    AccessPlan { vital: statements.len().min(1), statements, blockers: Vec::new(), join_remedy }
}

/// Plans how to take out of a role whom it made its member itself, and whom those did: until 14 a
/// role can. Empty when there is nobody. Since 16 what a role may hand on comes from others.
#[must_use]
pub fn take_back_gifts(role: &RoleView) -> Vec<Statement> {
    let members = role.members.iter().filter(|membership| !membership.member_is_broker);
    let names: Vec<&str> = members.clone().map(|membership| membership.member.as_str()).collect();
    let is_gift = |membership: &&Membership| {
        let grantor = membership.grantor.as_deref();
        grantor.is_some_and(|grantor| grantor == role.name || names.contains(&grantor))
    };
    let gifts = members.filter(is_gift).map(|gift| {
        Statement::new("take a member out of it", revoke_membership(gift, role.version))
    });
    let mut statements: Vec<Statement> = gifts.collect();
    if role.version.has_membership_options() || statements.is_empty() {
        return Vec::new();
    }
    let guard = || guard::same_role(&role.name, role.oid);
    statements.insert(0, guard());
    statements.push(guard());
    statements
}

/// CASCADE reaches only memberships that the member has handed on.
fn revoke_membership(membership: &Membership, version: ServerVersion) -> String {
    let (group, member) = (identifier(&membership.group), identifier(&membership.member));
    match &membership.grantor {
        // Since 16 only the row of the named grantor goes; before, the one row goes whoever made it.
        Some(grantor) if version.has_membership_options() => {
            format!("REVOKE {group} FROM {member} GRANTED BY {} CASCADE", identifier(grantor))
        }
        _ => format!("REVOKE {group} FROM {member} CASCADE"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(group: &str, member: &str, grantor: &str) -> Membership {
        Membership {
            group: group.into(),
            member: member.into(),
            member_is_broker: member == "broker",
            grantor: Some(grantor.into()),
        }
    }

    fn role(version: u32) -> RoleView {
        RoleView {
            oid: RoleOid(77),
            name: "pgb_a".into(),
            can_login: true,
            has_replication: false,
            version: ServerVersion(version),
            broker: "bro\"ker".into(),
            broker_may_end_sessions: true,
            groups: vec![row("orders_read", "pgb_a", "broker"), row("x\"; --", "pgb_a", "dba")],
            members: vec![row("pgb_a", "broker", "postgres"), row("pgb_a", "eve", "dba")],
            handed_on: Vec::new(),
        }
    }

    #[track_caller]
    fn check(role: &RoleView, after_the_guard: &[&str]) {
        let plan = end_access(role);
        assert_eq!((plan.vital, plan.blockers), (2, Vec::new()));
        let plan: Vec<&str> = plan.statements.iter().map(Statement::sql).collect();
        assert_eq!(
            plan[..2],
            [
                "ALTER ROLE \"pgb_a\" NOLOGIN CONNECTION LIMIT 0 PASSWORD NULL \
                 VALID UNTIL '-infinity'",
                "SELECT CASE WHEN '\"pgb_a\"'::regrole::oid = 77 THEN 77 \
                 ELSE concat('another role has this name since ', clock_timestamp())::oid END",
            ]
        );
        assert_eq!(&plan[2..], after_the_guard);
    }

    #[test]
    fn memberships_go_by_grantor_since_16_and_brokers_stay_members() {
        check(
            &role(160_014),
            &[
                "REVOKE \"orders_read\" FROM \"pgb_a\" GRANTED BY \"broker\" CASCADE",
                "REVOKE \"x\"\"; --\" FROM \"pgb_a\" GRANTED BY \"dba\" CASCADE",
                "REVOKE \"pgb_a\" FROM \"eve\" GRANTED BY \"dba\" CASCADE",
            ],
        );
    }

    #[test]
    fn before_16_memberships_go_whoever_granted_them_and_so_do_those_handed_on() {
        let mut role = role(150_018);
        role.handed_on = vec![row("orders_read", "eve", "pgb_a")];
        check(
            &role,
            &[
                "GRANT \"pgb_a\" TO CURRENT_USER",
                "REVOKE \"orders_read\" FROM \"pgb_a\" CASCADE",
                "REVOKE \"x\"\"; --\" FROM \"pgb_a\" CASCADE",
                "REVOKE \"orders_read\" FROM \"eve\" CASCADE",
                "REVOKE \"pgb_a\" FROM \"eve\" CASCADE",
            ],
        );
    }

    #[test]
    fn a_broker_that_could_not_end_sessions_becomes_a_member() {
        let bare = RoleView {
            broker_may_end_sessions: false,
            groups: Vec::new(),
            members: Vec::new(),
            ..role(160_014)
        };
        check(&bare, &["GRANT \"pgb_a\" TO CURRENT_USER WITH INHERIT TRUE, SET TRUE"]);
        let old = RoleView { version: ServerVersion(150_018), ..bare.clone() };
        check(&old, &["GRANT \"pgb_a\" TO CURRENT_USER"]);
        // Whoever pastes it is somebody else.
        let named = "GRANT \"pgb_a\" TO \"bro\"\"ker\"";
        assert_eq!(end_access(&old).join_remedy, named);
        let since_16 = format!("{named} WITH INHERIT TRUE, SET TRUE");
        assert_eq!(end_access(&bare).join_remedy, since_16);
    }

    #[test]
    fn rights_end_alone_by_what_needs_no_lock_on_the_role() {
        let plan = end_rights(&role(150_018));
        let sql: Vec<&str> = plan.statements.iter().map(Statement::sql).collect();
        assert_eq!((plan.vital, sql.first()), (1, sql.last()));
        assert_eq!(
            sql[1..3],
            [
                "REVOKE \"orders_read\" FROM \"pgb_a\" CASCADE",
                "REVOKE \"x\"\"; --\" FROM \"pgb_a\" CASCADE"
            ]
        );
        assert_eq!(sql.len(), 4);
        let none = RoleView { groups: Vec::new(), ..role(150_018) };
        assert_eq!(end_rights(&none).statements, []);
    }

    #[test]
    fn whom_a_role_made_its_member_itself_is_taken_out_and_others_stay() {
        let given = vec![
            row("pgb_a", "broker", "pgb_a"),
            row("pgb_a", "orders_write", "pgb_a"),
            row("pgb_a", "reports_read", "orders_write"),
            row("pgb_a", "eve", "dba"),
        ];
        let role = RoleView { members: given, ..role(140_010) };
        let plan = take_back_gifts(&role);
        let sql: Vec<&str> = plan.iter().map(Statement::sql).collect();
        assert_eq!(
            sql[1..3],
            [
                "REVOKE \"pgb_a\" FROM \"orders_write\" CASCADE",
                "REVOKE \"pgb_a\" FROM \"reports_read\" CASCADE"
            ]
        );
        assert_eq!((sql.len(), sql.first()), (4, sql.last()));
        let dba = RoleView { members: vec![row("pgb_a", "eve", "dba")], ..role.clone() };
        assert_eq!(take_back_gifts(&dba), []);
        assert_eq!(take_back_gifts(&RoleView { version: ServerVersion(160_014), ..role }), []);
    }

    #[test]
    fn before_16_a_role_with_replication_loses_its_memberships_and_a_superuser_is_asked() {
        let role = RoleView { has_replication: true, ..role(150_018) };
        let plan = end_access(&role);
        let sql: Vec<&str> = plan.statements.iter().map(Statement::sql).collect();
        assert_eq!(plan.vital, 1);
        assert!(sql.iter().all(|sql| !sql.starts_with("ALTER")), "{sql:?}");
        assert_eq!(sql[1], "REVOKE \"orders_read\" FROM \"pgb_a\" CASCADE");
        assert_eq!(sql.first(), sql.last());
        let remedy = plan.blockers[0].remedy.as_deref();
        assert_eq!(remedy, Some("ALTER ROLE \"pgb_a\" NOLOGIN NOREPLICATION"));
        let new = RoleView { version: ServerVersion(160_014), ..role };
        check(
            &new,
            &[
                "REVOKE \"orders_read\" FROM \"pgb_a\" GRANTED BY \"broker\" CASCADE",
                "REVOKE \"x\"\"; --\" FROM \"pgb_a\" GRANTED BY \"dba\" CASCADE",
                "REVOKE \"pgb_a\" FROM \"eve\" GRANTED BY \"dba\" CASCADE",
            ],
        );
    }
}

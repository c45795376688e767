//! From an identity to what it may act as.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::scan::Of;
use super::{
    Because, Case, DatabaseUserView, IdentMap, MapDecision, MapRevision, Matched, Memberships,
    Profile, RuleRef, RuleView,
};
use crate::auth::Identity;
use crate::names::{ClusterName, Group, MapName, Principal, RoleName, WayName};

/// The maps that one way in uses, as `map=` does in `pg_hba.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps {
    /// Matched against the principal's subject.
    pub map: Option<MapName>,
    /// Matched against each group of the identity.
    pub group_map: Option<MapName>,
    /// Whether the case of letters counts, in both.
    pub case: Case,
}

/// The maps that give the broker's own duties, `auditor` and `operator`.
pub type AccessMaps = Maps;

/// One cluster as the map sees it: its name and what it lends.
#[derive(Clone, Debug)]
pub struct Target {
    /// The cluster.
    pub cluster: ClusterName,
    /// Its profiles, at most one a role.
    pub profiles: Vec<Arc<Profile>>,
}

/// All that decides who may become what: the map file, which way in uses which map, and the
/// profiles of every cluster.
#[derive(Debug)]
pub struct Policy {
    /// The parsed map file.
    pub map: IdentMap,
    /// The maps of each way in.
    pub ways: BTreeMap<WayName, Maps>,
    /// The maps of the broker's own duties.
    pub access: AccessMaps,
    /// The clusters and what they lend.
    pub targets: Vec<Target>,
}

/// What clusters say of the memberships of the roles that they lend. Of a cluster that is not
/// among them nothing is known.
#[derive(Clone, Debug, Default)]
pub struct Members(BTreeMap<ClusterName, Memberships>);

/// All that an identity may act as, as far as that is known.
#[derive(Clone, Debug, Default)]
pub struct Offers {
    /// What it may act as, in the order of the configuration.
    pub entitlements: Vec<Entitlement>,
    /// Roles of which that turns on memberships that are not known.
    pub undecided: Vec<(ClusterName, RoleName)>,
}

/// Evidence that one identity may act as one role on one cluster under one profile, by one rule
/// of one revision of the map. Whoever issues a lease must have one.
///
/// Invariant: only [`Policy::entitle`] and [`Policy::offers`] make one.
#[derive(Clone, Debug)]
pub struct Entitlement {
    identity: Identity,
    cluster: ClusterName,
    profile: Arc<Profile>,
    rule: RuleRef,
    revision: MapRevision,
    because: Because,
}

/// What a person may do with the broker itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Duties {
    /// May read every lease and the audit.
    pub auditor: bool,
    /// May read every lease and end it.
    pub operator: bool,
}

/// Why an identity may not act as a role. The person is told only that it is not theirs; the
/// audit has this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No cluster of this name is configured.
    #[error("no cluster `{0}` is configured")]
    UnknownCluster(String),
    /// The cluster has no profile for the role.
    #[error("cluster `{cluster}` has no profile for role `{role}`")]
    NoProfile {
        /// The cluster asked for.
        cluster: ClusterName,
        /// The role asked for.
        role: String,
    },
    /// No line of the map lets the identity in.
    #[error("no line of the map lets {principal} act as `{role}`")]
    NotMapped {
        /// Who asked.
        principal: Principal,
        /// The role asked for.
        role: RoleName,
    },
    /// A line of the map ended in an error, which denies.
    #[error("{rule} ended in an error, which denies: {reason}")]
    MapFailed {
        /// The line.
        rule: RuleRef,
        /// What was wrong.
        reason: String,
    },
    /// Whether a line lets the identity in turns on what the cluster says of memberships, and that
    /// is not known.
    #[error(
        "whether `{role}` may be had turns on its memberships on cluster `{cluster}`, which are not known"
    )]
    MembersUnknown {
        /// The cluster.
        cluster: ClusterName,
        /// The role asked for.
        role: RoleName,
    },
    /// The profile is not issued to the client's address.
    #[error("role `{role}` is not issued to {address}")]
    NetworkNotAdmitted {
        /// The role asked for.
        role: RoleName,
        /// The client's address.
        address: IpAddr,
    },
}

impl Refusal {
    /// One stable word, for the audit and for metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::UnknownCluster(_) => "unknown_cluster",
            Self::NoProfile { .. } => "no_profile",
            Self::NotMapped { .. } => "not_mapped",
            Self::MapFailed { .. } => "map_failed",
            Self::MembersUnknown { .. } => "members_unknown",
            Self::NetworkNotAdmitted { .. } => "network",
        }
    }
}

impl Entitlement {
    /// Who may act.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// On which cluster.
    #[must_use]
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// As which role, on which terms.
    #[must_use]
    pub fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    /// By which line of the map.
    #[must_use]
    pub fn rule(&self) -> &RuleRef {
        &self.rule
    }

    /// Of which revision of the map.
    #[must_use]
    pub fn revision(&self) -> &MapRevision {
        &self.revision
    }

    /// By what of the identity, and what else that rested on.
    #[must_use]
    pub fn because(&self) -> &Because {
        &self.because
    }
}

impl Members {
    /// Nothing is known.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    pub(super) fn of(&self, cluster: &ClusterName) -> Option<&Memberships> {
        self.0.get(cluster)
    }
}

impl FromIterator<(ClusterName, Memberships)> for Members {
    fn from_iter<All: IntoIterator<Item = (ClusterName, Memberships)>>(all: All) -> Self {
        Self(all.into_iter().collect())
    }
}

impl Policy {
    /// The same with another map.
    #[must_use]
    pub fn with_map(&self, map: IdentMap) -> Self {
        let Self { ways, access, targets, .. } = self;
        Self { map, ways: ways.clone(), access: access.clone(), targets: targets.clone() }
    }

    /// Why `map` cannot take the place of the one here, as far as that does not stand in a line.
    ///
    /// A name of the configuration without a line lets nobody in, so it is a slip: in the name, or
    /// because half of a file is missing. And the broker's own duties are roles of no cluster, so
    /// that nobody can be asked who is a member of one.
    #[must_use]
    pub fn misfits(&self, map: &IdentMap) -> Vec<String> {
        let access = [&self.access.map, &self.access.group_map].into_iter().flatten();
        let asks =
            |rule: &RuleView<'_>| matches!(rule.database_user(), DatabaseUserView::MemberOf(_));
        let asking = access.flat_map(|name| map.rules(name).filter(asks));
        let asking = asking.map(|rule| {
            format!(
                "{}: `+role` in a map of [access], whose roles are of no cluster",
                rule.reference()
            )
        });
        self.maps_without_lines(map).into_iter().chain(asking).collect()
    }

    fn maps_without_lines(&self, map: &IdentMap) -> Vec<String> {
        let ways = self.ways.iter().map(|(way, maps)| (format!("the way in `{way}`"), maps));
        let all = ways.chain([("[access]".to_owned(), &self.access)]);
        all.flat_map(|(what, maps)| {
            let names = [&maps.map, &maps.group_map].into_iter().flatten();
            let missing = names.filter(|name| !map.has_map(name));
            missing
                .map(|name| format!("{what} uses map `{name}`, which has no line in the file"))
                .collect::<Vec<_>>()
        })
        .collect()
    }

    /// Lets `identity`, at `address`, act as `role` on `cluster`.
    ///
    /// # Errors
    /// When the cluster or the profile does not exist, no line of the map lets the identity in, a
    /// line fails, or the profile is not issued to the address. [`Refusal::MembersUnknown`] when
    /// it turns on memberships that `members` does not have.
    pub fn entitle(
        &self,
        identity: &Identity,
        cluster: &str,
        role: &str,
        address: IpAddr,
        members: &Members,
    ) -> Result<Entitlement, Refusal> {
        let target = self.targets.iter().find(|target| target.cluster.as_str() == cluster);
        let target = target.ok_or_else(|| Refusal::UnknownCluster(cluster.to_owned()))?;
        let profile = target.profiles.iter().find(|profile| profile.role.as_str() == role);
        let profile = profile.ok_or_else(|| Refusal::NoProfile {
            cluster: target.cluster.clone(),
            role: role.to_owned(),
        })?;
        self.entitle_to(identity, target, profile, address, members)
    }

    /// All that `identity`, at `address`, may act as, and what of it turns on memberships that
    /// `members` does not have.
    #[must_use]
    pub fn offers(&self, identity: &Identity, address: IpAddr, members: &Members) -> Offers {
        let pairs = self
            .targets
            .iter()
            .flat_map(|target| target.profiles.iter().map(move |profile| (target, profile)));
        let mut offers = Offers::default();
        for (target, profile) in pairs {
            match self.entitle_to(identity, target, profile, address, members) {
                Ok(entitlement) => offers.entitlements.push(entitlement),
                Err(Refusal::MembersUnknown { cluster, role }) => {
                    offers.undecided.push((cluster, role));
                }
                Err(_) => {}
            }
        }
        offers
    }

    /// The broker's own duties that the access maps give `identity`.
    #[must_use]
    pub fn duties(&self, identity: &Identity) -> Duties {
        // A duty is no role of any cluster, so it is a member of nothing.
        let none = Memberships::none();
        let has = |duty| {
            let decided = self.scan(&self.access, identity, duty, &none);
            matches!(decided, Decided::Allowed { .. })
        };
        Duties { auditor: has("auditor"), operator: has("operator") }
    }

    fn entitle_to(
        &self,
        identity: &Identity,
        target: &Target,
        profile: &Arc<Profile>,
        address: IpAddr,
        members: &Members,
    ) -> Result<Entitlement, Refusal> {
        let principal = identity.principal();
        let none = Maps::default();
        let maps = self.ways.get(principal.issuer()).unwrap_or(&none);
        let members = members.of(&target.cluster);
        let (rule, because) = match self.decide(maps, identity, profile.role.as_str(), members) {
            Decided::Allowed { rule, because } => (rule, because),
            Decided::Failed { rule, reason } => {
                return Err(Refusal::MapFailed { rule, reason });
            }
            Decided::NoMatch => {
                let (principal, role) = (principal.clone(), profile.role.clone());
                return Err(Refusal::NotMapped { principal, role });
            }
            Decided::MembersNeeded => {
                let (cluster, role) = (target.cluster.clone(), profile.role.clone());
                return Err(Refusal::MembersUnknown { cluster, role });
            }
        };
        if !profile.admits(address) {
            return Err(Refusal::NetworkNotAdmitted { role: profile.role.clone(), address });
        }
        Ok(Entitlement {
            identity: identity.clone(),
            cluster: target.cluster.clone(),
            profile: Arc::clone(profile),
            rule,
            revision: self.map.revision().clone(),
            because,
        })
    }

    /// What the map says, by the memberships of the role on its cluster. When those are not known,
    /// and the role being a member of nothing and of everything makes a difference, it does not say.
    fn decide(
        &self,
        maps: &Maps,
        identity: &Identity,
        role: &str,
        members: Option<&Memberships>,
    ) -> Decided {
        let (groups, none) = (self.map.asked_groups(), Memberships::none());
        if groups.is_empty() {
            return self.scan(maps, identity, role, &none);
        }
        let member_of = |is_member: &dyn Fn(&[u8]) -> bool| {
            let groups = groups.iter().filter(|group| is_member(group));
            let groups = groups.filter_map(|group| std::str::from_utf8(group).ok());
            Memberships::of_edges([role], groups.map(|group| (role, group)))
        };
        let Some(members) = members else {
            let least = self.scan(maps, identity, role, &none);
            let most = self.scan(maps, identity, role, &member_of(&|_| true));
            return if least == most { least } else { Decided::MembersNeeded };
        };
        // Only what of it this map asks: that is kept with what it decided.
        let asked = if members.is_member(role.as_bytes(), role.as_bytes()) {
            member_of(&|group| members.is_member(role.as_bytes(), group))
        } else {
            none
        };
        match self.scan(maps, identity, role, &asked) {
            Decided::Allowed { rule, because } => {
                let because = Because { members: Some(asked), ..because };
                Decided::Allowed { rule, because }
            }
            decided => decided,
        }
    }

    /// The person's own map first, then each group in order. A line that fails denies at once:
    /// a later map or group is not asked, as PostgreSQL asks no later line.
    fn scan(&self, maps: &Maps, identity: &Identity, role: &str, members: &Memberships) -> Decided {
        let groups = identity.groups().iter().map(Group::as_str);
        for asked in maps.asked(identity.principal().subject(), groups) {
            let question = asked.question(role, members);
            match self.map.decide(&question) {
                MapDecision::NoMatch => {}
                MapDecision::Allowed(rule) => {
                    let capture = self.map.capture(&question);
                    let because = Because {
                        map: asked.map.clone(),
                        matched: match asked.of {
                            Of::Person => Matched::Name(asked.name.to_owned()),
                            Of::Group => Matched::Group(asked.name.to_owned()),
                        },
                        case: asked.case,
                        capture: capture.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
                        members: None,
                    };
                    return Decided::Allowed { rule, because };
                }
                MapDecision::Failed { rule, reason } => return Decided::Failed { rule, reason },
            }
        }
        Decided::NoMatch
    }
}

/// What a map says of an identity and a role.
#[derive(Debug, PartialEq, Eq)]
enum Decided {
    /// This line lets the identity act as the role.
    Allowed { rule: RuleRef, because: Because },
    /// No line does.
    NoMatch,
    /// This line could not be evaluated, which denies.
    Failed { rule: RuleRef, reason: String },
    /// It turns on memberships that are not known.
    MembersNeeded,
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::mapping::{Dialect, ObjectPolicy, ReasonRule};
    use crate::names::{ConnectionLimit, LeaseLimit, ScramIterations};

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3));
    const AWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    /// Line numbers below are those of this text.
    const MAP: &str = r"corp        alice            orders_read
corp        /^(.*)@test$     \1
corp        alice            orders_admin
groups      cn=writers       orders_write
groups      cn=readers       orders_read
groups      /^cn=x(.*)$      \1
duties      alice            auditor
duty-groups cn=operators     operator
broken      /^bob$           \1
broken      bob              orders_read
partner     alice            orders_write
";

    fn profile(role: &str, networks: Option<&str>) -> Arc<Profile> {
        Arc::new(Profile {
            role: role.parse().unwrap(),
            databases: vec!["orders".parse().unwrap()],
            ttl: "1h".parse().unwrap(),
            max_ttl: "8h".parse().unwrap(),
            max_leases: LeaseLimit::DEFAULT,
            connection_limit: ConnectionLimit::DEFAULT,
            scram_iterations: ScramIterations::DEFAULT,
            settings: Vec::new(),
            networks: networks.map(|network| vec![network.parse().unwrap()]),
            reason: ReasonRule::Optional,
            owned_objects: ObjectPolicy::Drop,
        })
    }

    fn maps(map: Option<&str>, group_map: Option<&str>) -> Maps {
        let name = |name: &str| name.parse().unwrap();
        Maps { map: map.map(name), group_map: group_map.map(name), case: Case::Sensitive }
    }

    fn policy() -> Policy {
        let ways = [
            ("corp", maps(Some("corp"), Some("groups"))),
            ("partner", maps(Some("partner"), None)),
            ("mapless", maps(None, None)),
            ("broken", maps(Some("broken"), Some("groups"))),
        ];
        let target =
            |cluster: &str, profiles| Target { cluster: cluster.parse().unwrap(), profiles };
        Policy {
            map: IdentMap::parse(Dialect::default(), "pg_ident.conf", MAP.as_bytes()).unwrap(),
            ways: ways.into_iter().map(|(way, maps)| (way.parse().unwrap(), maps)).collect(),
            access: maps(Some("duties"), Some("duty-groups")),
            targets: vec![
                target(
                    "orders",
                    vec![
                        profile("orders_read", None),
                        profile("orders_write", None),
                        profile("orders_admin", Some("10.0.0.0/8")),
                    ],
                ),
                target("reports", vec![profile("orders_read", None)]),
                target("empty", vec![]),
            ],
        }
    }

    fn identity(way: &str, account: &str, groups: &[&str]) -> Identity {
        let (directory, account) = (way.parse().unwrap(), account.to_owned());
        let identity = serde_json::json!({
            "principal": Principal::Ldap { directory, account },
            "groups": groups,
            "authenticated_at": Timestamp::UNIX_EPOCH,
            "expires_at": Timestamp::from_second(3600).unwrap(),
        });
        Identity::from_session_json(&identity.to_string()).unwrap()
    }

    /// The identity may act as `role` on `cluster` by this line of the map, or it may not.
    #[track_caller]
    fn check(identity: &Identity, cluster: &str, role: &str, line: Option<u32>) {
        let entitled = policy().entitle(identity, cluster, role, HOME, &Members::none());
        assert_eq!(
            entitled.as_ref().ok().map(|entitled| entitled.rule().line),
            line,
            "{entitled:?}"
        );
        if let Ok(entitled) = entitled {
            assert_eq!(entitled.identity(), identity);
            assert_eq!(entitled.cluster().as_str(), cluster);
            assert_eq!(entitled.profile().role.as_str(), role);
            assert_eq!(entitled.revision(), policy().map.revision());
        }
    }

    #[test]
    fn a_person_may_be_what_the_map_of_their_way_in_says() {
        let alice = identity("corp", "alice", &[]);
        check(&alice, "orders", "orders_read", Some(1));
        check(&alice, "reports", "orders_read", Some(1));
        check(&alice, "orders", "orders_admin", Some(3));
        check(&alice, "orders", "orders_write", None);
        check(&identity("corp", "orders_write@test", &[]), "orders", "orders_write", Some(2));
        check(&identity("corp", "Alice", &[]), "orders", "orders_read", None);
        check(&identity("corp", "", &[]), "orders", "orders_read", None);
    }

    #[test]
    fn the_same_name_from_another_way_in_is_somebody_else() {
        check(&identity("partner", "alice", &[]), "orders", "orders_write", Some(11));
        check(&identity("partner", "alice", &[]), "orders", "orders_read", None);
        check(&identity("mapless", "alice", &["cn=writers"]), "orders", "orders_write", None);
        check(&identity("unknown", "alice", &["cn=writers"]), "orders", "orders_read", None);
    }

    #[test]
    fn a_group_lets_in_whom_the_person_s_own_name_does_not() {
        check(&identity("corp", "bob", &["cn=writers"]), "orders", "orders_write", Some(4));
        check(
            &identity("corp", "bob", &["cn=other", "cn=readers"]),
            "orders",
            "orders_read",
            Some(5),
        );
        check(&identity("corp", "bob", &["cn=xorders_read"]), "orders", "orders_read", Some(6));
        check(&identity("corp", "bob", &["cn=Writers"]), "orders", "orders_write", None);
        check(&identity("corp", "alice", &["cn=readers"]), "orders", "orders_read", Some(1));
        // A group is no person and a person no group, whatever they are called.
        check(&identity("corp", "cn=writers", &[]), "orders", "orders_write", None);
        check(&identity("corp", "bob", &["alice"]), "orders", "orders_read", None);
        check(&identity("partner", "bob", &["cn=writers"]), "orders", "orders_write", None);
    }

    #[test]
    fn each_refusal_says_why() {
        let policy = policy();
        let alice = identity("corp", "alice", &[]);
        let why = |identity: &Identity, cluster, role, address| {
            policy.entitle(identity, cluster, role, address, &Members::none()).unwrap_err()
        };
        let unknown = why(&alice, "Orders", "orders_read", HOME);
        assert_eq!(unknown, Refusal::UnknownCluster("Orders".to_owned()));
        let no_profile = why(&alice, "empty", "orders_read", HOME);
        let (cluster, role) = ("empty".parse().unwrap(), "orders_read".to_owned());
        assert_eq!(no_profile, Refusal::NoProfile { cluster, role });
        let not_mapped = why(&alice, "orders", "orders_write", HOME);
        let (principal, role) = (alice.principal().clone(), "orders_write".parse().unwrap());
        assert_eq!(not_mapped, Refusal::NotMapped { principal, role });
        let away = why(&alice, "orders", "orders_admin", AWAY);
        let role = "orders_admin".parse().unwrap();
        assert_eq!(away, Refusal::NetworkNotAdmitted { role, address: AWAY });
    }

    #[test]
    fn a_role_of_one_network_is_issued_there_whatever_the_address_wears() {
        let alice = identity("corp", "alice", &[]);
        let admitted = |address: &str| {
            let address = address.parse().unwrap();
            policy().entitle(&alice, "orders", "orders_admin", address, &Members::none())
        };
        assert!(admitted("10.255.0.1").is_ok());
        assert!(admitted("::ffff:10.0.0.1").is_ok());
        assert!(admitted("11.0.0.1").is_err());
        assert!(admitted("::ffff:11.0.0.1").is_err());
        assert!(admitted("::1").is_err());
    }

    #[test]
    fn a_line_that_fails_denies_and_no_later_line_or_group_is_asked() {
        let bob = identity("broken", "bob", &["cn=readers"]);
        let refusal =
            policy().entitle(&bob, "orders", "orders_read", HOME, &Members::none()).unwrap_err();
        assert!(matches!(&refusal, Refusal::MapFailed { rule, .. } if rule.line == 9), "{refusal}");
        check(&identity("broken", "carol", &["cn=readers"]), "orders", "orders_read", Some(5));
    }

    #[test]
    fn all_that_a_person_may_be_is_what_each_wish_would_give() {
        let policy = policy();
        let offered = |identity: &Identity, address| -> Vec<String> {
            let offered = policy.offers(identity, address, &Members::none()).entitlements;
            let named = |it: &Entitlement| format!("{}/{}", it.cluster(), it.profile().role);
            offered.iter().map(named).collect()
        };
        let alice = identity("corp", "alice", &["cn=writers"]);
        let everywhere = ["orders/orders_read", "orders/orders_write", "reports/orders_read"];
        assert_eq!(offered(&alice, AWAY), everywhere);
        let [read, write, reports] = everywhere;
        assert_eq!(offered(&alice, HOME), [read, write, "orders/orders_admin", reports]);
        assert!(offered(&identity("corp", "nobody", &[]), HOME).is_empty());
        assert!(offered(&identity("broken", "bob", &["cn=readers"]), HOME).is_empty());
    }

    /// Line numbers below are those of this text.
    const MEMBERS: &str = r"corp   alice         +staff
corp   bob           +staff
corp   bob           orders_write
corp   alice         orders_write
groups cn=writers    orders_read
groups cn=readers    +readers
";

    fn by_members(case: Case) -> Policy {
        let map = IdentMap::parse(Dialect::default(), "pg_ident.conf", MEMBERS.as_bytes()).unwrap();
        let mut policy = policy().with_map(map);
        policy.ways.values_mut().for_each(|maps| maps.case = case);
        policy
    }

    fn members(edges: &[(&str, &str)]) -> Members {
        let known = Memberships::of_edges(["orders_read", "orders_write"], edges.iter().copied());
        [("orders".parse().unwrap(), known)].into_iter().collect()
    }

    #[test]
    fn a_line_for_the_members_of_a_role_lets_in_as_whom_the_cluster_says_is_one() {
        let policy = by_members(Case::Sensitive);
        let line = |identity: &Identity, role: &str, members: &Members| {
            let entitled = policy.entitle(identity, "orders", role, HOME, members);
            entitled.map(|entitled| entitled.rule().line)
        };
        let alice = identity("corp", "alice", &[]);
        let not_known = |role: &str| {
            let (cluster, role) = ("orders".parse().unwrap(), role.parse().unwrap());
            Err(Refusal::MembersUnknown { cluster, role })
        };
        let staff = [("orders_read", "devs"), ("devs", "staff")];
        assert_eq!(line(&alice, "orders_read", &Members::none()), not_known("orders_read"));
        assert_eq!(line(&alice, "orders_read", &members(&staff)), Ok(1));
        let refused = line(&alice, "orders_read", &members(&[("orders_read", "devs")]));
        assert_eq!(refused.unwrap_err().word(), "not_mapped");
        // Allowed either way, but by which line is not known.
        assert_eq!(line(&alice, "orders_write", &Members::none()), not_known("orders_write"));
        assert_eq!(line(&alice, "orders_write", &members(&staff)), Ok(4));
        let both = [("orders_write", "staff")];
        assert_eq!(line(&alice, "orders_write", &members(&both)), Ok(1));
        // Nobody need be asked for whom no such line is.
        let writer = identity("corp", "carol", &["cn=writers"]);
        assert_eq!(line(&writer, "orders_read", &Members::none()), Ok(5));
        let nobody = identity("corp", "carol", &[]);
        let refused = line(&nobody, "orders_read", &Members::none());
        assert_eq!(refused.unwrap_err().word(), "not_mapped");
    }

    #[test]
    fn what_turns_on_unknown_memberships_is_offered_by_nobody_and_told_to_be_undecided() {
        let policy = by_members(Case::Sensitive);
        let alice = identity("corp", "alice", &["cn=writers"]);
        let offered = |members: &Members| {
            let Offers { entitlements, undecided } = policy.offers(&alice, HOME, members);
            let offered = |it: &Entitlement| format!("{}/{}", it.cluster(), it.profile().role);
            let unknown = undecided.iter().map(|(cluster, role)| format!("{cluster}/{role}"));
            (entitlements.iter().map(offered).collect::<Vec<_>>(), unknown.collect::<Vec<_>>())
        };
        let (known, unknown) = offered(&Members::none());
        assert!(known.is_empty(), "{known:?}");
        let all = ["orders/orders_read", "orders/orders_write", "orders/orders_admin"];
        assert_eq!(unknown, [&all[..], &["reports/orders_read"]].concat());
        let (known, unknown) = offered(&members(&[("orders_read", "staff")]));
        assert_eq!(known, ["orders/orders_read", "orders/orders_write"]);
        assert_eq!(unknown, ["reports/orders_read"]);
    }

    #[test]
    fn what_let_somebody_in_lets_them_in_again_by_the_same_revision() {
        let policy = by_members(Case::Insensitive);
        let none = Memberships::none();
        let again = |identity: &Identity, role: &str, edges: &[(&str, &str)]| {
            let entitled = policy.entitle(identity, "orders", role, HOME, &members(edges)).unwrap();
            let kept = serde_json::to_string(entitled.because()).unwrap();
            let because: Because = serde_json::from_str(&kept).unwrap();
            assert_eq!(because, *entitled.because());
            let decided = policy.map.decide(&because.question(role.as_bytes(), &none));
            assert_eq!(decided, MapDecision::Allowed(entitled.rule().clone()));
            kept
        };
        let staff = [("orders_read", "devs"), ("devs", "staff"), ("orders_read", "unasked")];
        let kept = again(&identity("corp", "Alice", &[]), "orders_read", &staff);
        assert!(kept.contains(r#""matched":{"name":"Alice"},"case":"insensitive""#), "{kept}");
        assert!(kept.contains("staff") && !kept.contains("unasked"), "{kept}");
        let kept = again(
            &identity("corp", "x", &["cn=a", "cn=readers"]),
            "orders_read",
            &[("orders_read", "readers")],
        );
        assert!(kept.contains(r#""matched":{"group":"cn=readers"}"#), "{kept}");
    }

    #[test]
    fn what_was_captured_is_kept_with_what_let_somebody_in() {
        let capture = |account: &str, role: &str| {
            let person = identity("corp", account, &[]);
            let entitled = policy().entitle(&person, "orders", role, HOME, &Members::none());
            entitled.unwrap().because().capture.clone()
        };
        assert_eq!(capture("orders_write@test", "orders_write").as_deref(), Some("orders_write"));
        assert_eq!(capture("alice", "orders_read"), None);
    }

    #[test]
    fn a_map_that_does_not_fit_the_configuration_is_told_why() {
        let policy = policy();
        let missing = |text: &str| {
            let map = IdentMap::parse(Dialect::default(), "f", text.as_bytes()).unwrap();
            policy.misfits(&map)
        };
        assert!(missing(MAP).is_empty());
        assert_eq!(missing("").len(), 7);
        let told = missing(&MAP.replace("duties  ", "dutys   "));
        assert_eq!(told, ["[access] uses map `duties`, which has no line in the file"]);
        let told = missing(&format!("{MAP}duties bob +auditor\n"));
        assert_eq!(told, ["f:12: `+role` in a map of [access], whose roles are of no cluster"]);
    }

    #[test]
    fn duties_come_from_the_access_maps_alone() {
        let duties = |identity: &Identity| {
            let Duties { auditor, operator } = policy().duties(identity);
            (auditor, operator)
        };
        assert_eq!(duties(&identity("corp", "alice", &[])), (true, false));
        assert_eq!(duties(&identity("corp", "bob", &["cn=operators"])), (false, true));
        assert_eq!(duties(&identity("corp", "alice", &["cn=operators"])), (true, true));
        assert_eq!(duties(&identity("corp", "auditor@test", &["cn=xoperator"])), (false, false));
        let without = Policy { access: Maps::default(), ..policy() };
        assert_eq!(
            without.duties(&identity("corp", "alice", &["cn=operators"])),
            Duties::default()
        );
    }
}

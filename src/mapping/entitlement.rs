//! From an identity to what it may act as.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Case, IdentMap, MapDecision, MapRevision, Memberships, Profile, Question, RuleRef};
use crate::auth::Identity;
use crate::names::{ClusterName, MapName, Principal, RoleName, WayName};

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

/// Evidence that one identity may act as one role on one cluster under one profile, by one rule
/// of one revision of the map. Whoever issues a lease must have one.
///
/// Invariant: only [`Policy::entitle`] and [`Policy::entitlements`] make one.
#[derive(Clone, Debug)]
pub struct Entitlement {
    identity: Identity,
    cluster: ClusterName,
    profile: Arc<Profile>,
    rule: RuleRef,
    revision: MapRevision,
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
}

impl Policy {
    /// Lets `identity`, at `address`, act as `role` on `cluster`.
    ///
    /// # Errors
    /// When the cluster or the profile does not exist, no line of the map lets the identity in, a
    /// line fails, or the profile is not issued to the address.
    pub fn entitle(
        &self,
        identity: &Identity,
        cluster: &str,
        role: &str,
        address: IpAddr,
    ) -> Result<Entitlement, Refusal> {
        let target = self.targets.iter().find(|target| target.cluster.as_str() == cluster);
        let target = target.ok_or_else(|| Refusal::UnknownCluster(cluster.to_owned()))?;
        let profile = target.profiles.iter().find(|profile| profile.role.as_str() == role);
        let profile = profile.ok_or_else(|| Refusal::NoProfile {
            cluster: target.cluster.clone(),
            role: role.to_owned(),
        })?;
        self.entitle_to(identity, target, profile, address)
    }

    /// All that `identity`, at `address`, may act as, in the order of the configuration.
    #[must_use]
    pub fn entitlements(&self, identity: &Identity, address: IpAddr) -> Vec<Entitlement> {
        let pairs = self
            .targets
            .iter()
            .flat_map(|target| target.profiles.iter().map(move |profile| (target, profile)));
        pairs
            .filter_map(|(target, profile)| {
                self.entitle_to(identity, target, profile, address).ok()
            })
            .collect()
    }

    /// The broker's own duties that the access maps give `identity`.
    #[must_use]
    pub fn duties(&self, identity: &Identity) -> Duties {
        let has =
            |duty| matches!(self.decide(&self.access, identity, duty), MapDecision::Allowed(_));
        Duties { auditor: has("auditor"), operator: has("operator") }
    }

    fn entitle_to(
        &self,
        identity: &Identity,
        target: &Target,
        profile: &Arc<Profile>,
        address: IpAddr,
    ) -> Result<Entitlement, Refusal> {
        let principal = identity.principal();
        let none = Maps::default();
        let maps = self.ways.get(principal.issuer()).unwrap_or(&none);
        let rule = match self.decide(maps, identity, profile.role.as_str()) {
            MapDecision::Allowed(rule) => rule,
            MapDecision::Failed { rule, reason } => {
                return Err(Refusal::MapFailed { rule, reason });
            }
            MapDecision::NoMatch => {
                let (principal, role) = (principal.clone(), profile.role.clone());
                return Err(Refusal::NotMapped { principal, role });
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
        })
    }

    /// The person's own map first, then each group in order. A line that fails denies at once:
    /// a later map or group is not asked, as PostgreSQL asks no later line.
    fn decide(&self, maps: &Maps, identity: &Identity, role: &str) -> MapDecision {
        let own = maps.map.iter().map(|map| (map, identity.principal().subject()));
        let groups = maps
            .group_map
            .iter()
            .flat_map(|map| identity.groups().iter().map(move |group| (map, group.as_str())));
        for (map, system_user) in own.chain(groups) {
            let question = Question {
                map,
                system_user: system_user.as_bytes(),
                role: role.as_bytes(),
                case: maps.case,
                members: &Memberships::none(),
            };
            match self.map.decide(&question) {
                MapDecision::NoMatch => {}
                decided => return decided,
            }
        }
        MapDecision::NoMatch
    }
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
        let entitled = policy().entitle(identity, cluster, role, HOME);
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
            policy.entitle(identity, cluster, role, address).unwrap_err()
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
            policy().entitle(&alice, "orders", "orders_admin", address.parse().unwrap())
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
        let refusal = policy().entitle(&bob, "orders", "orders_read", HOME).unwrap_err();
        assert!(matches!(&refusal, Refusal::MapFailed { rule, .. } if rule.line == 9), "{refusal}");
        check(&identity("broken", "carol", &["cn=readers"]), "orders", "orders_read", Some(5));
    }

    #[test]
    fn all_that_a_person_may_be_is_what_each_wish_would_give() {
        let policy = policy();
        let offered = |identity: &Identity, address| -> Vec<String> {
            let offered = policy.entitlements(identity, address);
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

//! What is asked of the map, as the query of the URL says it.

use std::fmt::Display;
use std::str::FromStr;

use utoipa::IntoParams;

use crate::broker::{AskedDecision, AskedPerson, AskedRole};
use crate::http::problem::{Kind, Problem};
use crate::mapping::UnverifiedNames;

/// May somebody act as a role there?
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct ExplainQuery {
    /// The name that the map is asked about, as the directory writes it; at most 256 bytes.
    #[param(example = "alice")]
    user: String,
    /// The cluster; needed unless a duty is named.
    #[param(example = "orders")]
    cluster: Option<String>,
    /// The role; each that the cluster lends when left out. Only when it is named, lines are looked
    /// for that nearly let them in.
    #[param(example = "orders_read")]
    role: Option<String>,
    /// `auditor` or `operator`, in place of `cluster` and `role`: a duty of the broker's own.
    #[param(example = "auditor")]
    duty: Option<String>,
    /// The way in by which they would come; each when left out.
    #[param(example = "corp")]
    way: Option<String>,
    /// A group that they are in, as the directory names it in full (its DN), at most 1024 bytes; once
    /// for each.
    #[param(required = false, example = json!(["cn=readers,ou=groups,dc=example,dc=test"]))]
    group: Vec<String>,
    /// The address that they would ask from, for roles that are issued to some networks only.
    #[param(example = "10.1.2.3")]
    address: Option<String>,
}

/// Who may act as a role?
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct WhoCanQuery {
    /// The cluster; needed unless a duty is named.
    #[param(example = "orders")]
    cluster: Option<String>,
    /// The role; needed unless a duty is named.
    #[param(example = "orders_read")]
    role: Option<String>,
    /// `auditor` or `operator`, in place of `cluster` and `role`: a duty of the broker's own.
    #[param(example = "auditor")]
    duty: Option<String>,
}

/// As what may somebody act?
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct WhatCanQuery {
    /// The name that the map is asked about, as the directory writes it; at most 256 bytes.
    #[param(example = "alice")]
    user: String,
    /// The way in by which they would come; each when left out.
    #[param(example = "corp")]
    way: Option<String>,
    /// A group that they are in, as the directory names it in full (its DN), at most 1024 bytes; once
    /// for each.
    #[param(required = false, example = json!(["cn=readers,ou=groups,dc=example,dc=test"]))]
    group: Vec<String>,
}

impl ExplainQuery {
    pub(super) fn read(pairs: Vec<(String, String)>) -> Result<Self, Problem> {
        let known = &["user", "cluster", "role", "duty", "way", "group", "address"];
        let mut parameters = Parameters { pairs, known };
        let query = Self {
            user: parameters.need("user")?,
            cluster: parameters.take("cluster")?,
            role: parameters.take("role")?,
            duty: parameters.take("duty")?,
            way: parameters.take("way")?,
            group: parameters.take_all("group"),
            address: parameters.take("address")?,
        };
        parameters.finish().map(|()| query)
    }

    pub(super) fn asked(self) -> Result<(AskedPerson, AskedDecision), Problem> {
        let Self { user, cluster, role, duty, way, group, address } = self;
        let person = person(user, way.as_deref(), group)?;
        let decision = match (duty, cluster) {
            (Some(duty), None) if role.is_none() && address.is_none() => {
                AskedDecision::Duty(parsed("duty", &duty)?)
            }
            (Some(_), _) => return Err(duty_alone("`cluster`, `role` or `address`")),
            (None, None) => return Err(no_aim("`cluster`")),
            (None, Some(cluster)) => AskedDecision::Role {
                cluster: parsed("cluster", &cluster)?,
                role: role.map(|role| parsed("role", &role)).transpose()?,
                address: address.map(|address| parsed("address", &address)).transpose()?,
            },
        };
        Ok((person, decision))
    }
}

impl WhoCanQuery {
    pub(super) fn read(pairs: Vec<(String, String)>) -> Result<Self, Problem> {
        let mut parameters = Parameters { pairs, known: &["cluster", "role", "duty"] };
        let query = Self {
            cluster: parameters.take("cluster")?,
            role: parameters.take("role")?,
            duty: parameters.take("duty")?,
        };
        parameters.finish().map(|()| query)
    }

    pub(super) fn asked(self) -> Result<AskedRole, Problem> {
        match (self.duty, self.cluster, self.role) {
            (Some(duty), None, None) => Ok(AskedRole::Duty(parsed("duty", &duty)?)),
            (Some(_), ..) => Err(duty_alone("`cluster` or `role`")),
            (None, Some(cluster), Some(role)) => Ok(AskedRole::Role {
                cluster: parsed("cluster", &cluster)?,
                role: parsed("role", &role)?,
            }),
            (None, ..) => Err(no_aim("both `cluster` and `role`")),
        }
    }
}

impl WhatCanQuery {
    pub(super) fn read(pairs: Vec<(String, String)>) -> Result<Self, Problem> {
        let mut parameters = Parameters { pairs, known: &["user", "way", "group"] };
        let query = Self {
            user: parameters.need("user")?,
            way: parameters.take("way")?,
            group: parameters.take_all("group"),
        };
        parameters.finish().map(|()| query)
    }

    pub(super) fn asked(self) -> Result<AskedPerson, Problem> {
        person(self.user, self.way.as_deref(), self.group)
    }
}

fn person(user: String, way: Option<&str>, groups: Vec<String>) -> Result<AskedPerson, Problem> {
    let names = UnverifiedNames::typed(user, groups).map_err(|error| unfit(error.to_string()))?;
    Ok(AskedPerson { names, way: way.map(|way| parsed("way", way)).transpose()? })
}

fn parsed<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error: T::Err| unfit(format!("`{name}` does not fit: {error}")))
}

fn unfit(detail: String) -> Problem {
    Problem::new(Kind::QueryUnfit, detail)
}

fn duty_alone(others: &str) -> Problem {
    unfit(format!("`duty` is a duty of the broker's own, of no cluster: leave out {others}"))
}

fn no_aim(what: &str) -> Problem {
    unfit(format!("name {what}, or in its place a `duty`: `auditor` or `operator`"))
}

/// The parameters of a query, of which each may be taken once and `group` as often as it is there.
/// A refusal repeats no value, and no name that is not known.
struct Parameters {
    pairs: Vec<(String, String)>,
    known: &'static [&'static str],
}

impl Parameters {
    fn need(&mut self, name: &str) -> Result<String, Problem> {
        self.take(name)?.ok_or_else(|| self.unfit(&format!("the parameter `{name}` is missing")))
    }

    fn take(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let mut found = self.take_all(name);
        match (found.pop(), found.is_empty()) {
            (value, true) => Ok(value),
            (_, false) => Err(self.unfit(&format!("the parameter `{name}` is given twice"))),
        }
    }

    fn take_all(&mut self, name: &str) -> Vec<String> {
        self.pairs.extract_if(.., |(key, _)| key == name).map(|(_, value)| value).collect()
    }

    fn finish(&self) -> Result<(), Problem> {
        if self.pairs.is_empty() {
            return Ok(());
        }
        Err(self.unfit("a parameter is unknown"))
    }

    fn unfit(&self, fault: &str) -> Problem {
        let known: Vec<String> = self.known.iter().map(|name| format!("`{name}`")).collect();
        unfit(format!("{fault}; the parameters are {}", known.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(query: &[(&str, &str)]) -> Vec<(String, String)> {
        query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[track_caller]
    fn refuses(query: &[(&str, &str)], said: &str) {
        let problem = ExplainQuery::read(pairs(query)).and_then(ExplainQuery::asked).err();
        let problem = problem.unwrap();
        assert_eq!(problem.kind(), Kind::QueryUnfit);
        assert!(problem.detail().contains(said), "{problem:?}");
        assert!(!problem.detail().contains("canary"), "{problem:?}");
    }

    #[test]
    fn a_refusal_says_which_parameter_and_repeats_none_that_is_not_known() {
        let (user, cluster) = (("user", "bob"), ("cluster", "orders"));
        for good in [vec![user, cluster], vec![user, ("duty", "auditor"), ("way", "corp")]] {
            let asked = ExplainQuery::read(pairs(&good)).and_then(ExplainQuery::asked);
            assert!(asked.is_ok(), "{good:?}: {:?}", asked.err());
        }
        refuses(
            &[cluster],
            "the parameter `user` is missing; the parameters are `user`, `cluster`",
        );
        refuses(&[user, cluster, cluster], "`cluster` is given twice");
        refuses(&[user, cluster, ("canary", "canary")], "a parameter is unknown");
        refuses(&[user], "name `cluster`, or in its place a `duty`");
        refuses(&[user, cluster, ("duty", "auditor")], "leave out `cluster`, `role` or `address`");
        refuses(&[user, ("duty", "canary")], "`duty` does not fit: the duties are");
        refuses(&[user, cluster, ("role", "none")], "`role` does not fit");
        refuses(&[user, cluster, ("address", "canary")], "`address` does not fit");
    }

    #[test]
    fn nobody_is_asked_about_by_a_name_that_nobody_can_have() {
        let asked = |user: &str, group: &str| {
            let query = pairs(&[("user", user), ("group", group)]);
            WhatCanQuery::read(query).and_then(WhatCanQuery::asked).err()
        };
        let (user, group) = ("u".repeat(256), "g".repeat(1024));
        assert!(asked(&user, &group).is_none());
        let problem = asked(&(user.clone() + "u"), &group).unwrap();
        assert!(problem.detail().contains("257 bytes"), "{problem:?}");
        let problem = asked(&user, &(group + "g")).unwrap();
        assert!(problem.detail().contains("1025 bytes"), "{problem:?}");
    }
}

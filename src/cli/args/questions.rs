//! The questions that auditors ask the map, with their options and their help.

use std::net::IpAddr;
use std::str::FromStr;

use clap::Args;

use super::ConfigFile;
use crate::mapping::Duty;
use crate::names::{ClusterName, LeaseId, RoleName, WayName};

/// Options of `explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Whose name the map is asked about, as the directory writes it
    #[arg(value_name = "USER", required_unless_present = "lease")]
    pub user: Option<String>,
    /// On which cluster
    #[arg(long, value_name = "CLUSTER", required_unless_present_any = ["lease", "duty"])]
    pub cluster: Option<ClusterName>,
    /// As which role [default: every role that is lent there, and then no line is looked for that
    /// nearly lets them in]
    #[arg(long, value_name = "ROLE")]
    pub role: Option<RoleName>,
    /// Whether they have this duty of the broker's own, in place of a role of a cluster: auditor or
    /// operator, as the maps of `[access]` give it
    #[arg(long, value_name = "DUTY", conflicts_with_all = ["cluster", "role", "members", "from"])]
    pub duty: Option<Duty>,
    /// How they would be asked about.
    #[command(flatten)]
    pub about: About,
    /// The address they would ask from, for roles that are issued to some networks only
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<IpAddr>,
    /// Explain the decision by which this lease was issued, from the map of that time, and what
    /// today's map says; ends with 0 when the decision comes out the same again, with 1 when not
    #[arg(long, value_name = "LEASE")]
    #[arg(conflicts_with_all = [
        "user", "cluster", "role", "duty", "way", "groups", "resolve", "members", "from",
    ])]
    pub lease: Option<LeaseId>,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// What is said about a person, and what is known beside the configuration.
#[derive(Debug, Args)]
pub struct About {
    /// The way in by which they would come [default: each that is configured]
    #[arg(long, value_name = "WAY")]
    pub way: Option<WayName>,
    /// A group that they are in, as the directory names it in full; once for each
    #[arg(long = "groups", alias = "group", value_name = "GROUP")]
    pub groups: Vec<String>,
    /// Ask the directory of each way in which groups they are in, in place of `--groups`; a way in by
    /// which they could not log in is left out, and a directory that cannot say is an error
    #[arg(long, conflicts_with = "groups")]
    pub resolve: bool,
    /// What is known of the memberships.
    #[command(flatten)]
    pub members: Members,
}

/// What is known of the memberships on the cluster.
#[derive(Clone, Debug, Default, Args)]
pub struct Members {
    /// A member of a group role that a line names as `+GROUP`; once for each. The cluster is then
    /// not asked, and `GROUP=` says that a group has none [default: the cluster is asked]
    #[arg(long = "member", value_name = "GROUP=ROLE")]
    pub members: Vec<Member>,
}

impl Members {
    /// A group that is said both to have members and to have none.
    #[must_use]
    pub fn contradiction(&self) -> Option<&str> {
        let mut empty = self.members.iter().filter(|member| member.role.is_none());
        let empty = empty.find(|none| {
            self.members.iter().any(|other| other.group == none.group && other.role.is_some())
        });
        empty.map(|none| none.group.as_str())
    }
}

/// A member of a group role, or a group that has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The group role.
    pub group: String,
    /// Its member; nothing when it has none.
    pub role: Option<String>,
}

/// Why a text is no member.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// It is no group with a role.
    #[error("write GROUP=ROLE, such as staff=orders_read")]
    Form,
    /// A name begins with the `+` of a line, which is no part of it.
    #[error(
        "write the name without `+`, as the cluster has it: GROUP=ROLE, such as staff=orders_read"
    )]
    Plus,
}

impl FromStr for Member {
    type Err = MemberError;

    fn from_str(text: &str) -> Result<Self, MemberError> {
        if text.starts_with('+') {
            return Err(MemberError::Plus);
        }
        let (group, role) = text.split_once('=').ok_or(MemberError::Form)?;
        if group.is_empty() {
            return Err(MemberError::Form);
        }
        if role.starts_with('+') {
            return Err(MemberError::Plus);
        }
        let role = Some(role).filter(|role| !role.is_empty()).map(str::to_owned);
        Ok(Self { group: group.to_owned(), role })
    }
}

/// Options of `who-can`.
#[derive(Debug, Args)]
pub struct WhoCan {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFile,
    /// The role
    #[arg(value_name = "ROLE", required_unless_present = "duty", requires = "cluster")]
    pub role: Option<RoleName>,
    /// On which cluster
    #[arg(long, value_name = "CLUSTER", required_unless_present = "duty", requires = "role")]
    pub cluster: Option<ClusterName>,
    /// Who has this duty of the broker's own, in place of a role of a cluster: auditor or operator,
    /// as the maps of `[access]` give it
    #[arg(long, value_name = "DUTY", conflicts_with_all = ["role", "cluster", "members"])]
    pub duty: Option<Duty>,
    /// Ask the directories for everybody who could log in, and name who of them may
    #[arg(long)]
    pub resolve: bool,
    /// What is known of the memberships.
    #[command(flatten)]
    pub members: Members,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `what-can`.
#[derive(Debug, Args)]
pub struct WhatCan {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Whose name the map is asked about, as the directory writes it
    #[arg(value_name = "USER")]
    pub user: String,
    /// How they would be asked about.
    #[command(flatten)]
    pub about: About,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_a_group_and_a_role_or_a_group_without_any() {
        let member = |text: &str| text.parse::<Member>().map(|member| (member.group, member.role));
        assert_eq!(member("staff=a=b"), Ok(("staff".into(), Some("a=b".into()))));
        assert_eq!(member("staff="), Ok(("staff".into(), None)));
        for bad in ["", "staff", "=a"] {
            assert_eq!(member(bad), Err(MemberError::Form), "{bad}");
        }
        for bad in ["+staff", "+staff=a", "staff=+a"] {
            assert_eq!(member(bad), Err(MemberError::Plus), "{bad}");
        }
        assert_eq!(member("st+aff=a+b"), Ok(("st+aff".into(), Some("a+b".into()))));
    }
}

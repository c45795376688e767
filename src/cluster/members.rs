//! Who is a member of what, for a map that lets in the members of a group role (`+role`).

use std::collections::BTreeSet;

use data_encoding::HEXLOWER;
use tokio_postgres::Row;

use super::Cluster;
use super::connect::{Lane, Query};
use super::error::ClusterError;
use crate::mapping::Memberships;
use crate::names::RoleName;

impl Cluster {
    /// The memberships that `roles` have now, direct and indirect. Asked anew with every call: who
    /// was taken out of a group is not let in by it any more.
    ///
    /// # Errors
    /// When the cluster failed.
    pub async fn memberships(&self, roles: &[RoleName]) -> Result<Memberships, ClusterError> {
        let names: Vec<&str> = roles.iter().map(RoleName::as_str).collect();
        let query = Query { sql: include_str!("sql/members.sql"), parameters: &[&names] };
        let doing = "reading who is a member of what";
        let [rows] = self.connections.read(Lane::Issue, doing, [query]).await?;
        of_rows(&names, &rows).map_err(|column| self.unreadable(column))
    }
}

/// What the rows of `sql/members.sql` say of the roles that it was asked about.
///
/// # Errors
/// The column that cannot be read.
pub(super) fn of_rows(names: &[&str], rows: &[Row]) -> Result<Memberships, &'static str> {
    let (mut known, mut edges) = (BTreeSet::new(), BTreeSet::new());
    for row in rows {
        let number: i64 = row.try_get("number").map_err(|_| "number")?;
        let asked = usize::try_from(number - 1).ok().and_then(|place| names.get(place));
        let asked = *asked.ok_or("number")?;
        let member: Option<&[u8]> = row.try_get("member_name").map_err(|_| "member_name")?;
        let member = member.map_or_else(|| asked.to_owned(), name);
        known.insert(member.clone());
        let group: Option<&[u8]> = row.try_get("group_name").map_err(|_| "group_name")?;
        if let Some(group) = group {
            edges.insert((member, name(group)));
        }
    }
    Ok(Memberships::of_edges(known, edges))
}

/// The name of a role by its bytes. One that is no UTF-8 has no name here that a map could write,
/// but whoever is a member of it is a member of its groups too.
fn name(bytes: &[u8]) -> String {
    let unwritable = || format!("\0{}", HEXLOWER.encode(bytes));
    std::str::from_utf8(bytes).map_or_else(|_| unwritable(), str::to_owned)
}

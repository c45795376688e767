//! Who is a member of what, for a map that lets in the members of a group role (`+role`).

use std::collections::BTreeSet;

use data_encoding::HEXLOWER;

use super::Cluster;
use super::connect::{Lane, Query};
use super::error::ClusterError;
use super::row::column;
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
        let (mut known, mut edges) = (BTreeSet::new(), BTreeSet::new());
        for row in &rows {
            let number: i64 = column(&self.name, row, "number")?;
            let asked = usize::try_from(number - 1).ok().and_then(|place| names.get(place));
            let asked = *asked.ok_or_else(|| self.unreadable("number"))?;
            let member: Option<&[u8]> = column(&self.name, row, "member_name")?;
            let member = member.map_or_else(|| asked.to_owned(), name);
            known.insert(member.clone());
            if let Some(group) = column::<Option<&[u8]>>(&self.name, row, "group_name")? {
                edges.insert((member, name(group)));
            }
        }
        Ok(Memberships::of_edges(known, edges))
    }
}

/// The name of a role by its bytes. One that is no UTF-8 has no name here that a map could write,
/// but whoever is a member of it is a member of its groups too.
fn name(bytes: &[u8]) -> String {
    let unwritable = || format!("\0{}", HEXLOWER.encode(bytes));
    std::str::from_utf8(bytes).map_or_else(|_| unwritable(), str::to_owned)
}

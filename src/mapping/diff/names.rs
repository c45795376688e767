//! One name at a time: exact.

use super::side::Side;
use super::{Compared, Gain, Grant};
use crate::mapping::automaton::{Effort, Language, Words, words};
use crate::mapping::line::Line;

impl<'a> Compared<'a> {
    /// What `gaining` gives the user and `other` does not, each once.
    pub(super) fn gains<'s>(
        &self,
        gaining: &'s Side<'a>,
        other: &Side<'a>,
        user: &[u8],
    ) -> Vec<Gain<'s, 'a>> {
        let (given, had) = (gaining.about(user), other.about(user));
        let had_the_same = |grant: &Grant| had.iter().any(|(_, had)| had == grant);
        if had_the_same(&Grant::Any) {
            return Vec::new();
        }
        let has = |role: &[u8]| other.allows(&had, user, role);
        let mut gains: Vec<Gain<'s, 'a>> = Vec::new();
        let mut push = |grant: Grant, line: &'s Line<'a>| {
            if !gains.iter().any(|gain| gain.grant == grant) {
                gains.push(Gain { grant, line });
            }
        };
        for (line, grant) in given {
            if had_the_same(&grant) {
                continue;
            }
            match (&grant, &self.roles) {
                // Nobody can ask to be the role without a name.
                (Grant::Role(role), _) if role.is_empty() || has(role) => {}
                // All roles that there are can be looked at.
                (Grant::Any | Grant::RolesMatching(_), Some(roles)) => {
                    let about = [(line, grant.clone())];
                    let given = roles.iter().filter(|role| gaining.allows(&about, user, role));
                    for role in given.filter(|role| !has(role)) {
                        push(Grant::Role(role.to_vec()), line);
                    }
                }
                (Grant::RolesMatching(_), None) => {
                    let had = had.iter().filter_map(|(line, _)| line.roles()).collect::<Vec<_>>();
                    match line.few_roles() {
                        Some(few) => few
                            .into_iter()
                            .filter(|role| !has(role))
                            .for_each(|role| push(Grant::Role(role), line)),
                        None if are_all_in(line, &had) => {}
                        None => push(grant, line),
                    }
                }
                _ => push(grant, line),
            }
        }
        gains
    }
}

/// Whether all roles that match the line's pattern match one of the others too.
fn are_all_in(line: &Line<'_>, others: &[&Language]) -> bool {
    line.roles()
        .is_some_and(|roles| words(&[roles], others, 1, &mut Effort::default()) == Words::None)
}

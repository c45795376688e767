//! What a line gives, held against all that the other map gives the same name.

use std::collections::{BTreeSet, HashSet};

use super::side::Side;
use super::{Certainty, Compared, Effort, Given, Grant};
use crate::mapping::automaton::{Language, Part, Words, words};
use crate::mapping::bytes::ByteSet;
use crate::mapping::line::{Line, compared as spelled_as};

/// Something that one side gives and the other does not, and the line of that side.
pub(super) struct Gain<'s, 'a> {
    pub grant: Grant,
    /// What of it the other side gives too.
    pub but: Vec<Grant>,
    pub certainty: Certainty,
    /// The groups on whose members it turns whether the other side gives it too.
    pub turns_on: Vec<Vec<u8>>,
    pub line: &'s Line<'a>,
}

impl Gain<'_, '_> {
    pub fn into_given(self) -> Given {
        Given { grant: self.grant, but: self.but, line: self.line.reference() }
    }
}

/// All that one side gives one name.
pub(super) struct Had<'s, 'a> {
    compared: &'s Compared<'a>,
    side: &'s Side<'a>,
    user: &'s [u8],
    lines: Vec<(&'s Line<'a>, Grant)>,
    grants: HashSet<Grant>,
    /// The roles that lines name, as they are compared.
    named: HashSet<Vec<u8>>,
    /// The other lines, by their places.
    others: Vec<usize>,
    /// The groups whose members the name can be, if the role may be one.
    groups: Vec<Vec<u8>>,
}

impl<'s, 'a> Had<'s, 'a> {
    pub fn of(compared: &'s Compared<'a>, side: &'s Side<'a>, user: &'s [u8]) -> Self {
        let lines = side.about(user);
        let grants: HashSet<Grant> = lines.iter().map(|(_, grant)| grant.clone()).collect();
        let (mut named, mut others) = (HashSet::new(), Vec::new());
        for (place, (line, _)) in lines.iter().enumerate() {
            match line.grant() {
                Grant::Role(role) => drop(named.insert(spelled_as(&role, side.case))),
                _ => others.push(place),
            }
        }
        let groups = groups(&grants);
        Self { compared, side, user, lines, grants, named, others, groups }
    }

    fn effort(&self) -> &'s Effort<'a> {
        self.compared.effort
    }

    fn has_the_same(&self, grant: &Grant) -> bool {
        self.grants.contains(&Grant::Any) || self.grants.contains(grant)
    }

    /// The lines that do not name a role, each with what it gives the name.
    fn others(&self) -> impl Iterator<Item = &(&'s Line<'a>, Grant)> {
        self.others.iter().filter_map(|place| self.lines.get(*place))
    }

    /// Whether the name has the role, whoever is a member of what. Each role is a member of itself.
    fn has(&self, role: &[u8]) -> bool {
        let gives = |(line, grant): &(&Line<'_>, Grant)| match grant {
            Grant::MembersOf(group) => group == role && self.compared.can_be_member(role),
            _ => line.allows(self.side.case, self.user, role),
        };
        self.named.contains(&spelled_as(role, self.side.case)) || self.others().any(gives)
    }

    /// What of a grant that is `line`'s the name has not.
    pub fn lacks<'l>(
        &self,
        gaining: &Side<'a>,
        line: &'l Line<'a>,
        grant: Grant,
    ) -> Vec<Gain<'l, 'a>> {
        if self.has_the_same(&grant) {
            return Vec::new();
        }
        let role = |role: &[u8]| self.lacks_role(line, role);
        match (&grant, &self.compared.known) {
            (Grant::MembersOf(group), _) => self.lacks_members(line, group).into_iter().collect(),
            // All roles that there are can be looked at.
            (_, Some(known)) => {
                let given =
                    known.roles.iter().filter(|role| line.allows(gaining.case, self.user, role));
                given.filter_map(|given| role(given)).collect()
            }
            (Grant::Role(given), None) => role(given).into_iter().collect(),
            (Grant::RolesMatching(_) | Grant::Any, None) => match line.few_roles() {
                Some(few) => few.iter().filter_map(|given| role(given)).collect(),
                None => self.lacks_many(line, grant).into_iter().collect(),
            },
            // Filled in for a name.
            (Grant::Captured { .. }, None) => Vec::new(),
        }
    }

    /// Nobody can ask to be the role without a name.
    fn lacks_role<'l>(&self, line: &'l Line<'a>, role: &[u8]) -> Option<Gain<'l, 'a>> {
        if role.is_empty() || self.has(role) {
            return None;
        }
        let turns_on =
            if self.compared.can_be_member(role) { self.groups.clone() } else { Vec::new() };
        Some(Gain {
            grant: Grant::Role(role.to_vec()),
            but: Vec::new(),
            certainty: certainty(&turns_on),
            turns_on,
            line,
        })
    }

    fn lacks_members<'l>(&self, line: &'l Line<'a>, group: &[u8]) -> Option<Gain<'l, 'a>> {
        let is_lent = match &self.compared.known {
            // Only what is lent can be a member that somebody may act as.
            Some(known) if known.lent.iter().all(|role| self.has(role)) => return None,
            Some(known) => known.lent.contains(group),
            None => true,
        };
        if group.is_empty() {
            return None;
        }
        let mut but = Vec::new();
        if !is_lent || self.has(group) {
            but.push(Grant::Role(group.to_vec()));
        }
        let patterns = self.lines.iter().map(|(_, grant)| grant);
        but.extend(patterns.filter(|grant| matches!(grant, Grant::RolesMatching(_))).cloned());
        let turns_on = self.groups.clone();
        let grant = Grant::MembersOf(group.to_vec());
        Some(Gain { grant, but, certainty: certainty(&turns_on), turns_on, line })
    }

    /// Of every role, or of every role that matches a pattern.
    fn lacks_many<'l>(&self, line: &'l Line<'a>, grant: Grant) -> Option<Gain<'l, 'a>> {
        let every = match grant {
            Grant::Any => Language::within(&Part::Byte(ByteSet::ALL).anywhere(), self.effort()),
            _ => None,
        };
        let own = every.as_ref().or_else(|| line.roles());
        let had: Vec<(&Grant, Option<Language>)> = self
            .lines
            .iter()
            .map(|(_, grant)| (grant, literal_role(grant, self.effort())))
            .collect();
        let patterns = self.lines.iter().filter_map(|(line, grant)| match grant {
            Grant::RolesMatching(_) => line.roles(),
            _ => None,
        });
        let literals = had.iter().filter_map(|(_, language)| language.as_ref());
        let others: Vec<&Language> = patterns.chain(literals).collect();
        // A pattern of which it is not known what it matches may be the rest.
        let is_known = self.lines.iter().all(|(line, grant)| {
            !matches!(grant, Grant::RolesMatching(_)) || line.roles().is_some()
        });
        let left = own.map_or(Words::NotFound, |own| words(&[own], &others, 1, self.effort()));
        let certainty = match left {
            Words::None => return None,
            Words::Some(_) if is_known => Certainty::Certain,
            Words::Some(_) | Words::NotFound => Certainty::Possible,
        };
        let meets = |grant: &Grant, language: Option<&Language>| match (grant, own, language) {
            (_, Some(own), Some(language)) => {
                words(&[own, language], &[], 1, self.effort()) != Words::None
            }
            _ => true,
        };
        let mut but: Vec<Grant> = Vec::new();
        for ((line, grant), (_, literal)) in self.lines.iter().zip(&had) {
            let language = match grant {
                Grant::RolesMatching(_) => line.roles(),
                // Its members may match too.
                Grant::MembersOf(_) => None,
                _ => literal.as_ref(),
            };
            if *grant != Grant::MembersOf(Vec::new()) && meets(grant, language) {
                but.push(grant.clone());
            }
        }
        but.sort();
        but.dedup();
        Some(Gain { grant, but, certainty, turns_on: Vec::new(), line })
    }
}

/// The role that is surely part of a grant, if it is one.
fn literal_role(grant: &Grant, effort: &Effort<'_>) -> Option<Language> {
    let (Grant::Role(role) | Grant::MembersOf(role)) = grant else { return None };
    Language::within(&Part::bytes(role), effort)
}

/// The groups of all `+group`, each once.
fn groups(grants: &HashSet<Grant>) -> Vec<Vec<u8>> {
    let group = |grant: &Grant| match grant {
        Grant::MembersOf(group) if !group.is_empty() => Some(group.clone()),
        _ => None,
    };
    let groups: BTreeSet<Vec<u8>> = grants.iter().filter_map(group).collect();
    groups.into_iter().collect()
}

fn certainty(turns_on: &[Vec<u8>]) -> Certainty {
    if turns_on.is_empty() { Certainty::Certain } else { Certainty::Possible }
}

impl Compared<'_> {
    /// Whether a cluster may have made the role a member of a group, and its members are asked for.
    pub(super) fn can_be_member(&self, role: &[u8]) -> bool {
        self.known.as_ref().is_none_or(|known| known.lent.contains(role))
    }
}

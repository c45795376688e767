//! Near misses: what is different between a name and the line that was probably meant for it.
//! Nobody is let in by this; it is told to whoever asks why nobody was.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use utoipa::ToSchema;

use super::scan::readable;
use super::{Considered, DatabaseUserView, IdentMap, Question, RuleView, SystemUserView};
use crate::names::MapName;

/// What is different between what a line says and what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Near {
    /// The name is written in other letters, upper or lower case.
    Case,
    /// One has a realm (`@REALM`), or a domain, that the other does not have.
    Realm,
    /// One is a bare name, where the other is a whole DN that begins with it.
    BareName,
    /// Blanks are different.
    Blanks,
    /// The role is written in other letters, upper or lower case.
    RoleCase,
    /// What would give the role, `all` or a `+group`, is the name of a role there: it is in quotes, or
    /// the map is read as a release that knows neither.
    RoleKeyword,
}

/// The lines of one map, by what a name that is nearly theirs has in common with it: somebody may be
/// in a thousand groups, and a map have a hundred thousand lines.
pub(super) struct Nearby<'m> {
    map: &'m IdentMap,
    name: &'m MapName,
    named: HashMap<Likeness, Vec<usize>>,
}

/// What two names have in common of which one may have been meant by the other.
#[derive(PartialEq, Eq, Hash)]
enum Likeness {
    Folded(Vec<u8>),
    WithoutBlanks(Vec<u8>),
    WithoutRealm(Vec<u8>),
    FirstValue(Vec<u8>),
}

impl Likeness {
    /// What a name has in common with others that are nearly the same, each written in full.
    fn of(name: &[u8]) -> [Self; 3] {
        [
            Self::Folded(folded(name)),
            Self::WithoutBlanks(folded(&without_blanks(name))),
            Self::WithoutRealm(folded(without_realm(name))),
        ]
    }

    /// What a name in a line has in common with those that may be written for it.
    fn of_line(name: &[u8]) -> impl Iterator<Item = Self> {
        let first = first_value(name).map(|value| Self::FirstValue(folded(value)));
        Self::of(name).into_iter().chain(first)
    }

    /// What a name that was asked about has in common with those that may be meant by it.
    fn of_asked(name: &[u8]) -> impl Iterator<Item = Self> {
        let first = first_value(name).map(|value| Self::Folded(folded(value)));
        let whole = Self::FirstValue(folded(name));
        Self::of(name).into_iter().chain(first).chain([whole])
    }
}

impl<'m> Nearby<'m> {
    pub(super) fn of(map: &'m IdentMap, name: &'m MapName) -> Self {
        let mut named: HashMap<Likeness, Vec<usize>> = HashMap::new();
        for (place, rule) in map.rules(name).enumerate() {
            if let SystemUserView::Literal(literal) = rule.system_user() {
                for likeness in Likeness::of_line(literal) {
                    named.entry(likeness).or_default().push(place);
                }
            }
        }
        Self { map, name, named }
    }

    /// The map.
    pub(super) fn name(&self) -> &MapName {
        self.name
    }

    /// The lines that nearly let somebody in, in order, each with what keeps it from that.
    pub(super) fn misses(
        &self,
        question: &Question<'_>,
    ) -> impl Iterator<Item = (RuleView<'m>, Near, String)> {
        let name = question.system_user;
        let mut places: BTreeSet<usize> = Likeness::of_asked(name)
            .filter_map(|likeness| self.named.get(&likeness))
            .flatten()
            .copied()
            .collect();
        let written = variants(name).into_iter().map(|(_, variant)| variant);
        for variant in written.chain([name.to_vec()]) {
            places.extend(self.map.rules_about(self.name, &variant).map(|(place, _)| place));
        }
        let rules = places.into_iter().filter_map(|place| self.map.rules(self.name).nth(place));
        rules.filter_map(|rule| {
            let (near, detail) = miss(rule, question)?;
            Some((rule, near, detail))
        })
    }
}

/// What keeps `rule` from letting somebody in, if it is only that; and that as a sentence.
pub(super) fn miss(rule: RuleView<'_>, question: &Question<'_>) -> Option<(Near, String)> {
    match rule.consider(question) {
        Considered::OtherUser => other_name(rule, question),
        Considered::OtherRole { .. } => other_role(rule, question),
        Considered::Allows { .. } | Considered::Fails { .. } => None,
    }
}

/// The names that somebody may have meant, each asked in the place of the name that was given.
fn other_name(rule: RuleView<'_>, question: &Question<'_>) -> Option<(Near, String)> {
    let name = question.system_user;
    let tried = match rule.system_user() {
        SystemUserView::Literal(literal) => vec![(difference(literal, name)?, literal.to_vec())],
        SystemUserView::Pattern(_) => variants(name),
    };
    let allows = |meant: &[u8]| {
        let meant = Question { system_user: meant, ..*question };
        matches!(rule.consider(&meant), Considered::Allows { .. })
    };
    let (near, meant) = tried.into_iter().find(|(_, meant)| allows(meant))?;
    let (meant, name) = (readable(&meant), readable(name));
    let detail = match near {
        Near::Case => format!("it is for `{meant}`: case counts, and the name is `{name}`"),
        Near::Realm => {
            format!("it is for `{meant}`: the realm is part of the name, which is `{name}`")
        }
        Near::BareName => {
            format!("it is for `{meant}`: a name is compared as a whole, and this one is `{name}`")
        }
        Near::Blanks | Near::RoleCase | Near::RoleKeyword => {
            format!("it is for `{meant}`: blanks count, and the name is `{name}`")
        }
    };
    Some((near, detail))
}

fn other_role(rule: RuleView<'_>, question: &Question<'_>) -> Option<(Near, String)> {
    let DatabaseUserView::Literal(given) = rule.database_user() else { return None };
    let gives = readable(given);
    if given.eq_ignore_ascii_case(question.role) {
        let role = readable(question.role);
        let detail = format!("it gives `{gives}`: case counts, and the role is `{role}`");
        return Some((Near::RoleCase, detail));
    }
    let would_give = match given {
        b"all" => true,
        [b'+', group @ ..] => {
            group == question.role || question.members.is_member(question.role, group)
        }
        _ => false,
    };
    let why = if rule.is_role_quoted() {
        "in quotes that is the name of a role, and no keyword"
    } else {
        "only PostgreSQL 16 and newer take that for more than the name of a role"
    };
    would_give.then(|| (Near::RoleKeyword, format!("it gives `{gives}`: {why}")))
}

/// What is different between two names, if it is one thing.
fn difference(literal: &[u8], name: &[u8]) -> Option<Near> {
    let same = |one: &[u8], other: &[u8]| folded(one) == folded(other);
    if same(literal, name) {
        Some(Near::Case)
    } else if same(&without_blanks(literal), &without_blanks(name)) {
        Some(Near::Blanks)
    } else if same(without_realm(literal), without_realm(name)) {
        Some(Near::Realm)
    } else if first_value(literal).is_some_and(|value| same(value, name))
        || first_value(name).is_some_and(|value| same(literal, value))
    {
        Some(Near::BareName)
    } else {
        None
    }
}

/// What may have been meant by a name, for a line whose names cannot be listed.
fn variants(name: &[u8]) -> Vec<(Near, Vec<u8>)> {
    let all = [
        (Near::Case, name.to_ascii_lowercase()),
        (Near::Case, name.to_ascii_uppercase()),
        (Near::Case, with_realm_in_capitals(name)),
        (Near::Blanks, name.trim_ascii().to_vec()),
        (Near::Realm, without_realm(name).to_vec()),
        (Near::BareName, first_value(name).unwrap_or(name).to_vec()),
    ];
    all.into_iter().filter(|(_, variant)| variant != name).collect()
}

/// Letters of all languages in lower case, where the name is UTF-8.
fn folded(name: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(name) {
        Ok(text) => text.to_lowercase().into_bytes(),
        Err(_) => name.to_ascii_lowercase(),
    }
}

fn without_blanks(name: &[u8]) -> Vec<u8> {
    name.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect()
}

/// `alice` of `alice@CORP.TEST` and of `CORP\alice`.
fn without_realm(name: &[u8]) -> &[u8] {
    let end = name.iter().rposition(|byte| *byte == b'@').unwrap_or(name.len());
    let begin = name.iter().position(|byte| *byte == b'\\').map_or(0, |at| at + 1);
    name.get(begin..end).unwrap_or(name)
}

fn with_realm_in_capitals(name: &[u8]) -> Vec<u8> {
    let at = name.iter().rposition(|byte| *byte == b'@').unwrap_or(name.len());
    let (user, realm) = name.split_at(at);
    [user, &realm.to_ascii_uppercase()].concat()
}

/// `readers` of `cn=readers,ou=groups,dc=test`.
fn first_value(name: &[u8]) -> Option<&[u8]> {
    let equals = name.iter().position(|byte| *byte == b'=')?;
    let rest = name.get(equals + 1..)?;
    let end = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
    rest.get(..end).filter(|value| !value.is_empty())
}

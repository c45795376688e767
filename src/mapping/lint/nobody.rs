//! Patterns that match nobody: what else could be told of their lines would mislead.

use std::collections::BTreeMap;

use super::finding::{LintCode, LintFinding, printed, shown};
use crate::mapping::automaton::{Effort, Language, Part, Words, words, words_up_to};
use crate::mapping::ident::PatternFacts;
use crate::mapping::line::Line;
use crate::mapping::possible::{Names, can_be, longest, why_nobodys};
use crate::mapping::scan::Of;
use crate::mapping::{Case, Considered, DatabaseUserView, MapUse, SystemUserView};
use crate::names::ROLE_BYTES;

/// What is told of each such line, by its place. Where the map may be asked about groups, it is asked
/// about longer names and more of them.
pub(super) fn of_lines(
    lines: &[Line<'_>],
    used: Option<&MapUse>,
    effort: &Effort<'_>,
) -> BTreeMap<usize, LintFinding> {
    let of = if used.is_none_or(MapUse::asks_groups) { Of::Group } else { Of::Person };
    let Some(names) = Names::of(of) else { return BTreeMap::new() };
    let found = lines.iter().filter_map(|line| {
        let why = nobody(line, (of, names), effort).or_else(|| no_role(line, effort))?;
        let message = format!("nobody comes by the line: {why}");
        let hint = "correct the pattern, or leave the line out";
        let place = Some(line.reference());
        Some((line.index, LintFinding::new(place, LintCode::MatchesNobody, message, hint)))
    });
    found.collect()
}

/// Why nobody is called as the pattern says.
fn nobody(line: &Line<'_>, (of, names): (Of, &Names), effort: &Effort<'_>) -> Option<String> {
    let SystemUserView::Pattern(pattern) = line.system_user() else { return None };
    // Most often it is as simple as that, and thousands of lines need no automaton.
    let guess = line.facts().and_then(|facts| facts.loose.simplest());
    let is_matched = |name: &[u8]| {
        line.consider(Case::Sensitive, name, b"") != Considered::OtherUser && can_be(of, name)
    };
    if guess.is_some_and(|name| is_matched(&name)) {
        return None;
    }
    let loose = loosely(line.language(), line.facts(), effort);
    let own = line.language().or(loose.as_ref())?;
    if names.words(&[own], &[], 1, effort) != Words::None {
        return None;
    }
    let pattern = printed(pattern);
    Some(match words(&[own], &[], 1, effort) {
        Words::None => format!("no name matches `/{pattern}`"),
        Words::Some(found) => {
            let name = found.first().map(Vec::as_slice).unwrap_or_default();
            let (shown, why) = (shown(name), why_nobodys(of, name));
            format!("`/{pattern}` matches only names that nobody can have, such as {shown}: {why}")
        }
        Words::NotFound => {
            format!("`/{pattern}` matches only names of more than {} bytes", longest(of))
        }
    })
}

/// Why no role is called as the pattern of roles says.
fn no_role(line: &Line<'_>, effort: &Effort<'_>) -> Option<String> {
    let DatabaseUserView::Pattern(pattern) = line.database_user() else { return None };
    let loose = loosely(line.roles(), line.role_facts(), effort);
    let own = line.roles().or(loose.as_ref())?;
    let is_none = words_up_to(Some(ROLE_BYTES), &[own], &[], 1, effort) == Words::None;
    is_none.then(|| format!("no role matches `/{}`", printed(pattern)))
}

/// All that matches a pattern with look-around, and more.
fn loosely(
    language: Option<&Language>,
    facts: Option<&PatternFacts>,
    effort: &Effort<'_>,
) -> Option<Language> {
    let part: &Part = &facts.filter(|_| language.is_none())?.loose;
    Language::within(part, effort)
}

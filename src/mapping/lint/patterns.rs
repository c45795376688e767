//! One pattern by itself: whether it matches more than it seems to.

use super::Checked;
use super::finding::{LintCode, LintFinding, printed, shown};
use crate::mapping::automaton::{Effort, Language, Part, Words, words};
use crate::mapping::bytes::ByteSet;
use crate::mapping::line::{Grant, Line};
use crate::mapping::{Considered, DatabaseUserView, SystemUserView};

/// A realm that nobody can have meant.
const FOREIGN_REALM: &[u8] = b"any.other.invalid";
/// Names that are tried with a foreign realm.
const TRIED: usize = 16;

/// Every name.
struct Everybody(Option<Language>);

pub(super) fn check(checked: &Checked<'_>, effort: &Effort<'_>) -> Vec<LintFinding> {
    let any = Part::Repeat { part: Box::new(Part::Byte(ByteSet::ALL)), min: 1, max: None };
    let everybody = Everybody(Language::of(&any));
    let mut findings = Vec::new();
    for line in checked.lines_of_somebody() {
        findings.extend(of_role_pattern(line));
        let SystemUserView::Pattern(pattern) = line.system_user() else { continue };
        if everybody.matches(line, effort) {
            findings.push(matches_everybody(line, pattern));
            continue;
        }
        if let Some(facts) = line.facts() {
            let (begins, ends) = (facts.begins, facts.ends);
            findings.extend(unanchored(line, pattern, begins, ends));
            if facts.loose_dot {
                findings.push(loose_dot(line, pattern));
            }
        }
        findings.extend(any_realm(checked, line, pattern, effort));
    }
    findings
}

impl Everybody {
    fn matches(&self, line: &Line<'_>, effort: &Effort<'_>) -> bool {
        let both = self.0.as_ref().zip(line.language());
        both.is_some_and(|(all, own)| words(&[all], &[own], 1, effort) == Words::None)
    }
}

fn matches_everybody(line: &Line<'_>, pattern: &[u8]) -> LintFinding {
    let pattern = printed(pattern);
    let place = Some(line.reference());
    match line.grant() {
        Grant::Any => LintFinding::new(
            place,
            LintCode::AllForEverybody,
            format!("`/{pattern}` matches everybody, and `all` is every role"),
            "name who may act as which role",
        ),
        Grant::Captured { .. } => LintFinding::new(
            place,
            LintCode::MatchesEverybody,
            format!(
                "`/{pattern}` matches every name, so whoever is called like a role may act as it"
            ),
            "say what such names look like, with the realm: `/^([a-z]+)@CORP\\.TEST$`",
        ),
        _ => LintFinding::new(
            place,
            LintCode::MatchesEverybody,
            format!("`/{pattern}` matches everybody who can log in"),
            "say what the names look like, or map a group",
        ),
    }
}

fn unanchored(line: &Line<'_>, pattern: &[u8], begins: bool, ends: bool) -> Option<LintFinding> {
    let (what, hint) = match (begins, ends) {
        (true, true) => return None,
        (false, true) => (
            "anything may stand before what it matches",
            "begin it with `^`, or with `^.*` when that is meant",
        ),
        (true, false) => (
            "anything may follow what it matches",
            "end it with `$`, or with `.*$` when that is meant",
        ),
        (false, false) => (
            "it matches anywhere in the name",
            "hold it with `^` and `$`; write `.*` where anything may stand",
        ),
    };
    let message = format!("`/{}` is not anchored: {what}", printed(pattern));
    Some(LintFinding::new(Some(line.reference()), LintCode::Unanchored, message, hint))
}

fn of_role_pattern(line: &Line<'_>) -> Option<LintFinding> {
    let DatabaseUserView::Pattern(pattern) = line.database_user() else { return None };
    let facts = line.role_facts()?;
    unanchored(line, pattern, facts.begins, facts.ends)
}

fn loose_dot(line: &Line<'_>, pattern: &[u8]) -> LintFinding {
    LintFinding::new(
        Some(line.reference()),
        LintCode::LooseDot,
        format!("a dot in `/{}` matches any character", printed(pattern)),
        "write `\\.` for a dot",
    )
}

/// A pattern with an `@` that takes a name of another realm too.
fn any_realm(
    checked: &Checked<'_>,
    line: &Line<'_>,
    pattern: &[u8],
    effort: &Effort<'_>,
) -> Option<LintFinding> {
    if !pattern.contains(&b'@') {
        return None;
    }
    let at = Language::of(&Part::Byte(ByteSet::single(b'@')).anywhere())?;
    let Words::Some(names) = words(&[line.language()?, &at], &[], TRIED, effort) else {
        return None;
    };
    let is_matched =
        |name: &Vec<u8>| line.consider(checked.case(), name, b"") != Considered::OtherUser;
    let elsewhere = names.iter().filter_map(|name| {
        let at = name.iter().rposition(|byte| *byte == b'@')?;
        Some([name.get(..=at)?, FOREIGN_REALM].concat())
    });
    let example = elsewhere.into_iter().find(is_matched)?;
    let message = format!("`/{}` takes any realm, such as {}", printed(pattern), shown(&example));
    let hint = "write the realm out and hold it with `$`: `@CORP\\.TEST$`";
    Some(LintFinding::new(Some(line.reference()), LintCode::AnyRealm, message, hint))
}

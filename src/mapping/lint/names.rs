//! Names and maps: those that are nobody's.

use std::collections::{BTreeMap, HashMap};

use strsim::damerau_levenshtein;

use super::finding::{LintCode, LintFinding, printed, shown, unused_map};
use super::slips::is_directive;
use super::{Checked, LintContext};
use crate::mapping::automaton::{Effort, Language, Part, Words, words};
use crate::mapping::line::Line;
use crate::mapping::{Case, DatabaseUserView, IdentMap, MapUses, RuleRef, SystemUserView};
use crate::names::MapName;

/// Maps whose names are held against each other; of more nothing is said.
const MAPS: usize = 1000;

/// Maps that nobody uses, or that are called almost like another.
pub(super) fn of_maps(map: &IdentMap, context: &LintContext<'_>) -> Vec<LintFinding> {
    let mut findings: Vec<LintFinding> =
        map.never_asked().map(|rule| unaskable(rule.reference())).collect();
    match context.uses {
        Some(uses) => {
            findings.extend(unused(map, uses));
            findings.extend(missing(map, uses));
        }
        None => findings.extend(slips(map)),
    }
    findings
}

fn unaskable(place: RuleRef) -> LintFinding {
    let message = "nobody uses this map: its name is empty or not UTF-8";
    LintFinding::new(Some(place), LintCode::UnaskableMap, message, "give the map a name in UTF-8")
}

fn first_line(map: &IdentMap, name: &MapName) -> Option<RuleRef> {
    map.rules(name).next().map(|rule| rule.reference())
}

fn unused(map: &IdentMap, uses: &MapUses) -> Vec<LintFinding> {
    let unused = named(map).filter(|name| uses.of_map(name).is_none());
    let finding = |name: &MapName| {
        let place = first_line(map, name);
        let unused = unused_map(name.as_str().as_bytes());
        match uses.used_maps().find(|used| is_slip(name, used)) {
            Some(meant) => {
                let meant = shown(meant.as_str().as_bytes());
                let message = format!("{unused}; it is called almost like {meant}");
                LintFinding::new(place, LintCode::MapNameSlip, message, "correct the name")
            }
            None => LintFinding::new(
                place,
                LintCode::UnusedMap,
                unused,
                "name it in `map` or `group_map` of a way in, or leave its lines out",
            ),
        }
    };
    unused.map(finding).collect()
}

fn missing(map: &IdentMap, uses: &MapUses) -> Vec<LintFinding> {
    let missing = uses.used_maps().filter(|name| !map.has_map(name));
    let finding = |name: &MapName| {
        let name = shown(name.as_str().as_bytes());
        let message = format!("the configuration uses the map {name}, which has no line");
        let hint = "write its lines, or correct `map` or `group_map`";
        LintFinding::new(None, LintCode::MissingMap, message, hint)
    };
    missing.map(finding).collect()
}

/// Without a configuration: of two maps that are called almost alike, the one with fewer lines.
fn slips(map: &IdentMap) -> Vec<LintFinding> {
    let counted: Vec<(&MapName, usize)> =
        named(map).map(|name| (name, map.rules(name).count())).collect();
    // Each is held against all others.
    if counted.len() > MAPS {
        return Vec::new();
    }
    let finding = |(name, count): &(&MapName, usize)| {
        let larger = counted.iter().find(|(other, lines)| lines > count && is_slip(name, other));
        let (meant, _) = larger?;
        let [written, meant] = [*name, *meant].map(|name| shown(name.as_str().as_bytes()));
        let message =
            format!("the map {written} is called almost like {meant}, which has more lines");
        let hint = "correct the name, or hold the map against its configuration with --config";
        Some(LintFinding::new(first_line(map, name), LintCode::MapNameSlip, message, hint))
    };
    counted.iter().filter_map(finding).collect()
}

/// The maps that somebody has given a name. A name that a byte order mark is a part of is told with
/// the file, and what was meant to include a file with the line.
fn named(map: &IdentMap) -> impl Iterator<Item = &MapName> {
    let is_marked = |name: &MapName| name.as_str().starts_with('\u{feff}');
    map.map_names().filter(move |name| !is_marked(name) && !is_directive(name))
}

/// One letter more, less, another, or two changed about; or nothing but the case. Names that differ
/// by digits are numbered.
fn is_slip(one: &MapName, other: &MapName) -> bool {
    let (one, other) = (one.as_str(), other.as_str());
    let letters =
        |name: &str| name.chars().filter(|letter| !letter.is_ascii_digit()).collect::<String>();
    let is_numbered = letters(one) == letters(other);
    let is_long = one.chars().count().min(other.chars().count()) > 2;
    one != other
        && (one.eq_ignore_ascii_case(other)
            || (is_long && !is_numbered && damerau_levenshtein(one, other) == 1))
}

pub(super) fn check(checked: &Checked<'_>, effort: &Effort<'_>) -> Vec<LintFinding> {
    let mut findings = twins(checked);
    for line in &checked.lines {
        findings.extend(not_utf8(line));
        findings.extend(literal_backreference(line));
    }
    if checked.used.is_some_and(crate::mapping::MapUse::is_of_groups) {
        let bare = checked.lines_of_somebody().filter_map(|line| bare_group(line, effort));
        findings.extend(bare);
    }
    findings
}

/// Users that differ in case only, where case counts: most directories do not tell them apart.
fn twins(checked: &Checked<'_>) -> Vec<LintFinding> {
    if checked.case() == Case::Insensitive {
        return Vec::new();
    }
    let mut spellings: HashMap<Vec<u8>, BTreeMap<&[u8], &Line<'_>>> = HashMap::new();
    for line in &checked.lines {
        if let SystemUserView::Literal(name) = line.system_user() {
            let same = spellings.entry(name.to_ascii_lowercase()).or_default();
            same.entry(name).or_insert(line);
        }
    }
    let several = spellings.into_values().filter(|same| same.len() > 1);
    several.flat_map(|same| twins_of(same.into_iter().collect())).collect()
}

fn twins_of(mut same: Vec<(&[u8], &Line<'_>)>) -> Vec<LintFinding> {
    same.sort_unstable_by_key(|(_, line)| line.index);
    let Some(((first, first_line), others)) = same.split_first() else { return Vec::new() };
    let finding = |(name, line): &(&[u8], &Line<'_>)| {
        let (name, first) = (shown(name), shown(first));
        let place = first_line.reference();
        let message =
            format!("{name} differs from {first} at {place} in case only, and case counts");
        let hint = "write the name as the directory does, once";
        LintFinding::new(Some(line.reference()), LintCode::CaseTwins, message, hint)
    };
    others.iter().map(finding).collect()
}

fn not_utf8(line: &Line<'_>) -> Option<LintFinding> {
    let is_text = |name: &[u8]| std::str::from_utf8(name).is_ok();
    let user = match line.system_user() {
        SystemUserView::Literal(name) => Some(name),
        SystemUserView::Pattern(_) => None,
    };
    let role = match line.database_user() {
        DatabaseUserView::Literal(role) | DatabaseUserView::MemberOf(role) => Some(role),
        _ => None,
    };
    let name = user.into_iter().chain(role).find(|name| !is_text(name))?;
    let message = format!("{} is not UTF-8, as all names are here", shown(name));
    let hint = "save the file as UTF-8";
    Some(LintFinding::new(Some(line.reference()), LintCode::NotUtf8, message, hint))
}

fn literal_backreference(line: &Line<'_>) -> Option<LintFinding> {
    let holds = |text: &[u8]| text.windows(2).any(|pair| pair == b"\\1");
    let (message, hint) = match line.database_user() {
        DatabaseUserView::Literal(role) if !line.is_pattern() && holds(role) => (
            format!("`\\1` in {} stands for itself: the system user is no pattern", shown(role)),
            "begin the system user with `/` for a pattern",
        ),
        DatabaseUserView::MemberOf(group) if holds(group) => (
            format!("`\\1` in +{} stands for itself: none is filled in behind a `+`", shown(group)),
            "write one line for each group",
        ),
        DatabaseUserView::WithCapture { before, after } if holds(after) => (
            format!(
                "only the first `\\1` in {} is filled in: the other stands for itself",
                shown(&[before, b"\\1", after].concat())
            ),
            "write one line for each role, or rename the role so that its part stands in it once",
        ),
        _ => return None,
    };
    Some(LintFinding::new(Some(line.reference()), LintCode::LiteralBackreference, message, hint))
}

/// Groups are whole distinguished names (RFC 4514): each has an `=`, and a comma after its first
/// value, for no group is the root of its directory.
fn bare_group(line: &Line<'_>, effort: &Effort<'_>) -> Option<LintFinding> {
    let (written, is_bare, is_begun) = match line.system_user() {
        SystemUserView::Literal(name) => {
            let holds = |byte: u8| name.contains(&byte);
            (shown(name), !(holds(b'=') && holds(b',')), holds(b'='))
        }
        SystemUserView::Pattern(pattern) => {
            let holds = |byte: u8| Language::of(&Part::bytes(&[byte]).anywhere());
            let (equals, comma) = (holds(b'=')?, holds(b',')?);
            let own = line.language()?;
            let is_none = |others: &[&Language]| {
                words(&[&[own], others].concat(), &[], 1, effort) == Words::None
            };
            let is_bare = is_none(&[&equals, &comma]);
            (format!("/{}", printed(pattern)), is_bare, is_bare && !is_none(&[&equals]))
        }
    };
    if !is_bare {
        return None;
    }
    let message = if is_begun {
        format!("{written} is only the beginning of a distinguished name, and so no group")
    } else {
        format!("{written} is no distinguished name, and so no group")
    };
    let hint = "write the whole name of the group: `\"cn=readers,ou=groups,dc=example,dc=test\"`";
    Some(LintFinding::new(Some(line.reference()), LintCode::BareGroupName, message, hint))
}

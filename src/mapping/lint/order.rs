//! Lines against those before them: what is never reached, and what is never needed.

use std::collections::HashMap;

use super::Checked;
use super::finding::{LintCode, LintFinding, printed};
use crate::mapping::automaton::{Effort, Language, Words, words};
use crate::mapping::line::{Grant, Line, Meaning, compared, spelled};
use crate::mapping::{Case, SystemUserView};

/// Lines before a pattern that it is held against; more are passed over, and nothing is said.
const COVERS: usize = 100;

/// The lines so far.
#[derive(Default)]
struct Earlier<'l, 'a> {
    meanings: HashMap<Meaning<'a>, &'l Line<'a>>,
    literals: HashMap<Vec<u8>, Vec<&'l Line<'a>>>,
    patterns: Vec<&'l Line<'a>>,
    /// Those of the patterns that give a role by its letters, as it is compared; and the others.
    of_role: HashMap<Vec<u8>, Vec<&'l Line<'a>>>,
    of_more: Vec<&'l Line<'a>>,
    /// Those of the patterns that end the scan for whoever matches.
    ending: Vec<&'l Line<'a>>,
}

pub(super) fn check(checked: &Checked<'_>, effort: &Effort<'_>) -> Vec<LintFinding> {
    let case = checked.case();
    let mut earlier = Earlier::default();
    let mut findings = Vec::new();
    for line in checked.lines_of_somebody() {
        findings.extend(failure(line));
        if effort.is_spent() {
            continue;
        }
        findings.extend(earlier.against(line, case, effort));
        earlier.push(line, case);
    }
    findings
}

fn failure(line: &Line<'_>) -> Option<LintFinding> {
    let SystemUserView::Pattern(pattern) = line.system_user() else { return None };
    let pattern = printed(pattern);
    let place = Some(line.reference());
    if line.always_fails() {
        let message = format!(
            "`\\1` has no group in `/{pattern}`: whoever matches is denied here, whatever comes after"
        );
        let hint = "put parentheses around what is the role";
        Some(LintFinding::new(place, LintCode::AlwaysFails, message, hint))
    } else if line.can_fail() {
        let message = format!(
            "the group of `/{pattern}` need not take part: whoever matches without it is denied here, \
             whatever comes after"
        );
        let hint = "write one line for those with it and one for those without";
        Some(LintFinding::new(place, LintCode::MayFail, message, hint))
    } else {
        None
    }
}

/// What a line before it makes of a line.
enum Verdict<'l, 'a> {
    /// It gives as much.
    Covered(&'l Line<'a>),
    /// It ends the scan.
    Ended(&'l Line<'a>),
}

impl<'l, 'a> Earlier<'l, 'a> {
    fn push(&mut self, line: &'l Line<'a>, case: Case) {
        self.meanings.entry(line.meaning()).or_insert(line);
        match line.system_user() {
            SystemUserView::Literal(name) => {
                self.literals.entry(compared(name, case)).or_default().push(line);
            }
            SystemUserView::Pattern(_) => {
                self.patterns.push(line);
                match line.grant() {
                    Grant::Role(role) => {
                        self.of_role.entry(compared(&role, case)).or_default().push(line);
                    }
                    _ => self.of_more.push(line),
                }
            }
        }
        if line.always_fails() {
            self.ending.push(line);
        }
    }

    fn against(&self, line: &Line<'a>, case: Case, effort: &Effort<'_>) -> Option<LintFinding> {
        if let Some(first) = self.meanings.get(&line.meaning()) {
            let message = format!("the line says the same as {}", first.reference());
            let hint = "leave one of them out";
            return Some(LintFinding::new(
                Some(line.reference()),
                LintCode::Duplicate,
                message,
                hint,
            ));
        }
        let verdict = match line.system_user() {
            SystemUserView::Literal(name) => {
                let spellings = spellings(name, case);
                self.on_name(line, name, case, |earlier| match (&spellings, earlier.language()) {
                    (None, _) => true,
                    (Some(all), Some(own)) => words(&[all], &[own], 1, effort) == Words::None,
                    (Some(_), None) => false,
                })
            }
            SystemUserView::Pattern(_) => {
                self.on_words(line, case).or_else(|| self.on_pattern(line, case, effort))
            }
        };
        verdict.map(|verdict| finding(line, &verdict))
    }

    /// What the lines before make of one name: the first that decides it for all that the line
    /// gives. Of those with patterns only such count as `is_about_all` says.
    fn on_name(
        &self,
        line: &Line<'a>,
        name: &[u8],
        case: Case,
        mut is_about_all: impl FnMut(&Line<'a>) -> bool,
    ) -> Option<Verdict<'l, 'a>> {
        let wanted = line.given_to(case, name).ok().flatten()?;
        let named = self.literals.get(&compared(name, case)).into_iter().flatten();
        // Quicker to ask than the pattern: what each of its names begins with.
        let patterns = self.patterns.iter().filter(|line| name.starts_with(line.prefix()));
        let mut about: Vec<&Line<'a>> = named.chain(patterns).copied().collect();
        about.sort_unstable_by_key(|line| line.index);
        let mut verdicts = about.into_iter().filter_map(|earlier| {
            let verdict = match earlier.given_to(case, name) {
                Err(_) => Verdict::Ended(earlier),
                Ok(given) => {
                    let allows = |role: &[u8]| earlier.allows(case, name, role);
                    covers(&given?, &wanted, allows).then_some(Verdict::Covered(earlier))?
                }
            };
            Some((earlier, verdict))
        });
        let decides = verdicts.find(|(earlier, _)| !earlier.is_pattern() || is_about_all(earlier));
        decides.map(|(_, verdict)| verdict)
    }

    /// A pattern of few words is looked at word by word; the last word's verdict stands for all.
    fn on_words(&self, line: &Line<'a>, case: Case) -> Option<Verdict<'l, 'a>> {
        let words = line.words()?;
        let verdicts: Option<Vec<_>> =
            words.iter().map(|word| self.on_name(line, word, case, |_| true)).collect();
        verdicts?.pop()
    }

    fn on_pattern(
        &self,
        line: &Line<'a>,
        case: Case,
        effort: &Effort<'_>,
    ) -> Option<Verdict<'l, 'a>> {
        if let Some(last) = last_of(line, &self.ending, effort) {
            return Some(Verdict::Ended(last));
        }
        let wanted = line.grant();
        let named = match &wanted {
            Grant::Role(role) => self.of_role.get(&compared(role, case)),
            _ => None,
        };
        let mut covering = |earlier: &&'l Line<'a>| {
            covers(&earlier.grant(), &wanted, |role| earlier.gives(case, role) == Some(true))
                && (!matches!(wanted, Grant::Captured { .. })
                    || earlier.grant() == Grant::Any
                    || line.captures_like(earlier, effort))
        };
        let may_cover = named.into_iter().flatten().chain(&self.of_more).copied();
        let mut covering: Vec<_> = may_cover.filter(&mut covering).collect();
        covering.sort_unstable_by_key(|line| line.index);
        last_of(line, &covering, effort).map(Verdict::Covered)
    }
}

/// The spellings of a name that a line names, where the case of letters is left out: a pattern may be
/// about some of them only. Nothing where it is the one spelling.
fn spellings(name: &[u8], case: Case) -> Option<Language> {
    let is_one = case == Case::Sensitive || !name.iter().any(u8::is_ascii_alphabetic);
    if is_one { None } else { Language::of(&spelled(name, case)) }
}

/// The last of the lines, if whoever the line is about is met by one of them.
fn last_of<'l, 'a>(
    line: &Line<'a>,
    others: &[&'l Line<'a>],
    effort: &Effort<'_>,
) -> Option<&'l Line<'a>> {
    let others = others.get(..COVERS.min(others.len()))?;
    let languages: Vec<&Language> = others.iter().filter_map(|line| line.language()).collect();
    let last = others.last()?;
    (words(&[line.language()?], &languages, 1, effort) == Words::None).then_some(*last)
}

/// Whether who is given `given` needs no `wanted`.
fn covers(given: &Grant, wanted: &Grant, allows: impl Fn(&[u8]) -> bool) -> bool {
    match (given, wanted) {
        (Grant::Any, _) => true,
        (Grant::Role(_) | Grant::RolesMatching(_), Grant::Role(role)) => allows(role),
        (given, wanted) => given == wanted,
    }
}

fn finding(line: &Line<'_>, verdict: &Verdict<'_, '_>) -> LintFinding {
    let place = Some(line.reference());
    match verdict {
        Verdict::Covered(earlier) => LintFinding::new(
            place,
            LintCode::Shadowed,
            format!("the line decides nothing: {} gives as much before it", earlier.reference()),
            "leave it out, or say less in the line before it",
        ),
        Verdict::Ended(earlier) => LintFinding::new(
            place,
            LintCode::BehindFailing,
            format!(
                "the line is never reached: {} ends in an error before it",
                earlier.reference()
            ),
            "mend the line before it, or put this one first",
        ),
    }
}

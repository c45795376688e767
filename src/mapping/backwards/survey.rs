//! The lines that let somebody act as one role, told one by one.

use std::collections::HashMap;

use super::answer::{
    LineEnds, LineLetsIn, LineNever, LinePlace, PlacedLine, Who, WhoCan, WhyNever,
};
use super::lines::{Gives, RoleLines};
use super::reach::{Reach, Reaches};
use crate::mapping::automaton::Effort;
use crate::mapping::explain::LISTED_MAX;
use crate::mapping::possible::can_be;
use crate::mapping::scan::{MapLine, Of, Said, readable};
use crate::mapping::{Case, Dialect, RuleView, SystemUserView};
use crate::names::{MapName, WayName};

/// Most lines that are named as ending the scan before each line that lets somebody in: a map may
/// have thousands of either.
const BUT_FOR: usize = 20;

/// Lines that may end the scan for some.
#[derive(Default)]
pub(super) struct Ending {
    lines: Vec<LinePlace>,
    /// How many are not among them.
    others: usize,
    /// The line that leaves nobody to the maps after its own, if one does, and what it does.
    all: Option<(LinePlace, WhyNever)>,
}

impl Ending {
    fn push(&mut self, line: LinePlace) {
        if self.lines.len() < BUT_FOR {
            self.lines.push(line);
        } else {
            self.others += 1;
        }
    }
}

/// The lines of one map for one role, told one by one.
pub(super) struct Survey<'s> {
    /// Nothing for a duty.
    pub(super) way: Option<&'s WayName>,
    pub(super) map: &'s MapName,
    pub(super) of: Of,
    pub(super) lines: &'s RoleLines<'s>,
    pub(super) dialect: Dialect,
    pub(super) effort: &'s Effort<'s>,
}

impl Survey<'_> {
    /// Tells each line in order. `ending` has those that may end the scan for some, so far.
    pub(super) fn write(&self, answer: &mut WhoCan, ending: &mut Ending) {
        // Those that decide for all whom they are about, by their regular expression.
        let mut deciding: HashMap<Vec<u8>, RuleView<'_>> = HashMap::new();
        let mut reaches = Reaches::of((self.lines, self.of), self.dialect, self.effort);
        for (index, rule) in self.lines.rules.iter().copied().enumerate() {
            if self.effort.is_called_off() {
                return;
            }
            match rule.system_user() {
                SystemUserView::Literal(name) => {
                    self.write_name(index, rule, name, (&reaches, ending), answer);
                }
                SystemUserView::Pattern(pattern) => {
                    if let Some(earlier) = deciding.get(pattern).or_else(|| deciding.get(&b""[..]))
                    {
                        let earlier = LinePlace::of(*earlier);
                        self.write_never(rule, Some(earlier), WhyNever::LetsIn, answer);
                        continue;
                    }
                    self.write_pattern(index, rule, pattern, (&reaches, ending), answer);
                    if rule.may_fail() {
                        reaches.push(index, rule);
                        ending.push(LinePlace::of(rule));
                    } else if self.lines.gives(rule) == Gives::Role {
                        let all =
                            if is_everything(pattern) { Vec::new() } else { pattern.to_vec() };
                        deciding.insert(all, rule);
                    }
                }
            }
        }
        ending.all = ending.all.take().or_else(|| reaches.end_of_all());
    }

    /// A line with a name: what decides for that name is known to the end. Where case does not
    /// count it is many names, and regular expressions before it may decide for some of them.
    fn write_name(
        &self,
        index: usize,
        rule: RuleView<'_>,
        name: &[u8],
        (reaches, ending): (&Reaches<'_>, &Ending),
        answer: &mut WhoCan,
    ) {
        if !can_be(self.of, name) {
            return self.write_never(rule, None, WhyNever::AboutNobody, answer);
        }
        let is_one_name = self.lines.case() == Case::Sensitive;
        let counts = |step: usize| is_one_name || !self.lines.is_pattern(step);
        let is_decisive = |said: &Said| !matches!(said, Said::Unknown { .. });
        let decided = self
            .lines
            .all_said(name)
            .find(|(step, said)| *step == index || (is_decisive(said) && counts(*step)));
        let who = Who::Name(readable(name));
        // For one name nothing else counts; but who is in a group has a name too, and other groups.
        let nobody = Ending::default();
        let but_for = match (self.of, is_one_name) {
            (Of::Person, true) => &nobody,
            (Of::Person, false) | (Of::Group, _) => ending,
        };
        match decided {
            Some((step, said)) if step == index => {
                let group = match said {
                    Said::Unknown { group } => Some(readable(&group)),
                    _ => None,
                };
                let reach =
                    if is_one_name { Reach::Somebody } else { reaches.by_spellings(index, name) };
                self.write_reach(rule, reach, (who, group), (ending, but_for), answer);
            }
            Some((step, said)) => {
                let Some(earlier) = self.lines.rules.get(step).copied() else { return };
                let which = match said {
                    Said::Fails { .. } => WhyNever::EndsTheScan,
                    _ => WhyNever::LetsIn,
                };
                self.write_never(rule, Some(LinePlace::of(earlier)), which, answer);
            }
            None => {}
        }
    }

    fn write_pattern(
        &self,
        index: usize,
        rule: RuleView<'_>,
        pattern: &[u8],
        (reaches, ending): (&Reaches<'_>, &Ending),
        answer: &mut WhoCan,
    ) {
        if rule.may_fail() {
            list(&mut answer.ends, &mut answer.unlisted_lines, || {
                let who = Who::Pattern(readable(pattern));
                LineEnds { at: self.at(rule), who }
            });
        }
        let all = || {
            if is_everything(pattern) { Who::Everybody } else { Who::Pattern(readable(pattern)) }
        };
        let gives = self.lines.gives(rule);
        let capture = match &gives {
            Gives::ByCapture(capture) => Some(capture.clone()),
            _ => None,
        };
        let (who, group) = match gives {
            Gives::Nothing => return,
            Gives::Role => (all(), None),
            Gives::IfMemberOf(group) => (all(), Some(group)),
            Gives::ByCapture(capture) => {
                let (pattern, capture) = (readable(pattern), readable(&capture));
                (Who::Capture { pattern, capture }, None)
            }
        };
        let reach = reaches.by_pattern(index, rule, capture.as_deref());
        self.write_reach(rule, reach, (who, group), (ending, ending), answer);
    }

    /// Tells a line that gives the role, by who comes by it.
    fn write_reach(
        &self,
        rule: RuleView<'_>,
        reach: Reach,
        (who, if_member_of): (Who, Option<String>),
        (ending, but_for): (&Ending, &Ending),
        answer: &mut WhoCan,
    ) {
        let perhaps_nobody = match reach {
            Reach::OtherRoles => return,
            Reach::NoName => return self.write_never(rule, None, WhyNever::AboutNobody, answer),
            Reach::Decided(line, which) => {
                return self.write_never(rule, Some(line), which, answer);
            }
            Reach::Somebody => false,
            Reach::Unknown => true,
        };
        if let Some((line, which)) = ending.all.clone() {
            return self.write_never(rule, Some(line), which, answer);
        }
        list(&mut answer.lines, &mut answer.unlisted_lines, || {
            let Ending { lines, others, .. } = but_for;
            let (at, but_for, but_for_others) = (self.at(rule), lines.clone(), *others);
            let role_spelled = self.lines.role_spelled(rule);
            LineLetsIn {
                at,
                who,
                if_member_of,
                role_spelled,
                perhaps_nobody,
                but_for,
                but_for_others,
            }
        });
    }

    fn write_never(
        &self,
        rule: RuleView<'_>,
        because_of: Option<LinePlace>,
        which: WhyNever,
        answer: &mut WhoCan,
    ) {
        list(&mut answer.never, &mut answer.unlisted_lines, || LineNever {
            at: self.at(rule),
            because_of,
            which,
        });
    }

    fn at(&self, rule: RuleView<'_>) -> PlacedLine {
        PlacedLine {
            way: self.way.map(ToString::to_string),
            map: self.map.to_string(),
            of: self.of.into(),
            any_case: self.lines.case() == Case::Insensitive,
            line: MapLine::of(rule),
        }
    }
}

/// Lists one line more, as far as there is room among those of its kind. Each kind has room of its
/// own, so that no number of other lines hides that somebody is let in.
fn list<Line>(lines: &mut Vec<Line>, unlisted: &mut usize, line: impl FnOnce() -> Line) {
    if lines.len() < LISTED_MAX {
        lines.push(line());
    } else {
        *unlisted += 1;
    }
}

/// Whether every name matches, as far as that is plain to see.
fn is_everything(pattern: &[u8]) -> bool {
    let inner = pattern.strip_prefix(b"^").unwrap_or(pattern);
    let inner = inner.strip_suffix(b"$").unwrap_or(inner);
    // One anchor alone, or none, leaves room for anything on the other side.
    matches!(inner, b".*" | b"(.*)") || (inner.is_empty() && pattern.len() < 2)
}

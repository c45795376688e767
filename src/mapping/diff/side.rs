//! One map of one file, and what of it the other file does not have.

use std::collections::{HashMap, HashSet};

use super::{Effort, Grant};
use crate::mapping::line::{Line, Meaning, compared, lines};
use crate::mapping::{Case, Considered, IdentMap, SystemUserView};
use crate::names::MapName;

/// The lines of one map, in file order, each meaning once: a second line that says the same
/// decides nothing.
pub(super) struct Side<'a> {
    pub case: Case,
    effort: &'a Effort<'a>,
    lines: Vec<Line<'a>>,
    /// Of each line, how many lines before it can end the scan.
    failing_before: Vec<usize>,
    /// Lines that the other side does not have, or not behind the same that can end the scan.
    changed: HashSet<usize>,
    /// Those of them that have patterns.
    changed_patterns: Vec<usize>,
    /// Lines by the literal name that they are about, as it is compared.
    literals: HashMap<Vec<u8>, Vec<usize>>,
    patterns: Vec<usize>,
    /// Those of the patterns that can end the scan.
    failing: Vec<usize>,
    /// Those of them that can do so since a name is too much work for them.
    giving_up: HashSet<usize>,
    /// Those that give a role by its letters, as it is compared; and the others.
    of_role: HashMap<Vec<u8>, Vec<usize>>,
    of_more: Vec<usize>,
}

/// Both sides, which know of each other's lines.
pub(super) struct Pair<'a> {
    pub old: Side<'a>,
    pub new: Side<'a>,
}

impl<'a> Side<'a> {
    /// Names are of at most `longest` bytes.
    pub fn of(
        map: &'a IdentMap,
        name: &'a MapName,
        case: Case,
        longest: usize,
        effort: &'a Effort<'a>,
    ) -> Self {
        let mut side = Self {
            case,
            effort,
            lines: Vec::new(),
            failing_before: Vec::new(),
            changed: HashSet::new(),
            changed_patterns: Vec::new(),
            literals: HashMap::new(),
            patterns: Vec::new(),
            failing: Vec::new(),
            giving_up: HashSet::new(),
            of_role: HashMap::new(),
            of_more: Vec::new(),
        };
        let (mut known, mut giving_up) = (HashSet::new(), HashMap::new());
        for line in lines(map, name, effort).filter(|line| known.insert(line.meaning())) {
            let pattern = (line.system_user(), line.is_capturing());
            let gives_up = giving_up.entry(pattern).or_insert_with(|| line.may_give_up(longest));
            side.push(line, *gives_up);
        }
        side
    }

    fn push(&mut self, line: Line<'a>, gives_up: bool) {
        let index = self.lines.len();
        self.failing_before.push(self.failing.len());
        match line.system_user() {
            SystemUserView::Literal(name) => {
                self.literals.entry(compared(name, self.case)).or_default().push(index);
            }
            SystemUserView::Pattern(_) => self.patterns.push(index),
        }
        match line.grant() {
            _ if !line.is_pattern() => {}
            Grant::Role(role) => {
                self.of_role.entry(compared(&role, self.case)).or_default().push(index);
            }
            _ => self.of_more.push(index),
        }
        if line.can_fail() || gives_up {
            self.failing.push(index);
        }
        if gives_up {
            self.giving_up.insert(index);
        }
        self.lines.push(line.at(index));
    }

    fn at<'s>(&'s self, indices: &'s [usize]) -> impl Iterator<Item = &'s Line<'a>> {
        indices.iter().filter_map(|index| self.lines.get(*index))
    }

    fn named(&self, user: &[u8]) -> &[usize] {
        self.literals.get(&compared(user, self.case)).map_or(&[], Vec::as_slice)
    }

    /// The lines with patterns that the other side does not have.
    pub fn changed_patterns(&self) -> impl Iterator<Item = &Line<'a>> {
        self.at(&self.changed_patterns)
    }

    /// All lines with patterns.
    pub fn patterns(&self) -> impl Iterator<Item = &Line<'a>> {
        self.at(&self.patterns)
    }

    /// The lines that name somebody and that the other side does not have.
    pub fn changed_literals(&self) -> impl Iterator<Item = &Line<'a>> {
        let changed = self.lines.iter().filter(|line| self.changed.contains(&line.index));
        changed.filter(|line| !line.is_pattern())
    }

    /// The lines with patterns that could give what `grant` says.
    pub fn that_may_give(&self, grant: &Grant) -> impl Iterator<Item = &Line<'a>> {
        let named = match grant {
            Grant::Role(role) => self.of_role.get(&compared(role, self.case)),
            _ => None,
        };
        self.at(named.map_or(&[], Vec::as_slice)).chain(self.at(&self.of_more))
    }

    /// The lines that can end the scan before it comes to `line`.
    pub fn failing_before(&self, line: &Line<'a>) -> impl Iterator<Item = &Line<'a>> {
        let count = self.failing_before.get(line.index).copied().unwrap_or_default();
        self.at(&self.failing).take(count)
    }

    /// Whether a name may be too much work for the line.
    pub fn may_give_up(&self, line: &Line<'a>) -> bool {
        self.giving_up.contains(&line.index)
    }

    /// The names that lines name by their letters.
    pub fn literal_names(&self) -> impl Iterator<Item = &'a [u8]> {
        self.lines.iter().filter_map(|line| match line.system_user() {
            SystemUserView::Literal(name) => Some(name),
            SystemUserView::Pattern(_) => None,
        })
    }

    /// The lines that are about a user, in file order, up to the first that ends the scan; that
    /// one is left out. With what each gives, `\1` filled in. They are not all when the effort is
    /// spent.
    pub fn about(&self, user: &[u8]) -> Vec<(&Line<'a>, Grant)> {
        let patterns = self.at(&self.patterns).filter(|line| self.may_match(line, user));
        let mut lines: Vec<_> = self.at(self.named(user)).chain(patterns).collect();
        lines.sort_unstable_by_key(|line| line.index);
        let lines = lines.into_iter().take_while(|_| !self.effort.is_spent());
        let given = lines.map(|line| (line, line.given_to(self.case, user)));
        let until_end = given.map_while(|(line, given)| Some((line, given.ok()?)));
        until_end.filter_map(|(line, given)| Some((line, given?))).collect()
    }

    /// Quicker to ask than the pattern: what each of its names begins with.
    fn may_match(&self, line: &Line<'a>, user: &[u8]) -> bool {
        self.effort.pay(1) && user.starts_with(line.prefix())
    }

    /// Whether a line is about the user that the other side does not have. There may be one when
    /// the effort is spent.
    fn has_changed_line_about(&self, user: &[u8]) -> bool {
        let named = self.at(self.named(user)).filter(|line| self.changed.contains(&line.index));
        let patterns = self.changed_patterns().filter(|line| self.may_match(line, user));
        let mut changed = named.chain(patterns);
        changed.any(|line| line.consider(self.case, user, b"") != Considered::OtherUser)
            || self.effort.is_spent()
    }

    /// Each meaning, and how many lines before it can end the scan.
    fn places(&self) -> HashMap<Meaning<'a>, usize> {
        let places = self.lines.iter().zip(&self.failing_before);
        places.map(|(line, failing)| (line.meaning(), *failing)).collect()
    }
}

impl<'a> Pair<'a> {
    pub fn new(mut old: Side<'a>, mut new: Side<'a>) -> Self {
        let equal = equal_beginnings(&old, &new);
        let (of_old, of_new) = (old.places(), new.places());
        for (side, ours, others) in [(&mut old, &of_old, &of_new), (&mut new, &of_new, &of_old)] {
            let is_changed = |line: &&Line<'a>| {
                let place = ours.get(&line.meaning());
                let is_behind_the_same =
                    place.and_then(|failing| equal.get(*failing)).is_some_and(|equal| *equal);
                place != others.get(&line.meaning()) || !is_behind_the_same
            };
            let changed: Vec<&Line<'a>> = side.lines.iter().filter(is_changed).collect();
            let patterns = changed.iter().filter(|line| line.is_pattern());
            side.changed_patterns = patterns.map(|line| line.index).collect();
            side.changed = changed.iter().map(|line| line.index).collect();
        }
        Self { old, new }
    }

    /// Whether the two could decide differently about the user: what both have decides the same.
    pub fn may_differ(&self, user: &[u8]) -> bool {
        self.old.has_changed_line_about(user) || self.new.has_changed_line_about(user)
    }
}

/// Whether the first so many lines that can fail are the same on both sides, in any order: for
/// none, one, two …
fn equal_beginnings(old: &Side<'_>, new: &Side<'_>) -> Vec<bool> {
    let mut unmatched: HashSet<Meaning<'_>> = HashSet::new();
    let mut equal = vec![true];
    for (one, other) in old.at(&old.failing).zip(new.at(&new.failing)) {
        for meaning in [one.meaning(), other.meaning()] {
            // Each side has each meaning once, so the second time it is the other side's.
            if !unmatched.remove(&meaning) {
                unmatched.insert(meaning);
            }
        }
        equal.push(unmatched.is_empty());
    }
    equal
}

//! What a pattern is like: for comparing maps and for telling what is probably not meant.

use super::super::Dialect;
use super::read;
use super::tree::{Direction, Look, Node, Place, Prefers, Sequence};
use crate::mapping::automaton::Part;
use crate::mapping::bytes::ByteSet;

/// What a pattern is like.
#[derive(Debug)]
pub(crate) struct PatternFacts {
    /// Which names match, as an automaton is made of it; nothing when none can be.
    pub names: Option<Part>,
    /// The names that would match if whatever looks about itself did not: all that match are among
    /// them.
    pub loose: Part,
    /// What a name that matches most likely is too: it holds, or does not hold, what is looked for.
    pub looks: Vec<Looked>,
    /// The same as `names` with a mark before and after what `\1` holds, when that can be said of a pattern that
    /// is held at both ends: every way to match, whichever of them is taken.
    pub marked: Option<Part>,
    /// The same of the names that match from beginning to end, of a pattern that need not be held
    /// but prefers the longest match: of those names it takes the whole.
    pub whole: Option<Part>,
    /// The names with a mark where `\1` ends and one before that, where it could have ended too: when
    /// the pattern begins with `\1`, and that takes as much as it can.
    pub shorter: Option<Part>,
    /// Whether a match gives `\1` something.
    pub group_1: Group1,
    /// Whether a match begins where the name does, or the pattern says itself what may come before.
    pub begins: bool,
    /// Whether a match ends where the name does, or the pattern says itself what may come after.
    pub ends: bool,
    /// Whether a single dot stands between two letters or digits, where most likely a dot is meant.
    pub loose_dot: bool,
}

/// What a look-around makes of a name.
#[derive(Debug)]
pub(crate) struct Looked {
    /// Whether it must be there, or must not.
    pub wanted: bool,
    /// The names in which it is.
    pub names: Part,
}

/// Whether a match gives `\1` something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Group1 {
    /// Each does.
    Always,
    /// Some may not.
    Sometimes,
    /// There is no group.
    Never,
}

impl PatternFacts {
    /// Nothing when the pattern cannot be read.
    pub(crate) fn of(pattern: &[u8], dialect: Dialect) -> Option<Self> {
        let branches = read::read(pattern, dialect).ok()?;
        let group_1 = group_1_of_branches(&branches);
        let captures = group_1 == Group1::Always;
        let marked = held(&branches).filter(|_| captures).and_then(marked_row);
        let whole = whole(&branches).filter(|_| captures);
        Some(Self {
            names: any_of(&branches).map(Part::anywhere),
            loose: loose_branches(&branches).anywhere(),
            looks: looks(&branches),
            marked,
            shorter: whole.and_then(shorter),
            whole: whole.and_then(marked_row),
            group_1,
            begins: branches.iter().all(|branch| is_held(branch.first(), Place::Begin)),
            ends: branches.iter().all(|branch| is_held(branch.last(), Place::End)),
            loose_dot: branches.iter().any(|branch| has_loose_dot(branch)),
        })
    }
}

fn any_of(branches: &[Sequence]) -> Option<Part> {
    let row = |branch: &Sequence| branch.iter().map(part).collect::<Option<_>>().map(Part::Row);
    branches.iter().map(row).collect::<Option<_>>().map(Part::Branches)
}

/// Nothing for what asks about bytes beside the place where it stands.
fn part(node: &Node) -> Option<Part> {
    match node {
        Node::Byte(set) => Some(Part::Byte(*set)),
        Node::Place(Place::Begin) => Some(Part::Begin),
        Node::Place(Place::End) => Some(Part::End),
        Node::Place(_) | Node::Look(_) => None,
        Node::Group { branches, .. } => any_of(branches),
        Node::Repeat { node, min, max, .. } => {
            let part = Box::new(part(node)?);
            Some(Part::Repeat { part, min: *min, max: *max })
        }
    }
}

/// The same without what asks about bytes beside the place where it stands.
fn loose(node: &Node) -> Part {
    match node {
        Node::Byte(set) => Part::Byte(*set),
        Node::Place(Place::Begin) => Part::Begin,
        Node::Place(Place::End) => Part::End,
        Node::Place(_) | Node::Look(_) => Part::Row(Vec::new()),
        Node::Group { branches, .. } => loose_branches(branches),
        Node::Repeat { node, min, max, .. } => {
            Part::Repeat { part: Box::new(loose(node)), min: *min, max: *max }
        }
    }
}

fn loose_row(row: &[Node]) -> Part {
    Part::Row(row.iter().map(loose).collect())
}

fn loose_branches(branches: &[Sequence]) -> Part {
    Part::Branches(branches.iter().map(|branch| loose_row(branch)).collect())
}

/// The look-arounds of a pattern without branches that stand in no part of it.
fn looks(branches: &[Sequence]) -> Vec<Looked> {
    let [branch] = branches else { return Vec::new() };
    let looked = |(at, node): (usize, &Node)| {
        let Node::Look(Look { direction, wanted, branches }) = node else { return None };
        let (before, from) = branch.split_at_checked(at)?;
        let seen = loose_branches(branches);
        let row = match direction {
            Direction::Ahead => vec![loose_row(before), seen],
            Direction::Behind => vec![seen, loose_row(from)],
        };
        Some(Looked { wanted: *wanted, names: Part::Row(row).anywhere() })
    };
    branch.iter().enumerate().filter_map(looked).collect()
}

/// What stands between `^` and `$`.
fn held(branches: &[Sequence]) -> Option<&[Node]> {
    match branches {
        [branch] => match branch.as_slice() {
            [Node::Place(Place::Begin), held @ .., Node::Place(Place::End)] => Some(held),
            _ => None,
        },
        _ => None,
    }
}

/// What stands between `^` and `$`, which may be left out where the longest match is preferred.
fn whole(branches: &[Sequence]) -> Option<&[Node]> {
    if let Some(held) = held(branches) {
        return Some(held);
    }
    let [branch] = branches else { return None };
    let mut row = branch.as_slice();
    if let [Node::Place(Place::Begin), rest @ ..] = row {
        row = rest;
    }
    if let [rest @ .., Node::Place(Place::End)] = row {
        row = rest;
    }
    (!row.iter().any(prefers_shorter)).then_some(row)
}

/// Whether a part of it takes as little as it can.
fn prefers_shorter(node: &Node) -> bool {
    match node {
        Node::Byte(_) | Node::Place(_) | Node::Look(_) => false,
        Node::Group { branches, .. } => branches.iter().flatten().any(prefers_shorter),
        Node::Repeat { node, prefers, .. } => {
            *prefers == Some(Prefers::Shorter) || prefers_shorter(node)
        }
    }
}

/// `(.*)@T` as a mark, anything, a mark, more of the same, and `@T`.
fn shorter(row: &[Node]) -> Option<Part> {
    let [Node::Group { capture: Some(1), branches }, rest @ ..] = row else { return None };
    let [branch] = branches.as_slice() else { return None };
    let [Node::Repeat { node, max: None, prefers: Some(Prefers::Longer), .. }] = branch.as_slice()
    else {
        return None;
    };
    let Node::Byte(_) = **node else { return None };
    let times = |min| Some(Part::Repeat { part: Box::new(part(node)?), min, max: None });
    // At least these: that it is taken so many times may be met by both together.
    Some(Part::Row(vec![Part::Mark, times(0)?, Part::Mark, times(1)?, marked_row(rest)?]))
}

fn marked_row(row: &[Node]) -> Option<Part> {
    row.iter().map(marked).collect::<Option<_>>().map(Part::Row)
}

fn marked(node: &Node) -> Option<Part> {
    let any_of = |branches: &[Sequence]| {
        let rows = branches.iter().map(|branch| marked_row(branch));
        rows.collect::<Option<_>>().map(Part::Branches)
    };
    match node {
        Node::Byte(_) => part(node),
        Node::Place(_) | Node::Look(_) => None,
        Node::Group { capture: Some(1), branches } => {
            Some(Part::Row(vec![Part::Mark, any_of(branches)?, Part::Mark]))
        }
        Node::Group { branches, .. } => any_of(branches),
        // Of a group that is repeated only the last time counts.
        Node::Repeat { node, .. } if group_1(node) != Group1::Never => None,
        Node::Repeat { node, min, max, .. } => {
            let part = Box::new(marked(node)?);
            Some(Part::Repeat { part, min: *min, max: *max })
        }
    }
}

fn group_1(node: &Node) -> Group1 {
    match node {
        Node::Byte(_) | Node::Place(_) | Node::Look(_) => Group1::Never,
        Node::Group { capture: Some(1), .. } => Group1::Always,
        Node::Group { branches, .. } => group_1_of_branches(branches),
        Node::Repeat { node, min, .. } => match group_1(node) {
            Group1::Always if *min == 0 => Group1::Sometimes,
            found => found,
        },
    }
}

/// A group has its number once, so at most one part of a row holds it.
pub(super) fn group_1_of_branches(branches: &[Sequence]) -> Group1 {
    let in_row = |row: &Sequence| {
        row.iter().map(group_1).find(|found| *found != Group1::Never).unwrap_or(Group1::Never)
    };
    let mut found = branches.iter().map(in_row);
    let first = found.next().unwrap_or(Group1::Never);
    found.fold(first, |sum, next| if sum == next { sum } else { Group1::Sometimes })
}

/// Whether the part at one end of a branch holds a match at that end of the name, or says with
/// `.*` or `.+` that anything may stand there.
fn is_held(outermost: Option<&Node>, end: Place) -> bool {
    match outermost {
        Some(Node::Place(place)) => *place == end,
        Some(Node::Group { branches, .. }) => branches.iter().all(|branch| {
            let outermost = if end == Place::Begin { branch.first() } else { branch.last() };
            is_held(outermost, end)
        }),
        Some(Node::Repeat { node, max: None, .. }) => {
            matches!(**node, Node::Byte(set) if is_dot(set))
        }
        _ => false,
    }
}

fn is_dot(set: ByteSet) -> bool {
    set == ByteSet::ALL || set == ByteSet::ALL.without(b'\n')
}

/// `a.b`, with nothing behind the dot that repeats it.
fn has_loose_dot(row: &[Node]) -> bool {
    let is_letter = |node: &Node| match node {
        Node::Byte(set) => {
            let held: Vec<u8> = (0..=255).filter(|byte| set.has(*byte)).collect();
            // Two where the case is left out.
            (1..=2).contains(&held.len()) && held.iter().all(u8::is_ascii_alphanumeric)
        }
        _ => false,
    };
    let here = row.windows(3).any(|three| match three {
        [before, Node::Byte(set), after] => is_dot(*set) && is_letter(before) && is_letter(after),
        _ => false,
    });
    here || row.iter().any(|node| match node {
        Node::Byte(_) | Node::Place(_) | Node::Look(_) => false,
        Node::Group { branches, .. } => branches.iter().any(|branch| has_loose_dot(branch)),
        Node::Repeat { node, .. } => has_loose_dot(std::slice::from_ref(node)),
    })
}

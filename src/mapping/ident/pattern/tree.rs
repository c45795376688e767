//! What a pattern says, as a tree; and the same in the syntax of the `regex` crate, for the
//! question that has one answer in every engine: does it match at all?

use std::fmt::Write;

use crate::mapping::bytes::ByteSet;

/// Parts one after another.
pub(super) type Sequence = Vec<Node>;

/// One part of a pattern.
#[derive(Debug)]
pub(super) enum Node {
    /// One byte of a set.
    Byte(ByteSet),
    /// A place, and no bytes.
    Place(Place),
    /// A place where something else matches, or does not.
    Look(Look),
    /// Branches in parentheses.
    Group { capture: Option<u32>, branches: Vec<Sequence> },
    /// A part some number of times; no `max` is no bound.
    Repeat { node: Box<Node>, min: u32, max: Option<u32>, prefers: Option<Prefers> },
}

/// Constraints that ask for the bytes before and after them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// `^` and `\A`.
    Begin,
    /// `$` and `\Z`.
    End,
    /// `^` in newline-sensitive matching.
    LineBegin,
    /// `$` in newline-sensitive matching.
    LineEnd,
    /// `\m` and `[[:<:]]`.
    WordBegin,
    /// `\M` and `[[:>:]]`.
    WordEnd,
    /// `\y`.
    WordBorder,
    /// `\Y`.
    NoWordBorder,
}

/// Look-ahead and look-behind.
#[derive(Debug)]
pub(super) struct Look {
    pub direction: Direction,
    /// Whether there must be a match, or there must be none.
    pub wanted: bool,
    pub branches: Vec<Sequence>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    Ahead,
    Behind,
}

/// Which length a quantifier prefers. `{m}` prefers none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Prefers {
    Longer,
    Shorter,
}

impl Node {
    /// How many bytes the part stands for once its bounds are written out, a look-around and a
    /// place counting as one more.
    pub fn steps(&self) -> usize {
        match self {
            Self::Byte(_) | Self::Place(_) => 1,
            Self::Look(look) => steps(&look.branches).saturating_add(1),
            Self::Group { branches, .. } => steps(branches),
            Self::Repeat { node, min, max, .. } => {
                let times = max.unwrap_or(min.saturating_add(1)).max(1);
                node.steps().saturating_mul(times as usize)
            }
        }
    }

    /// How many constraints stand in parts that are repeated, their bounds written out.
    /// PostgreSQL follows every order in which they could be met.
    pub fn constraints_in_loops(&self, looped: bool) -> usize {
        let within = |branches: &[Sequence], looped| {
            let nodes = branches.iter().flatten();
            nodes.fold(0, |sum: usize, node| sum.saturating_add(node.constraints_in_loops(looped)))
        };
        match self {
            Self::Byte(_) => 0,
            Self::Place(Place::WordBorder | Place::NoWordBorder) => 2 * usize::from(looped),
            Self::Place(_) => usize::from(looped),
            Self::Look(look) => within(&look.branches, looped).saturating_add(usize::from(looped)),
            Self::Group { branches, .. } => within(branches, looped),
            Self::Repeat { node, min, max, .. } => {
                let times = max.unwrap_or(min.saturating_add(2));
                let inside = node.constraints_in_loops(looped || times > 1);
                inside.saturating_mul(times as usize)
            }
        }
    }

    /// The byte of a part that is one byte and no other.
    pub fn literal(&self) -> Option<u8> {
        match self {
            Self::Byte(set) => set.only(),
            _ => None,
        }
    }

    /// Writes the part in the syntax of the `regex` crate, without captures. Gives back whether
    /// that crate can say it: it has no look-around.
    fn write(&self, out: &mut String) -> bool {
        match self {
            Self::Byte(set) => set.write(out),
            Self::Place(place) => out.push_str(place.written()),
            Self::Look(_) => return false,
            Self::Group { branches, .. } => {
                out.push_str("(?:");
                let known = write(branches, out);
                out.push(')');
                return known;
            }
            Self::Repeat { node, min, max, .. } => {
                out.push_str("(?:");
                let known = node.write(out);
                // Writing to a String cannot fail.
                let _ = match max {
                    Some(max) => write!(out, "){{{min},{max}}}"),
                    None => write!(out, "){{{min},}}"),
                };
                return known;
            }
        }
        true
    }
}

impl Place {
    /// The same in the syntax of the `regex` crate, which knows bytes and ASCII words here.
    fn written(self) -> &'static str {
        match self {
            Self::Begin => r"\A",
            Self::End => r"\z",
            Self::LineBegin => "(?m:^)",
            Self::LineEnd => "(?m:$)",
            Self::WordBegin => r"\b{start}",
            Self::WordEnd => r"\b{end}",
            Self::WordBorder => r"\b",
            Self::NoWordBorder => r"\B",
        }
    }
}

/// How many bytes the branches stand for; see [`Node::steps`].
pub(super) fn steps(branches: &[Sequence]) -> usize {
    branches.iter().flatten().fold(0, |sum: usize, node| sum.saturating_add(node.steps()))
}

/// Writes branches in the syntax of the `regex` crate; whether that crate can say them.
pub(super) fn write(branches: &[Sequence], out: &mut String) -> bool {
    let mut known = true;
    for (index, branch) in branches.iter().enumerate() {
        if index > 0 {
            out.push('|');
        }
        for node in branch {
            known &= node.write(out);
        }
    }
    known
}

/// Runs of letters that every match holds, in lower case: in a match they may be in either case.
pub(super) fn needles(branches: &[Sequence]) -> Vec<Box<[u8]>> {
    let mut runs = vec![Vec::new()];
    if let [branch] = branches {
        add_runs(branch, &mut runs);
    }
    runs.into_iter().filter(|run| !run.is_empty()).map(Vec::into_boxed_slice).collect()
}

/// The last run is the one that goes on.
fn add_runs(sequence: &[Node], runs: &mut Vec<Vec<u8>>) {
    for node in sequence {
        match node {
            // These take no bytes between those before and after them.
            Node::Place(_) | Node::Look(_) => {}
            Node::Byte(set) => match (set.letter(), runs.last_mut()) {
                (Some(letter), Some(run)) => run.push(letter),
                _ => runs.push(Vec::new()),
            },
            Node::Group { branches, .. } => match branches.as_slice() {
                [only] => add_runs(only, runs),
                _ => runs.push(Vec::new()),
            },
            Node::Repeat { .. } => runs.push(Vec::new()),
        }
    }
}

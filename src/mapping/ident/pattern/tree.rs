//! A pattern as a tree, and what can be said of the lengths of its parts.

use std::fmt::Write;

use super::bytes::ByteSet;

/// Parts that follow one another.
pub(super) type Sequence = Vec<Node>;

/// One part of a pattern.
pub(super) struct Node {
    /// Where it begins in the pattern.
    pub at: usize,
    pub kind: Kind,
}

pub(super) enum Kind {
    /// One byte of a set.
    Byte(ByteSet),
    /// `(…)` or `(?:…)`: one branch, or several with `|` between. No branch is empty.
    Group { capture: Option<u32>, branches: Vec<Sequence> },
    /// `*`, `+`, `?` or `{m,n}`, greedy. `max` of `None` is no bound.
    Repeat { node: Box<Node>, min: u32, max: Option<u32> },
}

/// How a part can vary in length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Width {
    /// Always this many bytes.
    Fixed(usize),
    /// One byte at a time, so that any length between two possible ones is possible.
    Bytewise,
    /// Several bytes at a time, all of one length.
    Blockwise,
    /// Branches of different lengths, of which no two can match at the same place.
    OneOf,
    /// Anything else.
    Free,
}

impl Node {
    /// Bytes that the part stands for once its bounds are written out.
    pub fn steps(&self) -> usize {
        match &self.kind {
            Kind::Byte(_) => 1,
            Kind::Group { branches, .. } => {
                branches.iter().flatten().fold(0, |sum, node| sum.saturating_add(node.steps()))
            }
            Kind::Repeat { node, min, max } => {
                let times = max.unwrap_or(min.saturating_add(1)).max(1);
                node.steps().saturating_mul(times as usize)
            }
        }
    }

    /// Whether capture group 1 is this part or within it.
    pub fn holds_group_1(&self) -> bool {
        match &self.kind {
            Kind::Byte(_) => false,
            Kind::Group { capture: Some(1), .. } => true,
            Kind::Group { branches, .. } => branches.iter().flatten().any(Self::holds_group_1),
            Kind::Repeat { node, .. } => node.holds_group_1(),
        }
    }

    pub fn width(&self) -> Width {
        match &self.kind {
            Kind::Byte(_) => Width::Fixed(1),
            Kind::Group { branches, .. } => match branches.as_slice() {
                [only] => width_of(only),
                several => width_of_branches(several),
            },
            Kind::Repeat { node, min, max } => match (node.width(), *max == Some(*min)) {
                (Width::Fixed(bytes), true) => Width::Fixed(bytes.saturating_mul(*min as usize)),
                (Width::Fixed(1), false) => Width::Bytewise,
                (Width::Fixed(_), false) => Width::Blockwise,
                _ => Width::Free,
            },
        }
    }

    /// Writes the part in the syntax of the `regex` crate. Only group 1 captures.
    pub fn write(&self, out: &mut String) {
        match &self.kind {
            Kind::Byte(set) => set.write(out),
            Kind::Group { capture, branches } => {
                out.push_str(if *capture == Some(1) { "(" } else { "(?:" });
                for (index, branch) in branches.iter().enumerate() {
                    if index > 0 {
                        out.push('|');
                    }
                    for node in branch {
                        node.write(out);
                    }
                }
                out.push(')');
            }
            Kind::Repeat { node, min, max } => {
                out.push_str("(?:");
                node.write(out);
                // Writing to a String cannot fail.
                let _ = match max {
                    Some(max) => write!(out, "){{{min},{max}}}"),
                    None => write!(out, "){{{min},}}"),
                };
            }
        }
    }

    /// The sets of a part that is a fixed row of bytes, without alternation.
    fn row(&self) -> Option<Vec<ByteSet>> {
        match &self.kind {
            Kind::Byte(set) => Some(vec![*set]),
            Kind::Group { branches, .. } => match branches.as_slice() {
                [only] => row_of(only),
                _ => None,
            },
            Kind::Repeat { node, min, max } if *max == Some(*min) => {
                Some(node.row()?.repeat(*min as usize))
            }
            Kind::Repeat { .. } => None,
        }
    }
}

fn row_of(sequence: &[Node]) -> Option<Vec<ByteSet>> {
    let rows: Option<Vec<_>> = sequence.iter().map(Node::row).collect();
    rows.map(|rows| rows.concat())
}

/// Width of a whole sequence, or [`Width::Free`] when it is a mixture.
pub(super) fn width_of(sequence: &[Node]) -> Width {
    match sequence {
        [only] => only.width(),
        several => {
            several.iter().map(Node::width).fold(Width::Fixed(0), |sum, width| match (sum, width) {
                (Width::Fixed(sum), Width::Fixed(bytes)) => Width::Fixed(sum.saturating_add(bytes)),
                _ => Width::Free,
            })
        }
    }
}

/// Width of an alternation. Branches that can match at the same place are all of one length, or
/// the whole is [`Width::Free`].
pub(super) fn width_of_branches(branches: &[Sequence]) -> Width {
    let lengths: Option<Vec<_>> = branches
        .iter()
        .map(|branch| match width_of(branch) {
            Width::Fixed(bytes) => Some(bytes),
            _ => None,
        })
        .collect();
    let Some(lengths) = lengths else { return Width::Free };
    let first = lengths.first().copied().unwrap_or(0);
    if lengths.iter().all(|length| *length == first) {
        return Width::Fixed(first);
    }
    let rows: Option<Vec<_>> = branches.iter().map(|branch| row_of(branch)).collect();
    match rows {
        Some(rows) if are_separate(&rows) => Width::OneOf,
        _ => Width::Free,
    }
}

/// Whether any two rows of different length differ at a place that both have.
fn are_separate(rows: &[Vec<ByteSet>]) -> bool {
    let differ = |one: &[ByteSet], other: &[ByteSet]| {
        one.iter().zip(other).any(|(here, there)| here.is_disjoint(*there))
    };
    rows.iter().enumerate().all(|(index, one)| {
        let later = rows.iter().skip(index + 1);
        later.into_iter().all(|other| one.len() == other.len() || differ(one, other))
    })
}

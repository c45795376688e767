//! Which patterns give `\1` the same bytes here as in PostgreSQL.
//!
//! Whether a name matches is a question about a regular language and has one answer. What group 1
//! holds has several, and the engines choose differently:
//!
//! - PostgreSQL fixes lengths from the outside in. A branch falls into units, runs of parts with
//!   and without groups, and each unit in turn takes the most bytes *as a whole* that let the rest
//!   match. Which parts make a unit differs by release.
//! - `regex` fixes lengths from left to right: each part, not each unit, takes the most.
//!
//! So `^(.?(?:abc|b))(.*)$` captures `abc` of `abcd` in PostgreSQL and `ab` in `regex`. The two
//! agree where the leftmost choice of parts also gives the longest unit, wherever its borders are.
//! That is so for parts of fixed length and parts that repeat one byte: follow the longest way
//! through such a unit and the leftmost way side by side. After they part, the leftmost is never
//! ahead in the pattern; if it ended early it would have to overtake the other, and where it does
//! it could have followed the other from there, taking more. It is also so for one part that
//! repeats a longer block, while nothing else in the unit varies. Branches of different lengths
//! are harmless where at most one can match, at a place that is fixed.
//!
//! Only the units up to the end of group 1 count. What follows it decides whether a name matches,
//! not what the group holds.

use super::super::mistake::Flaw;
use super::tree::{Kind, Node, Sequence, Width, width_of_branches};

/// Checks that group 1 of the pattern holds the same here as in PostgreSQL.
pub(super) fn check(pattern: &[Node]) -> Result<(), Flaw> {
    let Some(place) = pattern.iter().position(Node::holds_group_1) else {
        return Ok(());
    };
    let (before, from) = pattern.split_at(place);
    is_decided(before)?;
    match from.first() {
        Some(Node { kind: Kind::Group { capture, branches }, at }) => {
            check_group(*at, *capture, branches)
        }
        Some(Node { at, .. }) => Err(Flaw::new(
            *at,
            "`\\1` takes its text from a group that is repeated",
            "repeat within the group, `((?:…)*)`, or end the repetition before it",
        )),
        None => Ok(()),
    }
}

fn check_group(at: usize, capture: Option<u32>, branches: &[Sequence]) -> Result<(), Flaw> {
    match (branches, capture) {
        ([only], Some(1)) => is_decided(only),
        // A group around group 1 takes its length as a whole first.
        ([only], _) => is_decided(only).and_then(|()| check(only)),
        (several, Some(1)) => match width_of_branches(several) {
            Width::Fixed(_) | Width::OneOf => Ok(()),
            _ => Err(ambiguous(at)),
        },
        (_, _) => Err(Flaw::new(
            at,
            "`\\1` takes its text from a group in one branch of an alternation",
            "write one line of the map for each branch",
        )),
    }
}

/// Checks that the leftmost choice of lengths is the longest for the unit as a whole.
fn is_decided(unit: &[Node]) -> Result<(), Flaw> {
    let mut before = Before::Fixed;
    for part in flat(unit) {
        before = match (part.width(), before) {
            (Width::Fixed(_), _) | (Width::OneOf, Before::Fixed) => before,
            (Width::Bytewise, Before::Fixed | Before::Bytewise) => Before::Bytewise,
            (Width::Blockwise, Before::Fixed) => Before::Blockwise,
            (Width::Bytewise, Before::Blockwise)
            | (Width::Blockwise, Before::Bytewise | Before::Blockwise) => {
                return Err(Flaw::new(
                    part.at,
                    "a repeated group of several bytes stands beside another part of variable \
                         length, \
                     up to the end of group 1; PostgreSQL would choose the longest whole, and \
                     this is not evaluated here",
                    "repeat one character or a bracket expression, such as `[a-z.]+`, instead \
                         of a group",
                ));
            }
            (Width::OneOf | Width::Free, _) => return Err(ambiguous(part.at)),
        };
    }
    Ok(())
}

/// What the parts of a unit that were passed leave open.
#[derive(Clone, Copy)]
enum Before {
    /// Nothing: the next part begins at one place only.
    Fixed,
    /// Lengths that vary byte by byte.
    Bytewise,
    /// The length of one repeated block.
    Blockwise,
}

/// The parts of a unit, with those of groups of one branch in their place.
fn flat(unit: &[Node]) -> Vec<&Node> {
    let mut parts = Vec::new();
    for node in unit {
        match &node.kind {
            Kind::Group { branches, .. } if branches.len() == 1 => {
                parts.extend(branches.iter().flat_map(|branch| flat(branch)));
            }
            _ => parts.push(node),
        }
    }
    parts
}

fn ambiguous(at: usize) -> Flaw {
    Flaw::new(
        at,
        "several lengths of this part can match at the same place, up to the end of group 1; \
         PostgreSQL would choose the longest whole, and this is not evaluated here",
        "write branches of equal length, or literals of which none begins another, \
         or one line of the map for each branch",
    )
}

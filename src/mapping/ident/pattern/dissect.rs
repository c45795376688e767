//! What group 1 holds, by PostgreSQL's way of taking a match to pieces.
//!
//! That a name matches is a question with one answer; what a group of it holds has several, and
//! PostgreSQL's is neither the one of POSIX nor the one of Perl (`regcomp.c`, `regexec.c`):
//!
//! - The whole match begins as early as it can. It ends as late as it can, or as early, by the
//!   preference of the whole: that of the first part that has one.
//! - A branch is one piece for as long as nothing in it captures and no two quantifiers in it
//!   disagree. There it is cut in two, and the rest of it again.
//! - Of two pieces one after another the first takes the most bytes, or the fewest, that let the
//!   second match the rest. Of an alternation the first branch that matches the whole piece is
//!   taken. Of a repeated group the last time counts.
//!
//! So lengths are fixed from the outside in, and never by what a piece holds. The pieces are the
//! same in all majors from 13 to 18 but for one corner ([`Planner::tail`]).

use std::collections::HashSet;

use super::super::Dialect;
use super::Match;
use super::language::{Language, Part, Places, Reading, TooMuch};
use super::tree::{Node, Prefers, Sequence};
use super::work::NamesUpTo;

/// How a pattern is taken to pieces to find group 1.
#[derive(Debug)]
pub(super) struct Plan {
    language: Language,
    whole: Piece,
}

#[derive(Debug)]
struct Piece {
    part: Part,
    manner: Manner,
    /// The piece is group 1.
    is_group_1: bool,
    inside: Inside,
}

/// What group 1 needs to be looked for in.
#[derive(Debug)]
enum Inside {
    /// Group 1 is not in here.
    Nothing,
    Two(Box<[Piece; 2]>),
    AnyOf(Vec<Piece>),
    /// From none to `max` times.
    Repeat {
        piece: Box<Piece>,
        max: Option<u32>,
    },
}

/// What a piece hands on to the one around it (the flags of `struct subre`).
#[derive(Clone, Copy, Default, Debug)]
struct Manner {
    prefers: Option<Prefers>,
    /// Preferences that disagree are within.
    mixed: bool,
    /// A group that captures is within, or is the piece.
    captures: bool,
}

/// Bytes of the name, from and to.
type Span = (usize, usize);

impl Manner {
    fn preferring(prefers: Option<Prefers>) -> Self {
        Self { prefers, ..Self::default() }
    }

    /// Of two pieces one after another: the first that prefers anything decides.
    fn and(self, other: Self) -> Self {
        let disagree = match (self.prefers, other.prefers) {
            (Some(one), Some(other)) => one != other,
            _ => false,
        };
        Self {
            prefers: self.prefers.or(other.prefers),
            mixed: self.mixed || other.mixed || disagree,
            captures: self.captures || other.captures,
        }
    }

    /// Whether a piece has to be cut.
    fn is_messy(self) -> bool {
        self.mixed || self.captures
    }
}

impl Piece {
    fn plain(part: Part, manner: Manner) -> Self {
        Self { part, manner, is_group_1: false, inside: Inside::Nothing }
    }

    fn holds_group_1(&self) -> bool {
        self.is_group_1 || !matches!(self.inside, Inside::Nothing)
    }

    /// The piece with what is inside, if group 1 is.
    fn with(part: Part, manner: Manner, inside: Inside) -> Self {
        let holds = match &inside {
            Inside::Nothing => false,
            Inside::Two(two) => two.iter().any(Self::holds_group_1),
            Inside::AnyOf(pieces) => pieces.iter().any(Self::holds_group_1),
            Inside::Repeat { piece, .. } => piece.holds_group_1(),
        };
        let inside = if holds { inside } else { Inside::Nothing };
        Self { part, manner, is_group_1: false, inside }
    }
}

impl Piece {
    /// Of the places from `low` to `high`, the one that the piece prefers to end at.
    fn first_choice(&self, ends: &Places, low: usize, high: usize) -> Option<usize> {
        match self.manner.prefers {
            Some(Prefers::Shorter) => ends.first_from(low).filter(|place| *place <= high),
            _ => ends.last_to(high).filter(|place| *place >= low),
        }
    }

    /// The most work that it can be to cut the piece, once it is known where its parts can end: only
    /// the ways through what is repeated are counted ([`last_time`]), each place and number of times
    /// once.
    fn most_work(&self, language: &Language, names: NamesUpTo) -> usize {
        match &self.inside {
            Inside::Nothing => 0,
            Inside::Two(two) => two.iter().map(|piece| piece.most_work(language, names)).sum(),
            Inside::AnyOf(pieces) => {
                pieces.iter().map(|piece| piece.most_work(language, names)).sum()
            }
            Inside::Repeat { piece, max } => {
                let times = max.map_or(1, |max| names.places().min(max as usize + 1));
                let tried = names.places() * times * (language.most_ends(piece.part, names) + 1);
                piece.most_work(language, names).saturating_add(tried * names.step())
            }
        }
    }

    /// The one that it prefers after `choice`.
    fn choice_after(&self, ends: &Places, choice: usize, (low, high): Span) -> Option<usize> {
        match self.manner.prefers {
            Some(Prefers::Shorter) => self.first_choice(ends, choice + 1, high),
            _ => self.first_choice(ends, low, choice.checked_sub(1)?),
        }
    }
}

impl Plan {
    /// How PostgreSQL of the dialect takes matches of the pattern to pieces.
    pub fn of(pattern: &[Sequence], dialect: Dialect) -> Self {
        let mut planner = Planner { language: Language::default(), dialect };
        let whole = planner.branches(pattern);
        Self { language: planner.language, whole }
    }

    /// Whether the pattern matches anywhere in the name from `begin`, and what group 1 holds.
    ///
    /// # Errors
    /// When there is too much to find out.
    pub fn find<'name>(&self, name: &'name [u8], begin: usize) -> Result<Match<'name>, TooMuch> {
        self.find_by(&mut Reading::of(&self.language, name), name, begin)
    }

    fn find_by<'name>(
        &self,
        reading: &mut Reading<'_, '_>,
        name: &'name [u8],
        begin: usize,
    ) -> Result<Match<'name>, TooMuch> {
        for begin in begin..=name.len() {
            let ends = reading.ends(self.whole.part, begin)?;
            if let Some(end) = self.whole.first_choice(&ends, begin, name.len()) {
                let group = cut(reading, &self.whole, (begin, end))?;
                return Ok(Match::Yes(group.and_then(|(begin, end)| name.get(begin..end))));
            }
        }
        Ok(Match::No)
    }

    /// The most work that a name of such a length can be when `begins` of its places are tried.
    pub fn most_work(&self, begins: usize, names: NamesUpTo) -> usize {
        let found = self.language.most_work(self.whole.part, begins, names);
        found.saturating_add(self.whole.most_work(&self.language, names))
    }

    /// What it is for one name.
    #[cfg(test)]
    pub fn work_of(&self, name: &[u8]) -> usize {
        let mut reading = Reading::of(&self.language, name);
        let _ = self.find_by(&mut reading, name, 0);
        reading.work
    }
}

struct Planner {
    language: Language,
    dialect: Dialect,
}

impl Planner {
    /// An alternation, or the one branch that there is.
    fn branches(&mut self, branches: &[Sequence]) -> Piece {
        let mut pieces: Vec<_> = branches.iter().map(|branch| self.branch(branch)).collect();
        if pieces.len() == 1
            && let Some(only) = pieces.pop()
        {
            return only;
        }
        let parts: Vec<_> = pieces.iter().map(|piece| piece.part).collect();
        let longer = Manner::preferring(Some(Prefers::Longer));
        let manner = pieces.iter().fold(longer, |manner, piece| manner.and(piece.manner));
        let part = self.language.any_of(&parts);
        Piece::with(part, manner, Inside::AnyOf(pieces))
    }

    /// Parts one after another: one piece up to the first part that has to be cut out.
    fn branch(&mut self, nodes: &[Node]) -> Piece {
        let mut manner = Manner::default();
        for (index, node) in nodes.iter().enumerate() {
            let (atom, times) = atom_of(node);
            if times.max == Some(0) || matches!(atom, Node::Place(_) | Node::Look(_)) {
                continue;
            }
            let piece = self.atom(atom);
            let within = manner.and(Manner::preferring(times.prefers)).and(piece.manner);
            if !within.is_messy() {
                manner = within;
                continue;
            }
            let (before, after) = nodes.split_at(index);
            let rest = after.get(1..).unwrap_or_default();
            return self.cut_out(before, manner, (piece, times), rest);
        }
        Piece::plain(self.row(nodes), manner)
    }

    /// A branch that is cut before and behind `atom`.
    fn cut_out(
        &mut self,
        before: &[Node],
        manner: Manner,
        (atom, times): (Piece, Times),
        rest: &[Node],
    ) -> Piece {
        let tail = self.tail(atom, times, rest);
        if before.is_empty() {
            let manner = manner.and(tail.manner);
            return Piece { manner, ..tail };
        }
        let before = Piece::plain(self.row(before), manner);
        let manner = manner.and(tail.manner);
        self.two(before, tail, manner)
    }

    /// The repeated atom and the rest of the branch.
    fn tail(&mut self, atom: Piece, times: Times, rest: &[Node]) -> Piece {
        let manner = Manner::preferring(times.prefers).and(atom.manner);
        let atom = self.repeated(atom, times);
        if rest.is_empty() {
            // PostgreSQL 13 keeps a second piece here, with the preference of a quantifier that
            // does nothing, as in `(a){1,1}?`.
            let manner = if self.dialect.major() < 14 { manner } else { atom.manner };
            return Piece { manner, ..atom };
        }
        let rest = self.branch(rest);
        let manner = manner.and(rest.manner);
        self.two(atom, rest, manner)
    }

    fn repeated(&mut self, atom: Piece, times: Times) -> Piece {
        let Times { min, max, prefers } = times;
        let manner = Manner::preferring(prefers).and(atom.manner);
        let same = prefers.is_none()
            || (!atom.manner.mixed
                && (atom.manner.prefers.is_none() || atom.manner.prefers == prefers));
        if (min, max) == (1, Some(1)) && same {
            return atom;
        }
        if !atom.manner.captures {
            return Piece::plain(self.language.repeat(atom.part, min, max), manner);
        }
        if min == 0 {
            let part = self.language.repeat(atom.part, min, max);
            return Piece::with(part, manner, Inside::Repeat { piece: Box::new(atom), max });
        }
        // What the group held before the last time does not matter.
        let before = self.language.repeat(atom.part, min - 1, max.map(|max| max - 1));
        let before = Piece::plain(before, Manner::preferring(manner.prefers));
        self.two(before, atom, manner)
    }

    fn atom(&mut self, atom: &Node) -> Piece {
        let Node::Group { capture, branches } = atom else {
            return Piece::plain(self.language.node(atom), Manner::default());
        };
        let mut piece = self.branches(branches);
        if capture.is_some() {
            piece.manner.captures = true;
            piece.is_group_1 |= *capture == Some(1);
        }
        piece
    }

    fn two(&mut self, first: Piece, second: Piece, manner: Manner) -> Piece {
        let part = self.language.row(&[first.part, second.part]);
        Piece::with(part, manner, Inside::Two(Box::new([first, second])))
    }

    fn row(&mut self, nodes: &[Node]) -> Part {
        let parts: Vec<_> = nodes.iter().map(|node| self.language.node(node)).collect();
        self.language.row(&parts)
    }
}

/// A quantifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Times {
    min: u32,
    max: Option<u32>,
    prefers: Option<Prefers>,
}

impl Times {
    const ONCE: Self = Self { min: 1, max: Some(1), prefers: None };
}

fn atom_of(node: &Node) -> (&Node, Times) {
    match node {
        Node::Repeat { node, min, max, prefers } => {
            (node, Times { min: *min, max: *max, prefers: *prefers })
        }
        node => (node, Times::ONCE),
    }
}

/// What group 1 holds when `piece` is the bytes of `span`, which it matches.
fn cut(reading: &mut Reading<'_, '_>, piece: &Piece, span: Span) -> Result<Option<Span>, TooMuch> {
    if piece.is_group_1 {
        return Ok(Some(span));
    }
    match &piece.inside {
        Inside::Nothing => Ok(None),
        Inside::Two(two) => cut_two(reading, two, span),
        Inside::AnyOf(pieces) => {
            for piece in pieces {
                if reading.ends(piece.part, span.0)?.has(span.1) {
                    return cut(reading, piece, span);
                }
            }
            Ok(None)
        }
        Inside::Repeat { piece, max } => match last_time(reading, piece, *max, span)? {
            Some(span) => cut(reading, piece, span),
            None => Ok(None),
        },
    }
}

/// The first piece takes the most bytes, or the fewest, that let the second match the rest.
fn cut_two(
    reading: &mut Reading<'_, '_>,
    [first, second]: &[Piece; 2],
    (begin, end): Span,
) -> Result<Option<Span>, TooMuch> {
    let ends = reading.ends(first.part, begin)?;
    let mut next = first.first_choice(&ends, begin, end);
    while let Some(middle) = next {
        if reading.ends(second.part, middle)?.has(end) {
            return match cut(reading, second, (middle, end))? {
                None => cut(reading, first, (begin, middle)),
                found => Ok(found),
            };
        }
        next = first.choice_after(&ends, middle, (begin, end));
    }
    Ok(None)
}

/// Where a piece that is repeated from none to `max` times matches for the last time. Each time
/// takes the most bytes, or the fewest, that let the others come to the end; never none.
fn last_time(
    reading: &mut Reading<'_, '_>,
    piece: &Piece,
    max: Option<u32>,
    (begin, end): Span,
) -> Result<Option<Span>, TooMuch> {
    if begin == end {
        // Once, so that the group is set; but a piece that prefers few bytes is content with none.
        let once = piece.manner.prefers != Some(Prefers::Shorter)
            && reading.ends(piece.part, begin)?.has(end);
        return Ok(once.then_some((begin, end)));
    }
    let most = max.map_or(usize::MAX, |max| max as usize);
    // How often the piece has matched matters only when that is bounded.
    let key = |place, times| (place, if max.is_some() { times } else { 0 });
    let mut failed = HashSet::new();
    let mut begins = vec![begin];
    let mut tried = None;
    while let Some(from) = begins.last().copied() {
        reading.count()?;
        let ends = reading.ends(piece.part, from)?;
        let next = match tried {
            None => piece.first_choice(&ends, from + 1, end),
            Some(tried) => piece.choice_after(&ends, tried, (from + 1, end)),
        };
        match next {
            Some(to) if to == end => return Ok(Some((from, end))),
            Some(to) if begins.len() < most && !failed.contains(&key(to, begins.len())) => {
                begins.push(to);
                tried = None;
            }
            Some(to) => tried = Some(to),
            None => {
                begins.pop();
                failed.insert(key(from, begins.len()));
                tried = Some(from);
            }
        }
    }
    Ok(None)
}

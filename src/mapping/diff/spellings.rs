//! Where the case of letters is left out, a line that names somebody is about every spelling of the
//! name; a pattern is not. So a name is looked at in each spelling that a pattern tells apart.

use std::collections::BTreeSet;

use super::side::Pair;
use crate::mapping::automaton::{Effort, Language, Part, Words, words};
use crate::mapping::line::{Line, spelled};
use crate::mapping::{Case, Considered, SystemUserView};

/// Letters of a name whose spellings are all looked at.
const LETTERS: usize = 6;
/// Patterns by whose answers, yes or no, the spellings of longer names are told apart.
const PATTERNS: usize = 5;
/// Spellings of all names together, beyond which only those are looked at that patterns tell apart.
const SPELLED: usize = 100_000;
/// Names held against patterns, beyond which the usual spellings must do.
const HELD: usize = 50_000;

/// The spellings in which names are looked at.
#[derive(Default)]
pub(super) struct Spellings {
    /// Besides those in which lines name them.
    pub others: Vec<Vec<u8>>,
    /// Names, in lower case, of which no further spelling can make a difference.
    whole: Vec<Vec<u8>>,
    /// How many names there are of which another spelling could make one.
    pub left_out: usize,
}

/// What is looked at of one name.
struct Looked {
    spellings: Vec<Vec<u8>>,
    is_whole: bool,
}

impl Spellings {
    /// Of the names that changed lines name.
    pub fn of(pair: &Pair<'_>, effort: &Effort<'_>) -> Self {
        let sides = [&pair.old, &pair.new];
        let mut found = Self::default();
        if pair.old.case == Case::Sensitive {
            return found;
        }
        let patterns: Vec<&Line<'_>> = sides.iter().flat_map(|side| side.patterns()).collect();
        let mut names = BTreeSet::new();
        for line in sides.iter().flat_map(|side| side.changed_literals()) {
            if let SystemUserView::Literal(name) = line.system_user() {
                names.insert(name.to_ascii_lowercase());
            }
        }
        let mut held = 0_usize;
        for name in names.into_iter().filter(|_| !patterns.is_empty()) {
            let is_short = letters(&name) <= LETTERS && found.others.len() <= SPELLED;
            held = held.saturating_add(if is_short { 0 } else { patterns.len() });
            let looked = if is_short && effort.pay(name.len() << LETTERS) {
                Looked { spellings: all(&name), is_whole: true }
            } else if held <= HELD && effort.pay(name.len()) {
                told_apart(&name, &patterns, effort)
            } else {
                let spellings = if effort.is_spent() { Vec::new() } else { usual(&name) };
                Looked { spellings, is_whole: false }
            };
            found.others.extend(looked.spellings);
            if looked.is_whole {
                found.whole.push(name);
            } else {
                found.left_out += 1;
            }
        }
        found
    }

    /// Each name of which all spellings are looked at, in every one of them.
    pub fn whole(&self) -> impl Iterator<Item = (&[u8], Part)> {
        self.whole.iter().map(|name| (name.as_slice(), spelled(name, Case::Insensitive)))
    }
}

fn letters(name: &[u8]) -> usize {
    name.iter().filter(|byte| byte.is_ascii_alphabetic()).count()
}

fn all(name: &[u8]) -> Vec<Vec<u8>> {
    name.iter().fold(vec![Vec::new()], |begun, byte| {
        let mut both = vec![byte.to_ascii_lowercase(), byte.to_ascii_uppercase()];
        both.dedup();
        let longer = |letter: &u8| -> Vec<Vec<u8>> {
            begun.iter().map(|begun| [begun.as_slice(), &[*letter]].concat()).collect()
        };
        both.iter().flat_map(longer).collect()
    })
}

fn usual(name: &[u8]) -> Vec<Vec<u8>> {
    let mut capital = name.to_ascii_lowercase();
    capital.iter_mut().take(1).for_each(|byte| *byte = byte.to_ascii_uppercase());
    vec![name.to_ascii_lowercase(), name.to_ascii_uppercase(), capital]
}

/// One spelling for each way in which the patterns can answer.
fn told_apart(name: &[u8], patterns: &[&Line<'_>], effort: &Effort<'_>) -> Looked {
    let mut looked = Looked { spellings: usual(name), is_whole: true };
    let Some(any) = Language::within(&spelled(name, Case::Insensitive), effort) else {
        return Looked { is_whole: false, ..looked };
    };
    let mut apart: Vec<&Language> = Vec::new();
    for pattern in patterns {
        let Some(language) = pattern.language() else {
            looked.is_whole = false;
            continue;
        };
        let matches = |name: &Vec<u8>| {
            pattern.consider(Case::Insensitive, name, b"") != Considered::OtherUser
        };
        // All spellings or none of them is the usual answer.
        let is_none = !looked.spellings.iter().any(matches)
            && words(&[&any, language], &[], 1, effort) == Words::None;
        let is_all = !is_none && words(&[&any], &[language], 1, effort) == Words::None;
        // One spelling may be more work than another.
        looked.is_whole &= is_none || !pattern.may_give_up(name.len());
        if !is_none && !is_all {
            apart.push(language);
        }
    }
    looked.is_whole &= apart.len() <= PATTERNS;
    apart.truncate(PATTERNS);
    for answers in 0..1_usize << apart.len() {
        let (mut within, mut without) = (vec![&any], Vec::new());
        for (index, language) in apart.iter().enumerate() {
            let is_yes = answers >> index & 1 == 1;
            if is_yes { within.push(language) } else { without.push(*language) }
        }
        match words(&within, &without, 1, effort) {
            Words::Some(found) => looked.spellings.extend(found),
            Words::None => {}
            Words::NotFound => looked.is_whole = false,
        }
    }
    looked
}

//! Whether what stands between the marks of a pattern is the same whichever way it matches.

use std::collections::HashSet;

use super::effort::Portion;
use super::language::State;
use super::{Effort, Language};

/// Whether every name can be marked in one way only, so that what stands between the marks does not
/// depend on which way to match is taken. `false` too when that takes too long to find out.
pub(crate) fn is_marked_in_one_way(language: &Language, effort: &Effort<'_>) -> bool {
    // Two readings of one name, side by side: `true` once one of them has had a mark where the
    // other had none.
    type Two = (Reading, Reading, bool);
    let portion = effort.of_a_walk();
    let begin = unmarked(language, [(language.start, 0)], &portion);
    if !portion.pay(begin.len().saturating_mul(begin.len())) {
        return false;
    }
    let mut open: Vec<Two> = pairs(&begin, &begin).map(|(one, two)| (one, two, false)).collect();
    let mut seen: HashSet<Two> = open.iter().copied().collect();
    while let Some((one, two, differ)) = open.pop() {
        let (first, second) = (language.states.get(one.0), language.states.get(two.0));
        if differ && matches!((first, second), (Some(State::Accept), Some(State::Accept))) {
            return false;
        }
        let (Some(State::Byte { set: a, next: x }), Some(State::Byte { set: b, next: y })) =
            (first, second)
        else {
            continue;
        };
        if !a.meets(*b) {
            continue;
        }
        let differ = differ || one.1 != two.1;
        let after = [(*x, one.1), (*y, two.1)].map(|next| unmarked(language, [next], &portion));
        let [ones, twos] = &after;
        for (one, two) in pairs(ones, twos) {
            if !portion.pay(1) {
                return false;
            }
            if seen.insert((one, two, differ)) {
                open.push((one, two, differ));
            }
        }
    }
    true
}

/// A state that waits for a byte or for the end, and how many marks came before it.
type Reading = (usize, u8);

/// All that is reached without a byte, marks counted.
fn unmarked(
    language: &Language,
    from: impl IntoIterator<Item = Reading>,
    portion: &Portion<'_>,
) -> Vec<Reading> {
    let mut open: Vec<Reading> = from.into_iter().collect();
    let mut seen: HashSet<Reading> = open.iter().copied().collect();
    let mut reached = Vec::new();
    while let Some((state, marks)) = open.pop() {
        let next: Vec<Reading> = match language.states.get(state) {
            Some(State::Split(ways)) => ways.iter().map(|way| (*way, marks)).collect(),
            Some(State::Mark(next)) => vec![(*next, marks.saturating_add(1))],
            Some(State::Byte { .. } | State::Accept) => {
                reached.push((state, marks));
                Vec::new()
            }
            Some(State::Begin(_) | State::End(_)) | None => Vec::new(),
        };
        open.extend(next.into_iter().filter(|next| seen.insert(*next)));
    }
    portion.pay(seen.len());
    reached
}

fn pairs<'r>(
    ones: &'r [Reading],
    twos: &'r [Reading],
) -> impl Iterator<Item = (Reading, Reading)> + use<'r> {
    ones.iter().flat_map(move |one| twos.iter().map(move |two| (*one, *two)))
}

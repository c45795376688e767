//! What clocks say: whether the broker's time follows the wall, and what the time is at the start.

use jiff::{SignedDuration, Timestamp};

/// How far the wall may be ahead or behind to be followed, step by step.
const FOLLOWED: SignedDuration = SignedDuration::from_secs(2);

/// The longest such step: of a second's time one hundredth, more than any clock drifts.
const STEP: SignedDuration = SignedDuration::from_millis(10);

/// How far clocks may be apart and still tell the same time.
pub(super) const SAME: SignedDuration = SignedDuration::from_secs(30);

/// How far the middle two of an even number of clocks may be apart for the later to be believed:
/// by so much a single clock that is ahead may end leases too early. Were it the earlier, a single
/// clock that is behind could prolong them.
const DISPUTED: SignedDuration = SignedDuration::from_mins(2);

/// What to do about the broker's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is moved a little, to where the wall is or towards it.
    Follow(SignedDuration),
    /// It is set to the wall: the wall was moved, and another clock agrees with it.
    Set(SignedDuration),
    /// It stays: the wall says something else and no other clock agrees with it.
    Doubt,
}

/// Holds the broker's time `now` against the `wall` and what `others` show.
pub(super) fn judge(now: Timestamp, wall: Timestamp, others: &[Timestamp]) -> Verdict {
    let ahead = wall.duration_since(now);
    if ahead.abs() <= FOLLOWED {
        return Verdict::Follow(ahead.clamp(-STEP, STEP));
    }
    let apart = |other: &Timestamp, from: Timestamp| other.duration_since(from).abs();
    let for_wall =
        |other: &&Timestamp| apart(other, wall) <= SAME && apart(other, wall) < apart(other, now);
    let for_now =
        |other: &&Timestamp| apart(other, now) <= SAME && apart(other, now) <= apart(other, wall);
    let (for_wall, for_now) =
        (others.iter().filter(for_wall).count(), others.iter().filter(for_now).count());
    if for_wall > for_now { Verdict::Set(ahead) } else { Verdict::Doubt }
}

/// What the time is, as far as clocks agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub time: Timestamp,
    /// How many clocks show it.
    voices: usize,
    /// How many were asked whose word counts.
    of: usize,
}

impl Choice {
    /// Whether two clocks show it, and more than half of those whose word counts.
    pub(super) fn is_agreed(self) -> bool {
        self.is_agreed_among(self.of)
    }

    /// Whether two clocks show it, and more than half of `all` that there are.
    pub(super) fn is_agreed_among(self, all: usize) -> bool {
        self.voices >= 2 && self.voices * 2 > all
    }
}

/// The time that most clocks show, the wall and `others`. Where they do not agree it is what the
/// one in the middle shows; of two in the middle the later, if they are not far apart, so that
/// nobody prolongs leases by setting one clock back, or else the earlier, so that a clock that is
/// far ahead ends nothing. A clock that is before `passed`, a time that has passed for certain, has
/// no word if another is not. Nothing while no other clock was read.
pub(super) fn choose(
    wall: Timestamp,
    others: &[Timestamp],
    passed: Option<Timestamp>,
) -> Option<Choice> {
    if others.is_empty() {
        return None;
    }
    let mut clocks: Vec<Timestamp> = others.iter().copied().chain([wall]).collect();
    clocks.sort_unstable();
    let is_late =
        |clock: &&Timestamp| passed.is_none_or(|passed| clock.duration_since(passed) >= -SAME);
    let late: Vec<Timestamp> = clocks.iter().filter(is_late).copied().collect();
    let heard = if late.is_empty() { &clocks } else { &late };
    let (earlier, later) = (*heard.get((heard.len() - 1) / 2)?, *heard.get(heard.len() / 2)?);
    let middle = if later.duration_since(earlier) <= DISPUTED { later } else { earlier };
    let shows = |clock: &Timestamp, time: Timestamp| clock.duration_since(time).abs() <= SAME;
    let time = if shows(&wall, middle) { wall } else { middle };
    let voices = heard.iter().filter(|clock| shows(clock, time)).count();
    Some(Choice { time, voices, of: heard.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn by(seconds: i64) -> SignedDuration {
        SignedDuration::from_secs(seconds)
    }

    #[track_caller]
    fn check(wall: i64, others: &[i64], verdict: Verdict) {
        let others: Vec<Timestamp> = others.iter().copied().map(at).collect();
        assert_eq!(judge(at(0), at(wall), &others), verdict);
    }

    const HOUR: i64 = 3600;
    const DECADE: i64 = 10 * 365 * 86_400;

    #[test]
    fn a_wall_that_drifts_is_followed_in_small_steps_whatever_others_say() {
        check(0, &[], Verdict::Follow(by(0)));
        check(2, &[HOUR], Verdict::Follow(STEP));
        check(-2, &[HOUR], Verdict::Follow(-STEP));
    }

    #[test]
    fn a_wall_that_jumps_moves_nothing_alone() {
        for jump in [3, -3, HOUR, -HOUR, DECADE] {
            check(jump, &[], Verdict::Doubt);
            check(jump, &[0], Verdict::Doubt);
            check(jump, &[0, jump], Verdict::Doubt);
        }
    }

    #[test]
    fn a_wall_that_jumps_is_believed_when_more_clocks_agree_with_it() {
        for jump in [HOUR, -HOUR, DECADE] {
            check(jump, &[jump], Verdict::Set(by(jump)));
            check(jump, &[jump + 20, 0, jump - 20], Verdict::Set(by(jump)));
        }
        // Four seconds ahead: the other is nearer to the wall than to the broker.
        check(4, &[3], Verdict::Set(by(4)));
        check(4, &[1], Verdict::Doubt);
    }

    #[test]
    fn another_clock_that_jumps_moves_nothing() {
        check(0, &[HOUR, DECADE], Verdict::Follow(by(0)));
        check(HOUR, &[DECADE, -HOUR], Verdict::Doubt);
    }

    /// What the time becomes, by how many voices, and whether the start waits for no other clock
    /// then, of those that do not answer.
    #[track_caller]
    fn begins(
        wall: i64,
        others: &[i64],
        silent: usize,
        passed: Option<i64>,
        expected: Option<(i64, Settles)>,
    ) {
        let shown: Vec<Timestamp> = others.iter().copied().map(at).collect();
        let choice = choose(at(wall), &shown, passed.map(at));
        let begun = choice.map(|choice| {
            let agreed = choice.is_agreed_among(others.len() + silent + 1);
            let settles = match (agreed, choice.is_agreed()) {
                (true, _) => Settles::AtOnce,
                (false, _) if silent > 0 => Settles::AfterAWhile,
                (false, true) => Settles::WithAll,
                (false, false) => Settles::WithAllAndAsksOn,
            };
            (choice.time.duration_since(at(0)).as_secs(), settles)
        });
        assert_eq!(begun, expected, "{wall} {others:?} {silent} {passed:?}");
    }

    /// When the time is settled.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Settles {
        /// More than half of all clocks agree.
        AtOnce,
        /// Others are waited for, a few seconds.
        AfterAWhile,
        /// All have answered, and those that are to be believed agree.
        WithAll,
        /// All have answered; no two agree, so they are asked on.
        WithAllAndAsksOn,
    }

    #[test]
    fn the_time_begins_with_what_most_clocks_show() {
        use Settles::{AfterAWhile, AtOnce, WithAll, WithAllAndAsksOn};
        const NIGHT: i64 = 8 * HOUR;
        let last = Timestamp::MAX.duration_since(at(0)).as_secs();
        for (wall, others, silent, passed, begun) in [
            // Nobody else was asked.
            (0, vec![], 0, None, None),
            (0, vec![], 2, Some(-1), None),
            // All agree.
            (0, vec![5], 0, None, Some((0, AtOnce))),
            (5, vec![0], 0, None, Some((5, AtOnce))),
            (0, vec![1, 2, 3], 0, Some(0), Some((0, AtOnce))),
            // Enough agree, and a cluster that is down holds nothing up.
            (0, vec![1], 1, None, Some((0, AtOnce))),
            (0, vec![1], 2, None, Some((0, AfterAWhile))),
            (0, vec![1, 2], 2, None, Some((0, AtOnce))),
            // One cluster is behind: others are waited for, and outvote it.
            (0, vec![-77], 1, None, Some((0, AfterAWhile))),
            (0, vec![-77, 1], 0, None, Some((0, AtOnce))),
            (0, vec![-NIGHT, 1], 0, Some(-NIGHT), Some((0, AtOnce))),
            // No others come. So little it cannot prolong anything; a lot only if nothing was
            // written down since.
            (0, vec![-77], 0, None, Some((0, WithAllAndAsksOn))),
            (0, vec![-NIGHT], 0, None, Some((-NIGHT, WithAllAndAsksOn))),
            (0, vec![-NIGHT], 0, Some(-HOUR), Some((0, WithAllAndAsksOn))),
            (0, vec![-HOUR], 0, Some(-1), Some((0, WithAllAndAsksOn))),
            // One cluster is ahead, or the wall: leases end too early by two minutes at most.
            (0, vec![HOUR, 1], 0, None, Some((0, AtOnce))),
            (0, vec![DECADE], 0, None, Some((0, WithAllAndAsksOn))),
            (0, vec![119], 0, None, Some((119, WithAllAndAsksOn))),
            (0, vec![121], 0, None, Some((0, WithAllAndAsksOn))),
            (DECADE, vec![0], 0, None, Some((0, WithAllAndAsksOn))),
            (DECADE, vec![0], 1, None, Some((0, AfterAWhile))),
            // Two clusters disagree, here and there.
            (0, vec![HOUR, -HOUR], 0, None, Some((0, WithAllAndAsksOn))),
            (0, vec![HOUR, DECADE, 1], 0, None, Some((0, WithAllAndAsksOn))),
            (0, vec![-77, -77, 1], 0, None, Some((0, WithAllAndAsksOn))),
            // All agree against the wall.
            (HOUR, vec![0, 1], 0, None, Some((1, AtOnce))),
            (-HOUR, vec![0, 1], 0, None, Some((0, AtOnce))),
            // The wall is back at boot, in 1970 or by a zone.
            (-5 * DECADE, vec![0, 1], 0, Some(-NIGHT), Some((1, AtOnce))),
            (-5 * DECADE, vec![0, 1, -5 * DECADE], 0, Some(-NIGHT), Some((1, WithAll))),
            (-5 * DECADE, vec![0], 0, Some(-NIGHT), Some((0, WithAllAndAsksOn))),
            (-5 * DECADE, vec![0], 1, Some(-NIGHT), Some((0, AfterAWhile))),
            (-HOUR, vec![0], 0, Some(-1), Some((0, WithAllAndAsksOn))),
            // One shows the last moment that there is.
            (0, vec![last, 1], 0, Some(-1), Some((0, AtOnce))),
            // All say that it is earlier: then it was written down by a clock that was ahead.
            (0, vec![0], 0, Some(DECADE), Some((0, AtOnce))),
        ] {
            begins(wall, &others, silent, passed, begun);
        }
    }
}

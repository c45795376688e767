//! How much work a name can be at most, whatever stands in it: so it is known beforehand which
//! patterns may give up on a name of a given length.
//!
//! What is counted is what [`Reading`](super::language::Reading) counts, for a name in which each
//! part is asked about from as many places as there can be. So it may be said of a pattern that it
//! may give up when it never does, and not the other way round.

use super::language::{Form, Language, Part};
use super::tree::{Direction, Place};
use crate::mapping::bytes::ByteSet;

/// Names of up to so many bytes.
#[derive(Clone, Copy)]
pub(super) struct NamesUpTo {
    pub bytes: usize,
}

impl NamesUpTo {
    /// Places in such a name.
    pub fn places(self) -> usize {
        self.bytes.saturating_add(1)
    }

    /// What one step costs.
    pub fn step(self) -> usize {
        1 + self.bytes / 64
    }
}

/// How many bytes of a name a part can take.
#[derive(Clone, Copy)]
struct Lengths {
    shortest: usize,
    longest: usize,
}

impl Lengths {
    const NONE: Self = Self { shortest: 0, longest: 0 };

    fn and(self, other: Self) -> Self {
        Self {
            shortest: self.shortest.saturating_add(other.shortest),
            longest: self.longest.saturating_add(other.longest),
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            shortest: self.shortest.min(other.shortest),
            longest: self.longest.max(other.longest),
        }
    }

    fn times(self, times: u32) -> Self {
        let times = times as usize;
        Self {
            shortest: self.shortest.saturating_mul(times),
            longest: self.longest.saturating_mul(times),
        }
    }

    /// At how many places it can end that begins at one.
    fn ends(self, names: NamesUpTo) -> usize {
        let longest = self.longest.min(names.bytes);
        longest.saturating_sub(self.shortest).saturating_add(1)
    }
}

/// From how many places each part is asked about, and what that costs.
struct Count<'p> {
    language: &'p Language,
    names: NamesUpTo,
    lengths: Vec<Lengths>,
    asked: Vec<usize>,
    work: usize,
}

impl Language {
    /// The most work that it can be to find where `part` can end that begins at any of `begins`
    /// places.
    pub fn most_work(&self, part: Part, begins: usize, names: NamesUpTo) -> usize {
        let asked = vec![0; self.forms.len()];
        let mut count = Count { language: self, names, lengths: self.lengths(), asked, work: 0 };
        count.ask(part, begins);
        // What a part is made of comes before it.
        for (index, form) in self.forms.iter().enumerate().rev() {
            let begins = count.asked.get(index).copied().unwrap_or_default();
            if begins > 0 {
                count.spend(names.places().saturating_add(begins.saturating_mul(names.step())));
                count.within(form, begins);
            }
        }
        count.work
    }

    /// At how many places a part can end that begins at one.
    pub fn most_ends(&self, part: Part, names: NamesUpTo) -> usize {
        self.lengths().get(part.0).map_or(1, |lengths| lengths.ends(names))
    }

    fn lengths(&self) -> Vec<Lengths> {
        let mut known: Vec<Lengths> = Vec::with_capacity(self.forms.len());
        for form in &self.forms {
            let of = |part: &Part| known.get(part.0).copied().unwrap_or(Lengths::NONE);
            let lengths = match form {
                Form::Byte(_) => Lengths { shortest: 1, longest: 1 },
                Form::Place(_) | Form::Look { .. } => Lengths::NONE,
                Form::Row(parts) => parts.iter().map(of).fold(Lengths::NONE, Lengths::and),
                Form::AnyOf(parts) => {
                    parts.iter().map(of).reduce(Lengths::or).unwrap_or(Lengths::NONE)
                }
                Form::Repeat { part, min, max } => {
                    let once = of(part);
                    let most = max.unwrap_or(u32::MAX);
                    Lengths {
                        shortest: once.times(*min).shortest,
                        longest: once.times(most).longest,
                    }
                }
            };
            known.push(lengths);
        }
        known
    }
}

impl Count<'_> {
    fn spend(&mut self, work: usize) {
        self.work = self.work.saturating_add(work);
    }

    /// The part is asked about from so many more places.
    fn ask(&mut self, part: Part, places: usize) {
        if let Some(asked) = self.asked.get_mut(part.0) {
            *asked = asked.saturating_add(places).min(self.names.places());
        }
    }

    /// The same, and each of them is a step.
    fn step_to(&mut self, part: Part, places: usize) {
        self.ask(part, places);
        self.spend(places.saturating_mul(self.names.step()));
    }

    fn lengths_of(&self, part: Part) -> Lengths {
        self.lengths.get(part.0).copied().unwrap_or(Lengths::NONE)
    }

    /// What is asked to find where a part of this form can end, from `begins` places.
    fn within(&mut self, form: &Form, begins: usize) {
        match form {
            Form::Byte(_) | Form::Place(_) => {}
            Form::Look { direction: Direction::Ahead, part, .. } => self.ask(*part, begins),
            Form::Look { direction: Direction::Behind, part, .. } => {
                self.ask(*part, self.names.places());
            }
            Form::Row(parts) => self.within_row(parts, begins),
            Form::AnyOf(parts) => parts.iter().for_each(|part| self.ask(*part, begins)),
            Form::Repeat { part, min, max } => {
                let times = self.times(*part, *min, *max);
                self.step_to(*part, begins.saturating_mul(times));
            }
        }
    }

    /// Bytes one after the other are found at few places: `,ou=` at every fourth.
    fn within_row(&mut self, parts: &[Part], mut begins: usize) {
        let (mut before, mut ends, mut word) = (Lengths::NONE, 1, Vec::new());
        for part in parts {
            self.step_to(*part, begins.saturating_mul(ends));
            before = before.and(self.lengths_of(*part));
            match self.language.forms.get(part.0) {
                Some(Form::Byte(set)) => {
                    word.push(*set);
                    let found = self.names.bytes / shift(&word) + 1;
                    ends = ends.min(found);
                    if word.len() == before.shortest {
                        begins = begins.min(found);
                    }
                }
                Some(Form::Place(Place::Begin)) => begins = begins.min(1),
                Some(Form::Place(_) | Form::Look { .. }) => {}
                _ => {
                    word.clear();
                    ends = before.ends(self.names);
                    if self.is_held(*part) {
                        begins = begins.min(1);
                    }
                }
            }
        }
    }

    /// From how many places in all a part is asked about that is repeated from one: from each that
    /// is reached, and again and again until it has been there `min` times.
    fn times(&self, part: Part, min: u32, max: Option<u32>) -> usize {
        let once = self.lengths_of(part);
        let ends = |times| once.times(times).ends(self.names);
        let first = (0..min).map(ends).fold(0, usize::saturating_add);
        let last = match max {
            Some(max) if max <= min => return first,
            Some(max) => once.times(max - 1).longest,
            None => self.names.bytes,
        };
        let others = Lengths { shortest: once.times(min).shortest, longest: last };
        first.saturating_add(others.ends(self.names))
    }

    /// Whether the part matches at the beginning of a name only.
    fn is_held(&self, part: Part) -> bool {
        match self.language.forms.get(part.0) {
            Some(Form::Place(Place::Begin)) => true,
            Some(Form::Row(parts)) => parts.first().is_some_and(|first| self.is_held(*first)),
            _ => false,
        }
    }
}

/// How many bytes behind one place where the word stands the next one can be.
fn shift(word: &[ByteSet]) -> usize {
    let is_alike = |by: &usize| {
        let later = word.get(*by..).unwrap_or_default();
        word.iter().zip(later).all(|(one, other)| one.meets(*other))
    };
    (1..word.len()).find(is_alike).unwrap_or(word.len()).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::Dialect;
    use super::super::dissect::Plan;
    use super::super::{Pattern, Use};
    use super::*;

    fn pattern() -> impl Strategy<Value = String> {
        let atom = prop::sample::select(vec!["a", "b", ".", "[ab]", "^", "$", "\\y"]);
        let looks = ["(?=", "(?!", "(?<=", "(?<!", "(", "(?:", "("];
        let times = ["", "", "*", "+", "?", "*?", "+?", "{2}", "{1,3}", "{2,}", "{0,2}?"];
        atom.prop_map(str::to_owned).prop_recursive(4, 20, 4, move |inner| {
            let row = prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat());
            let group = (prop::sample::select(looks.to_vec()), inner.clone(), inner);
            let group = group.prop_map(|(look, one, other)| format!("{look}{one}|{other})"));
            let group = (group, prop::sample::select(times.to_vec()));
            prop_oneof![row, group.prop_map(|(group, times)| group + times)]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_name_is_more_work_than_is_said_of_its_length(
            pattern in pattern(),
            names in prop::collection::vec("[ab]{0,90}", 1..4),
            longer in 0_usize..3,
        ) {
            let compiled = Pattern::compile(pattern.as_bytes(), Dialect::default(), Use::Capture);
            for name in names.iter().filter(|_| compiled.is_ok()) {
                let (work, most) = worked(&pattern, name.as_bytes(), longer);
                prop_assert!(work <= most, "{pattern} {name}: {work} > {most}");
            }
        }
    }

    /// What a name is of work, and the most that is said of names of up to `longer` bytes more.
    fn worked(pattern: &str, name: &[u8], longer: usize) -> (usize, usize) {
        let branches = super::super::read::read(pattern.as_bytes(), Dialect::default()).unwrap();
        let plan = Plan::of(&branches, Dialect::default());
        let names = NamesUpTo { bytes: name.len() + longer };
        (plan.work_of(name), plan.most_work(name.len() + 1, names))
    }

    /// Whether the pattern with a capture may give up on a name of `bytes` bytes.
    #[track_caller]
    fn check(pattern: &str, bytes: usize, expected: bool) {
        let compiled = Pattern::compile(pattern.as_bytes(), Dialect::default(), Use::Capture);
        assert_eq!(compiled.unwrap().may_give_up(bytes), expected, "{pattern} {bytes}");
    }

    #[test]
    fn patterns_that_people_write_give_up_on_no_account() {
        for pattern in [
            "^(.*)@CORP\\.TEST$",
            "(.*)@CORP",
            "^([a-z]+)\\.([a-z]+)@corp\\.example\\.com$",
            "^(svc|job|app)_(.*)@CORP$",
            "^(?:svc|job)-([a-z0-9]+)-(.*)$",
            "^cn=([^,]+),ou=[^,]+,dc=example,dc=test$",
            "^(?!adm_)(.*)@CORP\\.TEST$",
            "(?i)^([a-z0-9._-]{1,30})@corp\\.test$",
        ] {
            check(pattern, 256, false);
        }
        check("^cn=pg_(.*),ou=groups,dc=example,dc=test$", 1024, false);
    }

    #[test]
    fn a_name_may_be_too_long_for_every_plan_and_a_pattern_too_much_for_a_short_one() {
        check("^(.*)@CORP$", 20_000, true);
        check("^(?:a?){250}(?:a?){250}(b)$", 256, true);
        check("^(?:a?){250}(?:a?){250}(b)$", 20, false);
        let matched = Pattern::compile(b"^(.*)@CORP$", Dialect::default(), Use::Match).unwrap();
        assert!(!matched.may_give_up(20_000));
    }
}

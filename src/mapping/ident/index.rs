//! Which lines of a map may be about a system user: those that name it, and those whose regular
//! expression has not been ruled out by the letters that every match of it holds.

use std::collections::HashMap;

use aho_corasick::AhoCorasick;

use super::pattern::Pattern;
use super::rule::SystemUser;
use super::view::RuleView;

/// An index of the lines of one map, by their place in it.
#[derive(Debug, Default)]
pub(in crate::mapping) struct Index {
    /// The lines that name a user literally, by the name in lower case.
    literals: HashMap<Vec<u8>, Vec<usize>>,
    /// What is looked for in a name, in whatever case.
    needles: Option<AhoCorasick>,
    /// By needle, the lines that need it.
    needing: Vec<Vec<usize>>,
    /// The lines with an expression that needs nothing.
    always: Vec<usize>,
}

impl Index {
    /// The index of lines in the order in which they are asked.
    pub fn of<'a>(rules: impl IntoIterator<Item = RuleView<'a>>) -> Self {
        let mut index = Self::default();
        let mut patterns = Vec::new();
        for (place, RuleView(rule)) in rules.into_iter().enumerate() {
            match &rule.system_user {
                SystemUser::Literal(name) => {
                    index.literals.entry(name.to_ascii_lowercase()).or_default().push(place);
                }
                SystemUser::Pattern(pattern) => patterns.push((place, &**pattern)),
            }
        }
        index.add_patterns(&patterns);
        index
    }

    /// Of the needles of each expression, the cheapest is looked for.
    fn add_patterns(&mut self, patterns: &[(usize, &Pattern)]) {
        let mut frequency = HashMap::<&[u8], usize>::new();
        for needle in patterns.iter().flat_map(|(_, pattern)| pattern.needles()) {
            *frequency.entry(needle).or_default() += 1;
        }
        let mut chosen = HashMap::<&[u8], Vec<usize>>::new();
        for (place, pattern) in patterns {
            let cost = |needle: &&[u8]| cost(needle, frequency.get(needle).copied());
            match pattern.needles().min_by_key(cost) {
                Some(needle) => chosen.entry(needle).or_default().push(*place),
                None => self.always.push(*place),
            }
        }
        let (needles, needing): (Vec<_>, Vec<_>) = chosen.into_iter().unzip();
        match AhoCorasick::builder().ascii_case_insensitive(true).build(&needles) {
            Ok(automaton) => {
                self.needles = Some(automaton);
                self.needing = needing;
            }
            // Too many: none is ruled out then.
            Err(_) => self.always = patterns.iter().map(|(place, _)| *place).collect(),
        }
    }

    /// The places of the lines that may be about `system_user`, in order.
    pub fn that_may_match(&self, system_user: &[u8]) -> Vec<usize> {
        let mut places = self.always.clone();
        if let Some(named) = self.literals.get(&system_user.to_ascii_lowercase()) {
            places.extend(named);
        }
        if let Some(needles) = &self.needles {
            // However often a name holds a needle, the lines that need it are looked at once.
            let found = needles.find_overlapping_iter(system_user);
            let mut found: Vec<usize> = found.map(|found| found.pattern().as_usize()).collect();
            found.sort_unstable();
            found.dedup();
            places.extend(found.iter().filter_map(|needle| self.needing.get(*needle)).flatten());
        }
        places.sort_unstable();
        places.dedup();
        places
    }
}

/// How many lines a needle is likely to leave: few others have it, or few names do.
fn cost(needle: &[u8], frequency: Option<usize>) -> usize {
    let rare_letters = u32::try_from(needle.len()).unwrap_or(u32::MAX).min(8);
    frequency.unwrap_or(0).saturating_mul(4_usize.pow(8 - rare_letters))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Case, Considered, Dialect, IdentMap, Memberships, Question};
    use super::*;

    const FILE: &str = r#"m ab r
m AB r
m /^ab(.*)c$ r
m /(?i)^AB r
m /b r
m /^[ab]+$ r
m /a(?:b|c)b r
m /ab|bc r
m /^(?=ab).*B$ r
m /(?<!a)bc r
m "" r
m / r
"#;

    proptest! {
        #[test]
        fn no_line_is_left_out_that_is_about_the_user(user in "[abcABC]{0,6}", blind: bool) {
            let map = IdentMap::parse(Dialect::default(), "f", FILE.as_bytes()).unwrap();
            let name = "m".parse().unwrap();
            let question = Question {
                map: &name,
                system_user: user.as_bytes(),
                role: b"r",
                case: if blind { Case::Insensitive } else { Case::Sensitive },
                members: &Memberships::none(),
            };
            let rules = map.rules_of(&name).unwrap();
            let found: Vec<_> =
                rules.that_may_match(user.as_bytes()).map(|rule| RuleView(rule).reference()).collect();
            for rule in map.rules(&name) {
                let about = rule.consider(&question) != Considered::OtherUser;
                prop_assert!(!about || found.contains(&rule.reference()), "{}", rule.text());
            }
            prop_assert!(found.is_sorted(), "{found:?}");
        }
    }

    #[test]
    fn most_lines_are_left_out_that_are_not() {
        let map = IdentMap::parse(Dialect::default(), "f", FILE.as_bytes()).unwrap();
        let rules = map.rules_of(&"m".parse().unwrap()).unwrap();
        let lines = |user: &str| -> Vec<u32> {
            rules.that_may_match(user.as_bytes()).map(|rule| rule.line).collect()
        };
        assert_eq!(lines("x"), [6, 8, 12]);
        assert_eq!(lines("bc"), [5, 6, 8, 9, 10, 12]);
        assert_eq!(lines(""), [6, 8, 11, 12]);
    }
}

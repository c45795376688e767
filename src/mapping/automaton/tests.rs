//! Which names automata tell apart.

use std::cell::Cell;

use super::*;

fn any(part: Part) -> Part {
    Part::Repeat { part: Box::new(part), min: 0, max: None }
}

fn dots() -> Part {
    any(Part::Byte(ByteSet::ALL))
}

fn whole(parts: Vec<Part>) -> Language {
    let mut row = vec![Part::Begin];
    row.extend(parts);
    row.push(Part::End);
    Language::of(&Part::Row(row).anywhere()).unwrap()
}

fn literal(text: &str) -> Part {
    Part::literal(text)
}

#[track_caller]
fn check(within: &Language, without: &Language, first: Option<&str>) {
    let found = match words(&[within], &[without], 8, &Effort::default()) {
        Words::None => None,
        Words::Some(words) => words.into_iter().next(),
        Words::NotFound => panic!("the walk did not end"),
    };
    let found = found.map(|word| String::from_utf8(word).unwrap());
    assert_eq!(found.as_deref(), first);
}

#[test]
fn a_name_that_one_pattern_matches_and_the_other_not_is_found() {
    let corp = whole(vec![dots(), literal("@corp")]);
    let named = whole(vec![literal("svc_"), dots(), literal("@corp")]);
    check(&named, &corp, None);
    check(&corp, &named, Some("@corp"));
    check(&corp, &corp, None);
    check(&whole(vec![dots()]), &whole(vec![dots(), literal("a")]), Some("b"));
}

#[test]
fn an_anchor_holds_only_at_the_end_of_the_name() {
    let begins = Language::of(&Part::Row(vec![Part::Begin, literal("ab")]).anywhere()).unwrap();
    let ends = Language::of(&Part::Row(vec![literal("ab"), Part::End]).anywhere()).unwrap();
    let holds = Language::of(&literal("ab").anywhere()).unwrap();
    check(&begins, &holds, None);
    check(&ends, &holds, None);
    check(&holds, &begins, Some("aab"));
    check(&begins, &ends, Some("aba"));
    let nothing = Language::of(&Part::Row(vec![literal("a"), Part::Begin]).anywhere()).unwrap();
    check(&nothing, &ends, None);
}

#[test]
fn what_every_word_begins_with() {
    let prefix = |parts| String::from_utf8(whole(parts).prefix(&Effort::default())).unwrap();
    assert_eq!(prefix(vec![literal("svc_"), dots()]), "svc_");
    assert_eq!(prefix(vec![literal("ab")]), "ab");
    assert_eq!(prefix(vec![Part::Branches(vec![literal("xa"), literal("xb")])]), "x");
    assert_eq!(prefix(vec![any(literal("a")), literal("b")]), "");
    assert_eq!(Language::of(&literal("ab").anywhere()).unwrap().prefix(&Effort::default()), b"");
}

#[test]
fn what_is_in_two_and_not_in_a_third() {
    let begins = whole(vec![literal("a"), dots()]);
    let ends = whole(vec![dots(), literal("b")]);
    let middle = whole(vec![literal("ab")]);
    let effort = Effort::default();
    let found = words(&[&begins, &ends], &[&middle], 1, &effort);
    assert_eq!(found, Words::Some(vec![b"aab".to_vec()]));
    assert_eq!(words(&[&begins, &middle], &[&ends], 1, &effort), Words::None);
}

#[test]
fn bounds_are_counted() {
    let times = |min, max| {
        let part = Box::new(literal("ab"));
        whole(vec![Part::Repeat { part, min, max }])
    };
    check(&times(1, Some(2)), &times(1, Some(3)), None);
    check(&times(1, Some(3)), &times(1, Some(2)), Some("ababab"));
    check(&times(2, None), &times(1, None), None);
    check(&times(1, None), &times(2, None), Some("ab"));
    check(&times(0, Some(0)), &times(1, None), None);
}

#[test]
fn a_few_words_are_told_all_and_many_are_not() {
    let few = whole(vec![Part::Branches(vec![literal("ann"), literal("bob")])]);
    let texts = |words: Option<Vec<Vec<u8>>>| {
        words.map(|words| {
            words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect::<Vec<_>>()
        })
    };
    assert_eq!(texts(few.all_words(10, &Effort::default())).unwrap(), ["ann", "bob"]);
    let digit = || Part::Byte(ByteSet::of(|byte| byte.is_ascii_digit()));
    assert_eq!(whole(vec![digit()]).all_words(10, &Effort::default()).unwrap().len(), 10);
    assert!(whole(vec![digit()]).all_words(9, &Effort::default()).is_none());
    assert!(whole(vec![dots()]).all_words(1000, &Effort::default()).is_none());
    // A pattern that only the empty name would match has no word at all.
    assert_eq!(whole(vec![]).all_words(10, &Effort::default()).unwrap().len(), 0);
}

#[test]
fn marks_are_placed_in_one_way_or_in_several() {
    let marked = |before: Part, within: Part, after: Part| {
        Language::of(&Part::Row(vec![before, Part::Mark, within, Part::Mark, after])).unwrap()
    };
    let no_at = || any(Part::Byte(ByteSet::of(|byte| byte != b'@')));
    let nothing = || Part::Row(Vec::new());
    let is_one = |language: &Language| is_marked_in_one_way(language, &Effort::default());
    let realm = marked(nothing(), dots(), literal("@corp"));
    let named = marked(nothing(), no_at(), literal("@corp"));
    assert!(is_one(&realm) && is_one(&named));
    assert!(is_one(&marked(no_at(), literal("@"), no_at())));
    assert!(!is_one(&marked(dots(), literal("@"), dots())));
    assert!(!is_one(&marked(nothing(), dots(), dots())));
    assert!(!is_one(&marked(any(literal("a")), any(literal("a")), nothing())));
    // With its marks, the one is a part of the other.
    let effort = Effort::default();
    assert_eq!(words(&[&named], &[&realm], 1, &effort), Words::None);
    assert!(matches!(words(&[&realm], &[&named], 1, &effort), Words::Some(_)));
    let shifted = marked(literal("a"), dots(), literal("@corp"));
    assert!(matches!(words(&[&shifted], &[&realm], 1, &effort), Words::Some(_)));
}

/// What takes `most` steps, and ends without an answer when there is one less.
#[track_caller]
fn costs(most: usize, work: impl Fn(&Effort<'_>)) {
    let effort = Effort::of(most);
    work(&effort);
    assert!(effort.is_spent(), "it costs {} less than {most}", effort.left());
}

#[test]
fn all_that_can_be_much_is_paid_for() {
    let letters = |count: usize| "abcdefghij".repeat(count.div_ceil(10));
    let long = whole(vec![literal(&letters(10_000))]);
    let many: Vec<Language> =
        (0..200).map(|number| whole(vec![dots(), literal(&number.to_string())])).collect();
    let many: Vec<&Language> = many.iter().collect();
    let own = whole(vec![dots()]);
    // To begin a walk is work, also where one step would end it.
    costs(10_000, |effort| drop(words(&[&long], &[], 1, effort)));
    costs(4000, |effort| drop(words(&[&own], &many, 1, effort)));
    // An automaton that is nowhere is looked at in each step.
    let long = whole(vec![literal(&letters(100))]);
    let others = vec![&own; 200];
    costs(20_000, |effort| drop(words(&[&long], &others, 1, effort)));
    // A part in a part in a part, and ways that need no byte.
    let deep = (0..1000).fold(literal("a"), |part, _| any(Part::Row(vec![part, literal("b")])));
    costs(4000, |effort| drop(Language::within(&deep, effort)));
    let nothing = (0..4000).map(|_| any(Part::Row(Vec::new()))).collect();
    let nothing = Language::of(&Part::Row(vec![Part::Row(nothing), dots()])).unwrap();
    costs(8000, |effort| drop(words(&[&nothing], &[], 1, effort)));
    let wide = Part::Branches(vec![literal("a"); 3000]);
    let wide = Language::of(&Part::Row(vec![Part::Mark, wide, Part::Mark])).unwrap();
    costs(9_000_000, |effort| assert!(!is_marked_in_one_way(&wide, effort)));
    let ways = |count| Part::Branches((0..count).map(|way| literal(&way.to_string())).collect());
    let words = whole(vec![ways(150), literal(&letters(200))]);
    costs(100_000, |effort| drop(words.all_words(200, effort)));
    costs(200, |effort| drop(words.prefix(effort)));
}

/// Words that were left out for want of effort would be names that nobody looks at.
#[test]
fn all_words_are_all_of_them_or_none_however_little_effort_there_is() {
    let ways = || Part::Branches(vec![literal("_"), literal("_")]);
    let few = Part::Repeat { part: Box::new(ways()), min: 0, max: Some(3) };
    let many = Part::Repeat { part: Box::new(few), min: 2, max: Some(2) };
    let language = whole(vec![literal("bcd"), many, literal("__")]);
    let all = language.all_words(10, &Effort::default()).unwrap();
    assert_eq!(all.len(), 7);
    let found: Vec<_> =
        (0..5000).filter_map(|steps| language.all_words(10, &Effort::of(steps))).collect();
    assert!(!found.is_empty() && found.len() < 5000, "{}", found.len());
    assert!(found.iter().all(|words| *words == all));
}

#[test]
fn a_walk_that_is_too_long_says_so() {
    // The n-th byte before the end is an `a`: 2^n sets of states.
    let far = |byte: &str, count: u32| {
        let part = Box::new(Part::Byte(ByteSet::ALL));
        let tail = Part::Repeat { part, min: count, max: Some(count) };
        whole(vec![dots(), literal(byte), tail])
    };
    let effort = Effort::default();
    let beyond = |one: &str, other: &str| words(&[&far(one, 40)], &[&far(other, 40)], 1, &effort);
    assert_eq!(beyond("a", "a"), Words::NotFound);
    let none = Effort::of(0);
    assert_eq!(words(&[&whole(vec![dots()])], &[], 1, &none), Words::NotFound);
    let is_called_off = Cell::new(false);
    let off = || is_called_off.get();
    let effort = Effort::until(&off);
    let all = whole(vec![dots()]);
    assert!(matches!(words(&[&all], &[], 1, &effort), Words::Some(_)));
    is_called_off.set(true);
    assert_eq!(words(&[&all], &[], 1, &effort), Words::NotFound);
    is_called_off.set(false);
    assert!(effort.is_spent(), "what was called off stays so");
    assert!(
        Language::of(&Part::Repeat {
            part: Box::new(literal(&"a".repeat(1000))),
            min: 255,
            max: Some(255),
        })
        .is_none()
    );
}

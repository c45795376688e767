//! Each answer here was given by PostgreSQL 13, 14 and 18; tests/mapping.rs asks running servers.

use super::read::NESTING;
use super::*;

/// What a pattern says of a name.
#[derive(Debug, PartialEq)]
enum Says<'name> {
    No,
    /// It matches, and there is no group 1 or it took no part.
    Unset,
    Group(&'name str),
}
use Says::{Group, No, Unset};

fn compile(pattern: &str, dialect: Dialect) -> Pattern {
    Pattern::compile(pattern.as_bytes(), dialect, Use::Capture)
        .unwrap_or_else(|flaw| panic!("{pattern}: {flaw:?}"))
}

fn ask<'name>(pattern: &str, name: &'name str, dialect: Dialect) -> Says<'name> {
    let compiled = compile(pattern, dialect);
    let capture = compiled.matches(name.as_bytes(), Use::Capture);
    let only_match = Pattern::compile(pattern.as_bytes(), dialect, Use::Match).unwrap();
    let matches = only_match.matches(name.as_bytes(), Use::Match) != Match::No;
    assert_eq!(matches, capture != Match::No, "{pattern} on {name:?}");
    match capture {
        Match::No => No,
        Match::Yes(None) => Unset,
        Match::Yes(Some(group)) => Group(std::str::from_utf8(group).unwrap()),
        Match::Fails(reason) => panic!("{pattern} on {name:?}: {reason}"),
    }
}

#[track_caller]
fn check(cases: &[(&str, &str, Says<'_>)]) {
    for (pattern, name, expected) in cases {
        for dialect in Dialect::ALL {
            let found = ask(pattern, name, dialect);
            assert_eq!(found, *expected, "{pattern} on {name:?} by PostgreSQL {dialect}");
        }
    }
}

/// A pattern that is refused: the flaw is where `part` begins.
#[track_caller]
fn check_refused(pattern: &str, part: &str, message: &str, twin: &str) {
    for dialect in Dialect::ALL {
        let flaw = Pattern::compile(pattern.as_bytes(), dialect, Use::Match).unwrap_err();
        assert_eq!(flaw.at, pattern.find(part).unwrap(), "{pattern}: {flaw:?}");
        assert!(flaw.message.contains(message), "{pattern}: {flaw:?}");
        assert!(!flaw.hint.is_empty(), "{pattern}: {flaw:?}");
        compile(twin, dialect);
    }
}

#[test]
fn the_longest_match_is_taken_and_not_the_first() {
    check(&[
        ("^(svc|svc-app)-(.*)$", "svc-app-prod", Group("svc-app")),
        ("^(a|ab)(c|bcd)(d*)$", "abcd", Group("ab")),
        ("^(a?(?:ab)?)(.*)$", "abb", Group("ab")),
        ("^(.?(?:abc|b))(.*)$", "abcd", Group("abc")),
        ("(q|q@y)@", "q@y@x", Group("q@y")),
        ("^(foo|foobar)(bar)?", "foobar", Group("foobar")),
        ("(|a)b", "ab", Group("a")),
    ]);
}

#[test]
fn the_first_quantifier_of_a_branch_sets_the_preference_of_the_whole() {
    check(&[
        ("Y*?([0-9]{1,3})", "XY1234Z", Group("1")),
        ("(.*?)(\\d+)", "abc123", Group("abc")),
        ("^(?:(.*?)X)(.*)", "aXbXc", Group("a")),
        ("^(.*?)@(.*)$", "a@b@c", Group("a")),
        ("(?:a){1,1}?(b*)", "abbb", Group("")),
        ("(?:a){1}?(b*)", "abbb", Group("bbb")),
        ("(?:a*?|b)(c*)", "aacc", Group("cc")),
        ("(a*?|b)c", "aac", Group("aa")),
    ]);
}

#[test]
fn a_match_begins_as_early_as_it_can_and_anywhere_without_an_anchor() {
    check(&[
        ("b", "abc", Unset),
        ("(b+)", "abbc", Group("bb")),
        ("a|(b)", "b", Group("b")),
        ("a|(b)", "ba", Group("b")),
        ("a|(b)", "ab", Unset),
        ("^alice$", "alice\nbob", No),
        ("", "anything", Unset),
        ("()", "", Group("")),
    ]);
}

#[test]
fn of_a_repeated_group_the_last_time_counts() {
    check(&[
        ("(a|ab|abc)*", "abcab", Group("ab")),
        ("^(ab|a|b)*$", "abab", Group("ab")),
        ("^(?:(a)|b)*$", "ab", Unset),
        ("^(?:(a)|b)+$", "ab", Unset),
        ("^(?:(a)|b)*$", "ba", Group("a")),
        ("^((a)|(ab))*$", "aab", Group("ab")),
        ("(x|(a|ab)+)y", "aabay", Group("aaba")),
        ("^(a|b){0,2}?c", "abc", Group("b")),
        ("^(foo)?(bar)$", "bar", Unset),
        ("(a){0}(b)", "b", Unset),
    ]);
}

#[test]
fn a_group_that_may_be_repeated_takes_an_empty_name_once_if_it_can() {
    check(&[("^(a*)*$", "", Group("")), ("^(a)*$", "", Unset), ("^(a*?)*$", "", Unset)]);
}

#[test]
fn places_are_asked_for_the_bytes_around_them() {
    check(&[
        ("\\m(b)", "a b", Group("b")),
        ("\\m(b)", "ab", No),
        ("(a)\\M", "ab a", Group("a")),
        ("(a)\\M", "ab", No),
        ("\\y(b)\\y", "a b", Group("b")),
        ("\\y(b)\\y", "ab", No),
        ("\\Y(b)", "ab", Group("b")),
        ("\\Y(b)", "b", No),
        ("[[:<:]](b)[[:>:]]", "a b", Group("b")),
        ("\\A(b)\\Z", "b", Group("b")),
        ("\\A(b)\\Z", "b\n", No),
    ]);
}

#[test]
fn look_around_asks_and_takes_nothing() {
    check(&[
        ("(?<=a)(b)", "ab", Group("b")),
        ("(?<!a)(b)", "ab", No),
        ("(?<!a)(b)", "cb", Group("b")),
        ("a(?!b)(.)", "abac", Group("c")),
        ("a(?=b)(.)", "acab", Group("b")),
        ("(?=(foo))f(o)", "foo", Group("o")),
    ]);
}

#[test]
fn names_are_bytes_and_letters_are_ascii() {
    check(&[
        ("^..$", "é", Unset),
        ("^.$", "é", No),
        ("[é]", "é", Unset),
        ("(?i)É", "é", No),
        ("(?i)(É)", "É", Group("É")),
        ("\\w", "é", No),
        ("[[:cntrl:]]", "é", No),
        ("[[:ascii:]]", "é", No),
    ]);
}

#[test]
fn escapes_and_brackets_are_postgresql_s_own() {
    check(&[
        ("\\x41", "A", Unset),
        ("\\x00041", "A", Unset),
        ("\\u0041(b)", "Ab", Group("b")),
        ("\\U00000041", "A", Unset),
        ("\\u20AC", "€", No),
        ("\\0101", "\u{8}1", Unset),
        ("\\cA", "\u{1}", Unset),
        ("\\e", "\u{1b}", Unset),
        ("\\B", "\\", Unset),
        ("\\b", "\u{8}", Unset),
        ("[\\n]", "\n", Unset),
        ("[[.a.]-c]", "b", Unset),
        ("[[=a=]]", "a", Unset),
        ("[+--]", ",", Unset),
        ("[a-]", "-", Unset),
        ("[]-a]", "^", Unset),
        ("[a&&b]", "&", Unset),
        ("a{,2}", "a{,2}", Unset),
        ("a{", "a{", Unset),
        ("(?#x)(a)(?#y)*", "aa", Group("a")),
        ("[[:cntrl:]]", "\u{7f}", Unset),
    ]);
}

#[test]
fn options_hold_for_the_whole_pattern() {
    check(&[
        ("(?i)(A)b", "aB", Group("a")),
        ("(?i)[[:lower:]]", "A", Unset),
        ("(?i)[a-c]", "B", Unset),
        ("(?ic)a", "A", No),
        ("(?x)a (b) # c", "ab", Group("b")),
        ("(?n)^(b)$", "a\nb\nc", Group("b")),
        ("(?w)^(b).", "a\nb\n", Group("b")),
        ("(?p)^(.)", "\n", No),
        ("(?p)[^a]", "\n", No),
        ("[^a]", "\n", Unset),
        ("(?ns)^b$", "a\nb", No),
        ("***:(?i)(A)", "a", Group("a")),
        ("***=a.(b)", "xa.(b)x", Unset),
        ("(?q)a.b", "a.b", Unset),
        ("(?q)a.b", "axb", No),
        ("(?qi)a.b", "A.B", Unset),
    ]);
}

#[test]
fn releases_differ_in_complemented_classes_and_one_corner_of_preference() {
    for dialect in Dialect::ALL {
        let old = dialect.major() < 14;
        assert_eq!(ask("(?p)(\\D)", "\n", dialect), if old { No } else { Group("\n") });
        assert_eq!(ask("(?p)(\\W)", "\n", dialect), if old { No } else { Group("\n") });
        let compiles =
            |pattern: &str| Pattern::compile(pattern.as_bytes(), dialect, Use::Match).is_ok();
        assert_eq!(compiles("[\\W]"), !old);
        assert_eq!(compiles("[[:word:]]"), !old);
        assert!(compiles("[\\w]"));
        let capture = if old { Group("a") } else { Group("abbb") };
        assert_eq!(ask("(((a){1,1}?)b*)", "abbb", dialect), capture);
    }
}

#[test]
fn what_postgresql_refuses_is_refused_with_its_place() {
    check_refused("a+*", "*", "quantifier", "(?:a+)*");
    check_refused("a*?+", "+", "quantifier", "(?:a*?)+");
    check_refused("(*a)", "*", "quantifier", "(\\*a)");
    check_refused("^*", "*", "constraint", "\\^*");
    check_refused("(?=a)+", "+", "constraint", "(?:(?=a))+");
    check_refused("a{2,1}", "{2", "bound", "a{1,2}");
    check_refused("a{1,256}", "{1", "bound", "a{1,255}");
    check_refused("a{1x}", "{1", "bound", "a\\{1x}");
    check_refused("(a", "(", "not closed", "(a)");
    check_refused("a)", ")", "closes no group", "a\\)");
    check_refused("[a", "[", "not closed", "[a]");
    check_refused("[b-a]", "b", "range", "[a-b]");
    check_refused("[a-c-e]", "-e", "middle", "[a-ce-]");
    check_refused("[\\w-a]", "-a", "cannot begin a range", "[\\w-]");
    check_refused("[[:foo:]]", "[:", "no such class", "[[:alpha:]]");
    check_refused("[\\m]", "\\m", "place", "[m]");
    check_refused("a\\", "\\", "escapes nothing", "a\\\\");
    check_refused("\\q", "\\q", "no such escape", "q");
    check_refused("\\z", "\\z", "no `\\z`", "\\Z");
    check_refused("\\xg", "\\x", "number", "\\xa");
    check_refused("\\u123", "\\u", "number", "\\u1234");
    check_refused("(?>a)", "(?>", "atomic", "(?:a)");
    check_refused("a(?i)b", "(?i", "beginning", "(?i)ab");
    check_refused("(?i:a)", ":a", "option", "(?i)a");
    check_refused("(?k)a", "k", "option", "(?i)a");
    check_refused("(?<name>a)", "(?<n", "named", "(a)");
    check_refused("(?P<name>a)", "P", "named", "(a)");
    check_refused("***a", "***", "director", "***:a");
}

#[test]
fn what_is_not_evaluated_here_is_refused_with_its_place() {
    check_refused("(a)\\1", "\\1", "back references", "(a)a");
    check_refused("(?e)a", "e", "syntax", "(?i)a");
    check_refused("[[.hyphen.]]", "[.", "collating", "[-]");
    check_refused("(?:a{255}){5}", "(?:", "more than 1024", "a{255}");
    check_refused(&"(?:^$\\m\\M)*".repeat(4), "(?:", "constraints", "(?:^$\\m)*");
}

#[test]
fn patterns_have_bounds() {
    let refused = |pattern: String| {
        Pattern::compile(pattern.as_bytes(), Dialect::default(), Use::Match).unwrap_err()
    };
    let nested = |depth| "(".repeat(depth) + &")".repeat(depth);
    compile(&nested(NESTING), Dialect::default());
    assert_eq!(refused(nested(NESTING + 1)).at, NESTING);
    assert_eq!(refused(nested(2000)).at, NESTING);
    compile(&"a*".repeat(PATTERN_STEPS), Dialect::default());
    assert_eq!(refused("a".repeat(PATTERN_BYTES + 1)).at, PATTERN_BYTES);
}

#[test]
fn a_name_that_takes_too_much_work_is_denied_and_says_so() {
    let pattern = compile("^((?:a?b?)*?)*(?:a|b)*?(?=a*b*$)(.*)$", Dialect::default());
    let long = "ab".repeat(20_000);
    assert!(matches!(pattern.matches(long.as_bytes(), Use::Capture), Match::Fails(_)));
    let short = "ab".repeat(10);
    assert!(matches!(pattern.matches(short.as_bytes(), Use::Capture), Match::Yes(Some(_))));
}

/// An index of lines leaves the name out for them, and whoever asks without one is told the same.
#[test]
fn a_name_without_the_letters_of_every_match_does_not_match_however_much_work_it_is() {
    let pattern = compile("^((?:a?b?)*?)*(?:a|b)*?(?=a*b*$)(.*)Zz$", Dialect::default());
    let long = "ab".repeat(20_000);
    assert_eq!(pattern.matches(long.as_bytes(), Use::Match), Match::No);
    let with_letters = long + "Zz";
    assert!(matches!(pattern.matches(with_letters.as_bytes(), Use::Match), Match::Fails(_)));
}

#[test]
fn letters_that_every_match_holds_are_known() {
    let needles = |pattern: &str| -> Vec<String> {
        let compiled = compile(pattern, Dialect::default());
        compiled.needles().map(|needle| String::from_utf8(needle.to_vec()).unwrap()).collect()
    };
    assert_eq!(needles(r"^svc-([a-z]+)@CORP\.TEST$"), ["svc-", "@corp.test"]);
    assert_eq!(needles("a(b)c\\Md"), ["abcd"]);
    assert_eq!(needles("(?i)Ab"), ["ab"]);
    assert_eq!(needles("ab?c"), ["a", "c"]);
    assert_eq!(needles("a(?:b|c)d"), ["a", "d"]);
    assert_eq!(needles("ab|ac"), [""; 0]);
    assert_eq!(needles(".*"), [""; 0]);
}

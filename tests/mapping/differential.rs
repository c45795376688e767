//! Random map files and names, decided by real logins and by us.
//!
//! A file that we accept must be accepted by the server, which must then answer each login as we
//! do. A file that we refuse must be refused by the server too, unless we refuse it for a regular
//! expression: those are counted.

use std::collections::BTreeSet;

use pgbridge::mapping::{IdentMap, MapDecision, MapMistake};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use super::generator::{Fragment, Generator, ROLES_SQL, ROLES_SQL_16};
use super::login::Loaded;
use super::oracle::{Asked, Oracle, agree, listed, shown, shrink};
use super::rows::{compare_rows, lines_with_mistakes, prepare_rows, server_names};
use super::{cases, dice};

/// The maps that a server knows.
const MAPS: [&str; 60] = [
    "m0",
    "m1",
    "m2",
    "m3",
    "m4",
    "m5",
    "m6",
    "m7",
    "m8",
    "m9",
    "m10",
    "m11",
    "m12",
    "m13",
    "m14",
    "m15",
    "m16",
    "m17",
    "m18",
    "m19",
    "m20",
    "m21",
    "m22",
    "m23",
    "m24",
    "m25",
    "m26",
    "m27",
    "m28",
    "m29",
    "m30",
    "m31",
    "m32",
    "m33",
    "m34",
    "m35",
    "m36",
    "m37",
    "m38",
    "m39",
    "m40",
    "m41",
    "m42",
    "m43",
    "m44",
    "M44",
    "include",
    "include_dir",
    "all",
    "+readers",
    "/m",
    "we ird",
    "x#y",
    "a,b",
    "q\"uote",
    "tab\there",
    "\u{e9}",
    "back\\slash",
    "@file",
    "a_rather_long_map_name",
];

/// Logins for each fragment, at most, that we would allow, and that we would not.
const ALLOWED: usize = 8;
const DENIED: usize = 5;

/// A name of so many bytes or more may be too long for a regular expression.
const LONG_NAME: usize = 1000;

/// What a random byte may make of a file that servers accept, in words of our refusal.
const REFUSED_ON_PURPOSE: [&str; 3] =
    ["the name of a file is not UTF-8", "a NUL byte", "it is a directory"];

/// What was compared.
#[derive(Default, Debug)]
struct Tally {
    files: usize,
    fragments: usize,
    refused_by_both: usize,
    refused_here_only: usize,
    refused_on_purpose: usize,
    mistakes: usize,
    rows: usize,
    allowed: usize,
    denied: usize,
    failed: usize,
    beyond: usize,
}

impl Tally {
    fn logins(&self) -> usize {
        self.allowed + self.denied + self.failed
    }
}

fn logins_decide_alike(major: u32) {
    let wanted = cases(2000);
    let mut dice = StdRng::seed_from_u64(dice().random::<u64>() ^ u64::from(major));
    let sql = if major >= 16 { [ROLES_SQL, ROLES_SQL_16].concat() } else { ROLES_SQL.to_owned() };
    let oracle = Oracle::start(major, &MAPS, &sql);
    prepare_rows(&oracle);
    let mut tally = Tally::default();
    while tally.logins() < wanted {
        one_file(&oracle, &mut dice, &mut tally);
    }
    println!("PostgreSQL {major}: {} logins alike, {tally:?}", tally.logins());
    let least = tally.logins() / 5;
    assert!(tally.allowed >= least && tally.denied >= least, "one-sided: {tally:?}");
    assert!(tally.failed > 0 && tally.refused_by_both > 0, "too tame: {tally:?}");
    let shows_rows = major >= 15;
    assert!(!shows_rows || tally.mistakes > 0 && tally.rows > 0, "nothing to read: {tally:?}");
}

#[test]
fn logins_are_decided_as_postgresql_13_decides() {
    logins_decide_alike(13);
}

#[test]
fn logins_are_decided_as_postgresql_14_decides() {
    logins_decide_alike(14);
}

#[test]
fn logins_are_decided_as_postgresql_15_decides() {
    logins_decide_alike(15);
}

#[test]
fn logins_are_decided_as_postgresql_16_decides() {
    logins_decide_alike(16);
}

#[test]
fn logins_are_decided_as_postgresql_17_decides() {
    logins_decide_alike(17);
}

#[test]
fn logins_are_decided_as_postgresql_18_decides() {
    logins_decide_alike(18);
}

/// Makes a fragment for each map, sorts out what we refuse, and compares the rest as one file.
fn one_file(oracle: &Oracle, dice: &mut StdRng, tally: &mut Tally) {
    let major = oracle.server.major;
    let mut whole = Vec::new();
    for (index, map) in MAPS.iter().enumerate() {
        let directory = format!("g{}/f{index}", tally.files);
        let fragment = Generator::new(dice, major).fragment(map, &directory);
        for (path, content) in &fragment.files {
            oracle.server.write(path, content);
        }
        tally.fragments += 1;
        match oracle.ours_of(&fragment.text) {
            Ok(_) => whole.push((index, fragment)),
            Err(_) => compare_refusal(oracle, &fragment, tally),
        }
    }
    tally.files += 1;
    // Two line ends: the first may be joined to the last line of a fragment.
    let texts: Vec<_> =
        whole.iter().map(|(_, fragment)| [&fragment.text, &b"\n\n"[..]].concat()).collect();
    let text = texts.concat();
    if let Loaded::Refused(words) = oracle.server.load(&text) {
        accepted_here_only(oracle, &text, &words);
    }
    let ours = oracle.ours().unwrap_or_else(|mistakes| {
        panic!("each part is accepted alone, but not all of them:\n{}", listed(&mistakes))
    });
    tally.rows += compare_rows(oracle, &ours, &text);
    let mut questions = Vec::new();
    for (index, fragment) in &whole {
        questions.extend(questions_of(oracle, &ours, *index, fragment, dice));
    }
    for (asked, said) in questions.iter().zip(oracle.ask(&questions)) {
        let decision = oracle.decide(&ours, asked);
        if is_beyond_us(asked, &decision) {
            tally.beyond += 1;
            continue;
        }
        if !agree(&said, &decision) {
            differs(oracle, &text, asked);
        }
        match decision {
            MapDecision::Allowed(_) => tally.allowed += 1,
            MapDecision::NoMatch => tally.denied += 1,
            MapDecision::Failed { .. } => tally.failed += 1,
        }
    }
}

/// Whether we deny because the name is longer than we are willing to work for.
fn is_beyond_us(asked: &Asked, decision: &MapDecision) -> bool {
    let is_long = asked.user.len().max(asked.role.len()) >= LONG_NAME;
    let gave_up = |reason: &str| reason.ends_with("too long for the regular expression");
    is_long && matches!(decision, MapDecision::Failed { reason, .. } if gave_up(reason))
}

/// A fragment that we refuse: the server refuses it too, or a regular expression is why.
fn compare_refusal(oracle: &Oracle, fragment: &Fragment, tally: &mut Tally) {
    let loaded = oracle.server.load(&fragment.text);
    let on_purpose = |text: &[u8]| {
        oracle.ours_of(text).is_err_and(|mistakes| mistakes.iter().all(is_on_purpose))
    };
    match loaded {
        Loaded::Refused(_) => {
            tally.refused_by_both += 1;
            tally.mistakes += compare_mistakes(oracle, fragment);
        }
        Loaded::Whole if on_purpose(&fragment.text) => tally.refused_on_purpose += 1,
        Loaded::Whole if refused_for_a_pattern(oracle, fragment) => tally.refused_here_only += 1,
        Loaded::Whole => {
            let text = shrink(&fragment.text, |text| {
                oracle.ours_of(text).is_err()
                    && matches!(oracle.server.load(text), Loaded::Whole)
                    && !on_purpose(text)
                    && !refused_for_a_pattern(oracle, fragment)
            });
            let mistakes = oracle.ours_of(&text).expect_err("we refuse it");
            panic!(
                "PostgreSQL {} accepts {}, we do not:\n{}{}",
                oracle.server.major,
                shown(&text),
                listed(&mistakes),
                files_of(fragment),
            );
        }
    }
}

/// Whether we refuse what a server may accept, for a reason that is held by
/// `edges::what_a_server_would_misread_is_refused`.
fn is_on_purpose(mistake: &MapMistake) -> bool {
    REFUSED_ON_PURPOSE.iter().any(|words| mistake.message.contains(words))
}

/// A fragment in one file that both refuse: each line that the server finds a mistake in has one of
/// ours, and ours are in no other lines but those with an expression. Gives how many lines that are.
fn compare_mistakes(oracle: &Oracle, fragment: &Fragment) -> usize {
    if oracle.server.major < 15 || !fragment.files.is_empty() {
        return 0;
    }
    let theirs = lines_with_mistakes(oracle);
    let mistakes = oracle.ours_of(&fragment.text).expect_err("we refuse it");
    // A mistake of ours is where it is; a row is where its line begins.
    let begin = |line: u32| theirs.range(..=line).next_back().map_or(line, |(line, _)| *line);
    let ours: BTreeSet<_> = mistakes.iter().map(|mistake| begin(mistake.line)).collect();
    let place = format!("PostgreSQL {}: {}", oracle.server.major, shown(&fragment.text));
    for (line, mistaken) in &theirs {
        let found = ours.contains(line);
        assert!(found || !mistaken, "{place}: line {line} has a mistake:\n{}", listed(&mistakes));
    }
    for mistake in mistakes.iter().filter(|mistake| !is_on_purpose(mistake)) {
        let line = &begin(mistake.line);
        let is_theirs = theirs.get(line) == Some(&true);
        let has_pattern = fragment.may_have_patterns();
        assert!(is_theirs || has_pattern, "{place}: line {line} has none:\n{}", listed(&mistakes));
    }
    ours.len()
}

/// Whether the server, which has loaded `text`, has an expression in it that we refuse also when it
/// stands alone. What it has is seen in its view, or, up to 14, known from who wrote the text.
fn refused_for_a_pattern(oracle: &Oracle, fragment: &Fragment) -> bool {
    if oracle.server.major < 15 {
        let known = fragment.patterns.iter().any(|pattern| is_refused_alone(oracle, pattern));
        return known || fragment.damaged && fragment.may_have_patterns();
    }
    server_names(oracle)
        .iter()
        .any(|name| name.strip_prefix(b"/").is_some_and(|it| is_refused_alone(oracle, it)))
}

/// Whether an expression is refused in the simplest line there is for it.
fn is_refused_alone(oracle: &Oracle, pattern: &[u8]) -> bool {
    let quoted = [b"\"/", &doubled_quotes(pattern)[..], b"\""].concat();
    let lines = [[b"m ", &quoted[..], b" \\1"].concat(), [b"m u ", &quoted[..]].concat()];
    lines.iter().any(|line| oracle.ours_of(line).is_err())
}

fn doubled_quotes(bytes: &[u8]) -> Vec<u8> {
    bytes
        .iter()
        .flat_map(|byte| if *byte == b'"' { &b"\"\""[..] } else { std::slice::from_ref(byte) })
        .copied()
        .collect()
}

fn accepted_here_only(oracle: &Oracle, text: &[u8], words: &str) -> ! {
    let text = shrink(text, |text| {
        oracle.ours_of(text).is_ok() && matches!(oracle.server.load(text), Loaded::Refused(_))
    });
    let text = shown(&text);
    panic!("PostgreSQL {} refuses {text}, we do not; at first:\n{words}", oracle.server.major);
}

/// Tells of a difference in as few lines as show it.
fn differs(oracle: &Oracle, text: &[u8], asked: &Asked) -> ! {
    let differ = |text: &[u8]| match oracle.both(text, asked) {
        (Ok(said), Some(decision)) => !agree(&said, &decision),
        _ => false,
    };
    let text = shrink(text, differ);
    let (said, decision) = oracle.both(&text, asked);
    panic!(
        "PostgreSQL {}, map {}, user {}, role {}: the server says {said:?}, we say {decision:?} of\n{}\n\
         (included files are as the seed makes them)",
        oracle.server.major,
        oracle.name(asked.map),
        short(&asked.user),
        short(&asked.role),
        shown(&text),
    );
}

fn short(name: &[u8]) -> String {
    if name.len() < 500 {
        shown(name)
    } else {
        format!("{} bytes like {}", name.len(), shown(&name[..9]))
    }
}

fn files_of(fragment: &Fragment) -> String {
    let files = fragment.files.iter();
    let lines = files.map(|(path, content)| format!("{}: {}", path.display(), shown(content)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Whom to ask about: users and roles that the fragment speaks of, and pieces of the users where
/// it has a `\1`.
fn questions_of(
    oracle: &Oracle,
    ours: &IdentMap,
    map: usize,
    fragment: &Fragment,
    dice: &mut StdRng,
) -> Vec<Asked> {
    let users: BTreeSet<_> = fragment.users.iter().filter(|user| is_askable(user)).collect();
    let (mut allowed, mut denied) = (Vec::new(), Vec::new());
    for user in users {
        let mut roles: BTreeSet<Vec<u8>> = fragment.roles.iter().cloned().collect();
        for piece in pieces(user, dice) {
            for template in &fragment.templates {
                roles.insert(filled(template, piece));
            }
            roles.insert(piece.to_vec());
        }
        let mut roles: Vec<_> = roles.into_iter().filter(|role| is_askable(role)).collect();
        if user.len() >= LONG_NAME {
            roles.shuffle(dice);
            roles.truncate(5);
        }
        for role in roles {
            let asked = Asked { map, user: user.clone(), role };
            match oracle.decide(ours, &asked) {
                MapDecision::Allowed(_) => allowed.push(asked),
                MapDecision::NoMatch | MapDecision::Failed { .. } => denied.push(asked),
            }
        }
    }
    allowed.shuffle(dice);
    denied.shuffle(dice);
    allowed.truncate(ALLOWED);
    denied.truncate(DENIED.max(allowed.len()));
    allowed.extend(denied);
    allowed
}

/// A name that a certificate, and a start-up packet, can hold and that is looked at.
fn is_askable(name: &[u8]) -> bool {
    !name.is_empty() && !name.contains(&0)
}

/// All pieces of a short user, some of a long one.
fn pieces<'user>(user: &'user [u8], dice: &mut StdRng) -> Vec<&'user [u8]> {
    let ends: Vec<_> = (0..=user.len()).collect();
    let ends: Vec<_> = ends.choose_multiple(dice, 12).copied().chain([0, user.len()]).collect();
    let pairs = ends.iter().flat_map(|begin| ends.iter().map(move |end| (*begin, *end)));
    pairs.filter_map(|(begin, end)| user.get(begin..end)).collect()
}

/// The template with its first `\1` replaced.
fn filled(template: &[u8], piece: &[u8]) -> Vec<u8> {
    let Some(at) = template.windows(2).position(|two| two == b"\\1") else {
        return template.to_vec();
    };
    [&template[..at], piece, &template[at + 2..]].concat()
}

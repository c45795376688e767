use super::*;

const GRACE: SignedDuration = SignedDuration::from_secs(100);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn person(account: &str) -> Principal {
    Principal::Ldap { directory: "corp".parse().unwrap(), account: account.to_owned() }
}

/// Alice, logged in at `seconds`, in `groups`.
fn alice(seconds: i64, groups: &[&str]) -> Identity {
    let identity = serde_json::json!({
        "principal": person("alice"),
        "groups": groups,
        "authenticated_at": at(seconds),
        "expires_at": at(seconds + 28_800),
    });
    Identity::from_session_json(&identity.to_string()).unwrap()
}

fn reason(word: &'static str) -> Reason {
    Reason { word, detail: word.to_owned() }
}

fn known(looks: &Looks) -> Known {
    looks.known(&person("alice"))
}

#[test]
fn a_look_is_good_for_as_long_as_who_asks_says() {
    let looks = Looks::default();
    looks.note_login(&alice(10, &["a"]), at(10));
    let within = |now, limit| known(&looks).within(at(now), SignedDuration::from_secs(limit));
    assert_eq!(within(12, 2), Some(Look::Good(alice(10, &["a"]))));
    assert_eq!(within(13, 2), None);
    assert_eq!(within(13, 3), Some(Look::Good(alice(10, &["a"]))));
    assert_eq!(within(7, 2), None, "a clock that was set back makes nothing fresh");
    assert_eq!(looks.known(&person("bob")).within(at(10), GRACE), None);
}

#[test]
fn what_was_seen_later_counts_whoever_says_it_first() {
    let looks = Looks::default();
    looks.note(&person("alice"), at(20), Standing::Gone(reason("disabled")));
    looks.note_login(&alice(10, &["a"]), at(21));
    let now = at(21);
    assert_eq!(known(&looks).within(now, GRACE), Some(Look::Gone(reason("disabled"))));
    looks.note_login(&alice(30, &["a"]), at(30));
    assert_eq!(known(&looks).within(at(31), GRACE), Some(Look::Good(alice(30, &["a"]))));
}

#[test]
fn a_look_in_vain_is_not_tried_again_at_once_and_forgets_nothing() {
    let looks = Looks::default();
    looks.note_login(&alice(10, &["a"]), at(10));
    looks.note(&person("alice"), at(50), Standing::Unknown(reason("timeout")));
    let within = |now| known(&looks).within(at(now), FRESH);
    assert_eq!(within(52), Some(Look::Away(reason("timeout"))));
    assert_eq!(within(53), None);
    looks.note(&person("alice"), at(53), Standing::Good(alice(53, &["b"])));
    assert_eq!(within(53), Some(Look::Good(alice(53, &["b"]))));
}

#[test]
fn while_nobody_can_look_what_was_seen_last_counts_for_the_grace() {
    let meanwhile =
        |looks: &Looks, login: &Identity, now| known(looks).meanwhile(login, at(now), GRACE);
    let (looks, login) = (Looks::default(), alice(10, &["a"]));
    assert_eq!(meanwhile(&looks, &login, 110), Meanwhile::Counts(login.clone()));
    assert_eq!(meanwhile(&looks, &login, 111), Meanwhile::TooOld);
    looks.note(&person("alice"), at(60), Standing::Good(alice(60, &["b"])));
    // With the groups of the look, and the times of the login.
    assert_eq!(meanwhile(&looks, &login, 160), Meanwhile::Counts(alice(10, &["b"])));
    assert_eq!(meanwhile(&looks, &login, 161), Meanwhile::TooOld);
    looks.note(&person("alice"), at(70), Standing::Gone(reason("disabled")));
    assert_eq!(meanwhile(&looks, &login, 71), Meanwhile::Gone(reason("disabled")));
    assert_eq!(meanwhile(&looks, &alice(80, &["c"]), 81), Meanwhile::Counts(alice(80, &["c"])));
}

#[test]
fn whoever_waits_longest_is_judged_first_and_a_login_is_no_judgement() {
    let looks = Looks::default();
    let people: BTreeSet<_> = ["alice", "bob", "carol", "dave"].map(person).into();
    let due = |now, most| {
        let pace = Pace {
            every: SignedDuration::from_secs(60),
            after_trouble: SignedDuration::from_secs(10),
            most,
        };
        let due = looks.due(&people, at(now), pace);
        due.iter().map(|person| person.subject().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(due(0, 9), ["alice", "bob", "carol", "dave"]);
    looks.note_judged(&person("alice"), at(100));
    looks.note_judged(&person("carol"), at(50));
    looks.note_judged(&person("dave"), at(120));
    assert_eq!(due(120, 9), ["bob", "carol"]);
    assert_eq!(due(160, 9), ["bob", "carol", "alice"]);
    assert_eq!(due(160, 2), ["bob", "carol"]);
    looks.note_login(&alice(159, &[]), at(159));
    assert_eq!(due(160, 9), ["bob", "carol", "alice"]);
    looks.note(&person("dave"), at(120), Standing::Unknown(reason("timeout")));
    assert_eq!(due(129, 9), ["bob", "carol"]);
    assert_eq!(due(130, 9), ["bob", "carol", "dave"]);
}

#[test]
fn who_has_nothing_is_forgotten_after_a_while_and_who_has_something_is_not() {
    let looks = Looks::default();
    let corp = "corp".parse().unwrap();
    looks.note_login(&alice(0, &[]), at(0));
    looks.note(&person("bob"), at(0), Standing::Gone(reason("disabled")));
    let people: BTreeSet<_> = [person("alice")].into();
    looks.forget(&corp, &people, at(3599));
    assert_eq!(looks.all().len(), 2);
    looks.forget(&"other".parse().unwrap(), &people, at(3601));
    assert_eq!(looks.all().len(), 2);
    looks.forget(&corp, &people, at(3601));
    assert_eq!(looks.all().len(), 1);
    let oldest = |now, start| looks.oldest(&people, at(now), at(start)).as_secs();
    assert_eq!(oldest(40, 30), 40);
    let both: BTreeSet<_> = ["alice", "eve"].map(person).into();
    assert_eq!(looks.oldest(&both, at(40), at(-5)).as_secs(), 45);
    assert_eq!(looks.oldest(&BTreeSet::new(), at(40), at(0)).as_secs(), 0);
}

/// As when a broker whose clock is ahead has written a session, or ours was ahead and was set back.
#[test]
fn a_look_that_is_yet_to_come_is_no_look_and_a_newer_one_replaces_it() {
    let looks = Looks::default();
    looks.note_login(&alice(100, &["a"]), at(50));
    assert_eq!(known(&looks).within(at(100), GRACE), None, "it was taken from another clock");
    looks.note_login(&alice(100, &["a"]), at(100));
    assert_eq!(known(&looks).within(at(100), GRACE), Some(Look::Good(alice(100, &["a"]))));

    // The clock is set back to second 50.
    assert_eq!(known(&looks).within(at(50), GRACE), None);
    let login = alice(40, &["b"]);
    assert_eq!(known(&looks).meanwhile(&login, at(50), GRACE), Meanwhile::Counts(login));
    looks.note(&person("alice"), at(51), Standing::Gone(reason("disabled")));
    assert_eq!(known(&looks).within(at(51), GRACE), Some(Look::Gone(reason("disabled"))));
    // Also when nobody could look, by the clock that was ahead.
    looks.note(&person("alice"), at(200), Standing::Unknown(reason("timeout")));
    looks.note(&person("alice"), at(52), Standing::Good(alice(52, &[])));
    assert_eq!(looks.trouble(&[person("alice")].into()), None);
}

#[test]
fn who_is_missing_is_looked_up_again_soon_and_counts_as_missing_since_the_first_time() {
    let looks = Looks::default();
    let pace = Pace {
        every: SignedDuration::from_secs(60),
        after_trouble: SignedDuration::from_secs(10),
        most: 9,
    };
    let people: BTreeSet<_> = ["alice", "bob"].map(person).into();
    let missing = |seconds| {
        looks.note(&person("alice"), at(seconds), Standing::Missing(reason("unknown")));
        looks.note_judged(&person("alice"), at(seconds));
    };
    looks.note_login(&alice(0, &["a"]), at(0));
    looks.note(&person("bob"), at(5), Standing::Good(alice(5, &[])));
    looks.note_judged(&person("bob"), at(5));
    missing(10);
    assert_eq!(looks.due(&people, at(19), pace), []);
    assert_eq!(looks.due(&people, at(20), pace), [person("alice")]);
    missing(20);
    let corp = "corp".parse().unwrap();
    let found = looks.missing(&corp, at(21), GRACE);
    let alices = &found.people[&person("alice")];
    assert_eq!((alices.since, alices.seen_at, found.shown), (at(10), at(20), 0));
    looks.note(&person("bob"), at(30), Standing::Good(alice(30, &[])));
    assert_eq!(looks.missing(&corp, at(31), GRACE).shown, 1);
    assert_eq!(looks.missing(&"other".parse().unwrap(), at(31), GRACE).people.len(), 0);
    assert_eq!(looks.missing(&corp, at(121), GRACE).people.len(), 0);

    // Refused at once; shown again, all is as before.
    let login = alice(9, &["a"]);
    let meanwhile = |now| known(&looks).meanwhile(&login, at(now), GRACE);
    assert_eq!(meanwhile(21), Meanwhile::Missing(reason("unknown")));
    looks.note(&person("alice"), at(40), Standing::Good(alice(40, &["a"])));
    assert_eq!(meanwhile(41), Meanwhile::Counts(login.clone()));
    assert_eq!(looks.missing(&corp, at(41), GRACE).people.len(), 0);
}

//! Tickets of a real KDC, shown to the way in itself: who is let in and who is not.
//!
//! The cases of the security notes (C-060 to C-073), each refusal beside its accepted twin. What a
//! broker does with a ticket over HTTP is in [`http`], and what the program does with one in [`cli`].

mod active_directory;
mod cli;
mod http;
mod keys;
mod tokens;

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use pgbridge::auth::kerberos::{ChannelBinding, KerberosSettings, KerberosWay};
use pgbridge::auth::way::{EndPoint, Proven, Standing, Step, Way};
use pgbridge::clock::Clock;
use pgbridge::names::{LoginPassword, Shape};

use crate::support::initiator::{Heard, Initiator, Wishes};
use crate::support::kdc::{Kdc, REALM};

/// What tickets must be for.
const SERVICE: &str = "HTTP/localhost@CORP.TEST";

/// A ticket: the environment of a program that has it.
type Ticket = Vec<(&'static str, String)>;

/// A realm with the service and alice, who has a ticket.
struct Realm {
    kdc: Kdc,
    keytab: PathBuf,
    alice: Ticket,
}

impl Realm {
    fn start() -> Self {
        let kdc = Kdc::start();
        kdc.add(&["HTTP/localhost", "alice"]);
        let keytab = kdc.keytab("HTTP/localhost", "service.keytab");
        let alice = kdc.logged_in("alice", "alice");
        Self { kdc, keytab, alice }
    }

    fn settings(&self) -> KerberosSettings {
        KerberosSettings {
            name: "tickets".parse().unwrap(),
            service: SERVICE.parse().unwrap(),
            keytab: self.keytab.clone(),
            realms: vec![REALM.to_owned()],
            kdc: pgbridge::auth::kerberos::Kdc::Mit,
            shapes: vec![Shape::Person],
            channel_binding: ChannelBinding::Offered,
            lifetime: "8h".parse().unwrap(),
        }
    }

    fn way(&self) -> KerberosWay {
        KerberosWay::new(self.settings())
    }

    /// A token of somebody who has never been here, by a ticket that was just made.
    fn token_of(&self, principal: &str, cache: &str) -> Vec<u8> {
        token(&self.kdc.logged_in(principal, cache))
    }
}

fn token(ticket: &Ticket) -> Vec<u8> {
    Initiator::new(ticket, SERVICE, &Wishes::default()).token()
}

fn now() -> Timestamp {
    Clock::system().now()
}

/// Shows one token; it must end the negotiation, and the word of a refusal is told.
async fn show(way: &KerberosWay, token: Vec<u8>) -> Result<Proven, &'static str> {
    show_at(way, token, None).await
}

async fn show_at(
    way: &KerberosWay,
    token: Vec<u8>,
    end_point: Option<&EndPoint>,
) -> Result<Proven, &'static str> {
    let negotiation = way.tickets().unwrap().begin(now());
    match negotiation.step(token, end_point, now()).await {
        Ok(Step::Proven(proven)) => Ok(*proven),
        Ok(Step::Continue { .. }) => Err("goes on"),
        Err(unproven) => Err(unproven.reason().word),
    }
}

/// Who it is when somebody is let in, or the word of the refusal.
async fn who(way: &KerberosWay, token: Vec<u8>) -> Result<String, &'static str> {
    Ok(show(way, token).await?.identity.principal().to_string())
}

#[tokio::test]
async fn a_ticket_lets_its_owner_in_and_the_answer_says_who_let_them() {
    let realm = Realm::start();
    let way = realm.way();
    for without_spnego in [false, true] {
        let wishes = Wishes { without_spnego, ..Wishes::default() };
        let mut alice = Initiator::new(&realm.alice, SERVICE, &wishes);
        let proven = show(&way, alice.token()).await.unwrap();
        assert_eq!(proven.identity.principal().to_string(), "gss:alice@CORP.TEST");
        assert_eq!(proven.identity.principal().key(), "gss:tickets:alice@CORP.TEST");
        assert!(proven.identity.groups().is_empty() && proven.note.is_none());
        assert_eq!(alice.answer(&proven.reply), Heard::Complete);
    }
    // An answer that is another's does not pass.
    let mut alice = Initiator::new(&realm.alice, SERVICE, &Wishes::default());
    let (_, other) = (alice.token(), show(&way, token(&realm.alice)).await.unwrap());
    assert!(matches!(alice.answer(&other.reply), Heard::Failed(_)));
}

#[tokio::test]
async fn a_login_ends_with_its_ticket_or_before() {
    let realm = Realm::start();
    let short = realm.kdc.logged_in_with("alice", "short", &["-l", "1h"]);
    let way = realm.way();
    let left = async |ticket: &Ticket| {
        let proven = show(&way, token(ticket)).await.unwrap();
        assert!(proven.once.until > proven.identity.expires_at());
        proven.identity.expires_at().duration_since(now())
    };
    let by_ticket = left(&short).await;
    assert!(by_ticket <= SignedDuration::from_hours(1), "{by_ticket}");
    assert!(by_ticket > SignedDuration::from_mins(50), "{by_ticket}");
    assert!(left(&realm.alice).await > SignedDuration::from_hours(7));
}

#[tokio::test]
async fn nobody_is_looked_up_and_no_password_is_taken() {
    let realm = Realm::start();
    let way = realm.way();
    let proven = show(&way, token(&realm.alice)).await.unwrap();
    let standing = way.look_again(proven.identity.principal(), now()).await;
    assert_eq!(standing, Standing::OnlyAtLogin);
    let password = LoginPassword::new("alice".to_owned());
    let refused = Way::login(&way, "alice@CORP.TEST", &password, now()).await.unwrap_err();
    assert_eq!(refused.reason().word, "password_not_taken");
    way.probe().await.unwrap();
}

#[tokio::test]
async fn a_name_is_the_whole_principal_and_only_people_are_let_in() {
    let realm = Realm::start();
    let others = [
        ("alice/admin", Some(Shape::Instance)),
        ("web01$", Some(Shape::Machine)),
        ("host/web01.corp.test", Some(Shape::Host)),
        ("HTTP/other.corp.test", Some(Shape::Service)),
        ("kadmin/helper", None),
    ];
    realm.kdc.add(&others.map(|(name, _)| name));
    let way = realm.way();
    for (index, (name, shape)) in others.into_iter().enumerate() {
        let ticket = realm.kdc.logged_in(name, &format!("other-{index}"));
        assert_eq!(who(&way, token(&ticket)).await, Err("principal_shape"), "{name}");
        let shapes = vec![shape.unwrap_or(Shape::Reserved), Shape::Service];
        let named = KerberosWay::new(KerberosSettings { shapes, ..realm.settings() });
        let expected = match shape {
            Some(_) => Ok(format!("gss:{name}@CORP.TEST")),
            None => Err("principal_shape"),
        };
        assert_eq!(who(&named, token(&ticket)).await, expected, "{name}");
    }
}

#[tokio::test]
async fn a_name_that_needs_escapes_is_nobodys() {
    let realm = Realm::start();
    let escaped = [r"al\@EVIL.TEST", r"alice\/admin", r"ali\\ce"];
    realm.kdc.add(&escaped);
    realm.kdc.add(&["Alice", "jürgen"]);
    let way = realm.way();
    for (index, name) in escaped.into_iter().enumerate() {
        // At once for the service: this KDC gives no further ticket to such names.
        let cache = format!("escaped-{index}");
        let ticket = realm.kdc.logged_in_with(name, &cache, &["-S", SERVICE]);
        assert_eq!(who(&way, token(&ticket)).await, Err("principal_unfit"), "{name}");
    }
    for (index, name) in ["alice", "Alice", "jürgen"].into_iter().enumerate() {
        let token = realm.token_of(name, &format!("plain-{index}"));
        assert_eq!(who(&way, token).await, Ok(format!("gss:{name}@CORP.TEST")));
    }
}

#[tokio::test]
async fn somebody_of_a_trusted_realm_is_let_in_only_where_it_is_named_and_is_somebody_else() {
    let realm = Realm::start();
    let other = Kdc::start_as("OTHER.TEST");
    other.add(&["alice"]);
    realm.kdc.trust(&other);
    let foreign = other.logged_in("alice", "foreign");
    assert_eq!(who(&realm.way(), token(&foreign)).await, Err("realm_not_allowed"));
    let alice = who(&realm.way(), token(&realm.alice)).await;
    assert_eq!(alice, Ok("gss:alice@CORP.TEST".to_owned()));
    let realms = vec![REALM.to_owned(), "OTHER.TEST".to_owned()];
    let both = KerberosWay::new(KerberosSettings { realms, ..realm.settings() });
    assert_eq!(who(&both, token(&foreign)).await, Ok("gss:alice@OTHER.TEST".to_owned()));
    let here = show(&both, token(&realm.alice)).await.unwrap().identity;
    let there = show(&both, token(&foreign)).await.unwrap().identity;
    assert_ne!(here.principal(), there.principal());
    // Case counts in a realm.
    let realms = vec!["corp.test".to_owned()];
    let lower = KerberosWay::new(KerberosSettings { realms, ..realm.settings() });
    assert_eq!(who(&lower, token(&realm.alice)).await, Err("realm_not_allowed"));
}

#[tokio::test]
async fn a_ticket_that_is_sent_along_is_thrown_away_and_told() {
    let realm = Realm::start();
    let forwardable = realm.kdc.logged_in_with("alice", "forwardable", &["-f"]);
    let way = realm.way();
    for (delegates, is_told) in [(true, true), (false, false)] {
        let wishes = Wishes { delegates, ..Wishes::default() };
        let token = Initiator::new(&forwardable, SERVICE, &wishes).token();
        let proven = show(&way, token).await.unwrap();
        assert_eq!(proven.note.is_some(), is_told, "{:?}", proven.note);
    }
}

#[tokio::test]
async fn a_token_is_bound_to_the_certificate_that_it_came_by() {
    let realm = Realm::start();
    let (here, elsewhere) = (EndPoint::of_hash(&[1; 32]), EndPoint::of_hash(&[2; 32]));
    let bound = |end: &EndPoint| {
        let wishes = Wishes { channel: Some(end.application_data()), ..Wishes::default() };
        Initiator::new(&realm.alice, SERVICE, &wishes).token()
    };
    let unbound = || token(&realm.alice);
    for (channel_binding, of_none, of_another, without_tls) in [
        (ChannelBinding::Off, Ok(()), Ok(()), Ok(())),
        (ChannelBinding::Offered, Ok(()), Err("channel_binding_mismatch"), Ok(())),
        (
            ChannelBinding::Required,
            Err("channel_not_bound"),
            Err("channel_binding_mismatch"),
            Err("channel_not_bound"),
        ),
    ] {
        let way = KerberosWay::new(KerberosSettings { channel_binding, ..realm.settings() });
        let show = async |token: Vec<u8>, end: Option<&EndPoint>| {
            show_at(&way, token, end).await.map(|_| ())
        };
        assert_eq!(show(bound(&here), Some(&here)).await, Ok(()), "{channel_binding:?}");
        assert_eq!(show(unbound(), Some(&here)).await, of_none, "{channel_binding:?}");
        assert_eq!(show(bound(&elsewhere), Some(&here)).await, of_another, "{channel_binding:?}");
        assert_eq!(show(unbound(), None).await, without_tls, "{channel_binding:?}");
    }
}

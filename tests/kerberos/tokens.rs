//! Tokens that are none, negotiations of several tokens, and those that never come to an end.

use jiff::SignedDuration;
use pgbridge::auth::way::{Negotiation, Step, Way};

use super::{Realm, now, show, token, who};
use crate::support::initiator::{Heard, Initiator, Wishes};

const SPNEGO: &[u8] = b"\x06\x06\x2b\x06\x01\x05\x05\x02";
const KRB5: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
const NTLM: &[u8] = b"\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a";
const IAKERB: &[u8] = b"\x06\x06\x2b\x06\x01\x05\x02\x05";

/// One DER value.
pub(super) fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let head: Vec<u8> = match content.len() {
        0..128 => vec![tag, length[3]],
        _ => [&[tag, 0x84][..], &length].concat(),
    };
    [head, content].concat()
}

/// The first token of a client that offers `mechanisms`, with its first one's token if any (RFC
/// 4178 section 4.2.1).
pub(super) fn offer(mechanisms: &[&[u8]], token: Option<&[u8]>) -> Vec<u8> {
    let list = der(0xa0, &[&der(0x30, mechanisms)]);
    let token = token.map(|token| der(0xa2, &[&der(4, &[token])])).unwrap_or_default();
    der(0x60, &[SPNEGO, &der(0xa0, &[&der(0x30, &[&list, &token])])])
}

/// A later token of a client (RFC 4178 section 4.2.2).
fn go_on(token: &[u8]) -> Vec<u8> {
    der(0xa1, &[&der(0x30, &[&der(0xa2, &[&der(4, &[token])])])])
}

/// Begins a negotiation that needs one more token.
async fn begun(way: &dyn Way) -> Box<dyn Negotiation> {
    let negotiation = way.tickets().unwrap().begin(now());
    match negotiation.step(offer(&[KRB5], None), None, now()).await {
        Ok(Step::Continue { negotiation, token }) => {
            assert!(!token.is_empty());
            negotiation
        }
        Ok(Step::Proven(_)) => panic!("nobody has said who they are"),
        Err(unproven) => panic!("{unproven}"),
    }
}

fn raw(realm: &Realm) -> Initiator {
    let wishes = Wishes { without_spnego: true, ..Wishes::default() };
    Initiator::new(&realm.alice, super::SERVICE, &wishes)
}

#[tokio::test]
async fn a_negotiation_may_take_two_tokens_and_little_time() {
    let realm = Realm::start();
    let way = realm.way();
    let mut alice = raw(&realm);
    let last = go_on(&alice.token());
    match begun(&way).await.step(last.clone(), None, now()).await {
        Ok(Step::Proven(proven)) => {
            assert_eq!(proven.identity.principal().to_string(), "gss:alice@CORP.TEST");
        }
        other => panic!("{:?}", other.err()),
    }
    let much_later = now() + SignedDuration::from_secs(61);
    let refused = begun(&way).await.step(last.clone(), None, much_later).await.err().unwrap();
    assert_eq!(refused.reason().word, "token_too_late");
    let refused = begun(&way).await.step(Vec::new(), None, now()).await.err().unwrap();
    assert_eq!(refused.reason().word, "token_malformed");
    // What goes on needs a beginning.
    assert!(who(&way, last).await.is_err());
}

#[tokio::test]
async fn only_kerberos_is_negotiated() {
    let realm = Realm::start();
    let way = realm.way();
    let ntlm = [&b"NTLMSSP\0\x01\0\0\0\x97\x82\x08\xe2"[..], &[0; 24]].concat();
    for bad in [
        ntlm.clone(),
        offer(&[NTLM], Some(&ntlm)),
        offer(&[NTLM], None),
        offer(&[IAKERB], None),
        der(0x60, &[IAKERB, b"x"]),
    ] {
        let refused = who(&way, bad.clone()).await;
        assert!(refused.is_err() && refused != Err("goes on"), "{refused:?} {bad:?}");
    }
    // A client that would rather speak NTLM and can do both is asked for Kerberos (RFC 4178
    // section 4.2.1), and must prove it by that.
    let negotiation = way.tickets().unwrap().begin(now());
    let both = offer(&[NTLM, KRB5], Some(&ntlm));
    let Ok(Step::Continue { .. }) = negotiation.step(both, None, now()).await else {
        panic!("it is not asked for Kerberos")
    };
    let mut alice = raw(&realm);
    let proven = show(&way, offer(&[KRB5], Some(&alice.token()))).await;
    assert!(proven.is_ok(), "{:?}", proven.err());
}

#[tokio::test]
async fn whatever_is_sent_the_library_lives_and_others_are_let_in() {
    let realm = Realm::start();
    let way = realm.way();
    let good = token(&realm.alice);
    for length in (0..good.len()).step_by(7) {
        assert!(show(&way, good[..length].to_vec()).await.is_err(), "{length}");
    }
    for place in (0..good.len()).step_by(11) {
        let mut bent = good.clone();
        bent[place] ^= 0x55;
        // A changed offer may still hold the whole ticket; then it is alice's and nobody else's.
        let shown = who(&way, bent).await;
        assert!(shown.is_err() || shown == Ok("gss:alice@CORP.TEST".to_owned()), "{place}");
    }
    let noise: Vec<u8> = (0..64 * 1024).map(|_| rand::random()).collect();
    assert!(show(&way, noise.clone()).await.is_err());
    assert!(show(&way, offer(&[KRB5], Some(&noise))).await.is_err());
    assert!(show(&way, der(0x60, &[KRB5, &noise])).await.is_err());
    assert!(show(&way, token(&realm.alice)).await.is_ok());
}

#[tokio::test]
async fn a_thousand_negotiations_that_are_left_lying_cost_nothing() {
    let realm = Realm::start();
    let way = realm.way();
    let mut left = Vec::new();
    for _ in 0..1000 {
        left.push(begun(&way).await);
    }
    assert!(show(&way, token(&realm.alice)).await.is_ok());
    drop(left);
    assert!(show(&way, token(&realm.alice)).await.is_ok());
}

#[tokio::test]
async fn two_tokens_of_one_ticket_are_told_from_each_other_and_one_from_none() {
    let realm = Realm::start();
    let way = realm.way();
    let first = token(&realm.alice);
    let again = async || show(&way, first.clone()).await.unwrap().once.value;
    // The way in itself keeps no list: the store is asked, for all brokers.
    assert_eq!(again().await, again().await);
    let other = show(&way, token(&realm.alice)).await.unwrap().once.value;
    assert_ne!(again().await, other);
    // The same proof in another wrapping is the same.
    let mut alice = raw(&realm);
    let bare = alice.token();
    let value = show(&way, bare.clone()).await.unwrap().once.value;
    let wrapped = show(&way, offer(&[KRB5], Some(&bare))).await.unwrap();
    assert_eq!(wrapped.once.value, value);
    assert_eq!(alice.answer(&show(&way, bare).await.unwrap().reply), Heard::Complete);
}

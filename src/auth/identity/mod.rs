//! Who has been proven, and the session that remembers it for a while.
//!
//! Invariant: nothing here does I/O or reads the time.

mod lockout;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::names::{AccountId, Group, Principal, TokenHash, Ttl};

pub use lockout::{Admission, Attempts, Lockout, LockoutRule};

/// A verified principal with its groups.
///
/// Invariant: made by a way in under [`crate::auth`] after it proved the principal, or looked up
/// one that it had proven before; or read back from a session that such a way in began;
/// `authenticated_at` < `expires_at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    principal: Principal,
    account_id: Option<AccountId>,
    groups: Vec<Group>,
    authenticated_at: Timestamp,
    expires_at: Timestamp,
}

impl Identity {
    /// What a way in has proven at `authenticated_at`, good for `lifetime`.
    pub(in crate::auth) fn proven(
        principal: Principal,
        mut groups: Vec<Group>,
        authenticated_at: Timestamp,
        lifetime: Ttl,
    ) -> Self {
        groups.sort();
        groups.dedup();
        let expires_at = authenticated_at + lifetime.span();
        Self { principal, account_id: None, groups, authenticated_at, expires_at }
    }

    /// The same, of the account with this identifier, if the way in shows one.
    pub(in crate::auth) fn with_account_id(self, account_id: Option<AccountId>) -> Self {
        Self { account_id, ..self }
    }

    /// The same, good until `end` at the latest: what it was proven by is over then.
    pub(in crate::auth) fn until(self, end: Timestamp) -> Self {
        Self { expires_at: self.expires_at.min(end), ..self }
    }

    /// This login with the groups in which its way in has `seen` the same principal since; its
    /// times stay. Nothing when that is somebody else, also one who has come to the same name since.
    #[must_use]
    pub fn as_seen_in(&self, seen: &Self) -> Option<Self> {
        let same = self.principal == seen.principal
            && AccountId::may_be_same(self.account_id, seen.account_id);
        let account_id = self.account_id.or(seen.account_id);
        same.then(|| Self { groups: seen.groups.clone(), account_id, ..self.clone() })
    }

    /// Who it is.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Which account of that name it is, if the way in shows that.
    #[must_use]
    pub fn account_id(&self) -> Option<AccountId> {
        self.account_id
    }

    /// The groups at the time of the proof, in order, each once.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// When it was proven.
    #[must_use]
    pub fn authenticated_at(&self) -> Timestamp {
        self.authenticated_at
    }

    /// When the proof is too old to be used, whatever happens.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

/// How long sessions live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimes {
    /// Longest pause between two requests.
    pub idle: Ttl,
    /// Longest life, however busy.
    pub absolute: Ttl,
}

/// A login that is remembered: the holder of the token is `identity` until the session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Handle for logs and the audit; gives no right to anything.
    pub id: Uuid,
    /// Hash of the token that its holder shows.
    pub token_hash: TokenHash,
    /// Who logged in.
    pub identity: Identity,
    /// When the token was last shown, to the precision of [`Session::is_touch_due`].
    pub seen_at: Timestamp,
}

/// How far the clocks of brokers that share a store may be apart.
const APART: SignedDuration = SignedDuration::from_mins(5);

/// Why a session is no longer good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// It was begun by a clock that was ahead: nobody knows how old it is.
    NotYetBegun,
    /// Its absolute life is over.
    TooOld,
    /// It was not used for longer than the idle time.
    Idle,
}

impl Session {
    /// A session that begins now.
    #[must_use]
    pub fn begin(id: Uuid, token_hash: TokenHash, identity: Identity, now: Timestamp) -> Self {
        Self { id, token_hash, identity, seen_at: now }
    }

    /// Whether the session is over at `now`, and why.
    #[must_use]
    pub fn end_at(&self, now: Timestamp, times: SessionTimes) -> Option<SessionEnd> {
        let oldest = self.identity.authenticated_at + times.absolute.span();
        if self.identity.authenticated_at > now + APART {
            return Some(SessionEnd::NotYetBegun);
        }
        if now >= self.identity.expires_at || now >= oldest {
            return Some(SessionEnd::TooOld);
        }
        (now >= self.seen_at + times.idle.span()).then_some(SessionEnd::Idle)
    }

    /// Whether `seen_at` is old enough to be worth a write: a sixteenth of the idle time.
    #[must_use]
    pub fn is_touch_due(&self, now: Timestamp, times: SessionTimes) -> bool {
        now.duration_since(self.seen_at) >= times.idle.span() / 16
    }
}

/// The part of an identity that a store keeps for a session, as JSON.
#[derive(Serialize, Deserialize)]
struct StoredIdentity {
    principal: Principal,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account_id: Option<AccountId>,
    groups: Vec<Group>,
    authenticated_at: Timestamp,
    expires_at: Timestamp,
}

impl Identity {
    /// The identity as JSON text for the row of its session.
    ///
    /// # Errors
    /// When it cannot be written as JSON, which no value of these types is known to cause.
    pub fn to_session_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&StoredIdentity {
            principal: self.principal.clone(),
            account_id: self.account_id,
            groups: self.groups.clone(),
            authenticated_at: self.authenticated_at,
            expires_at: self.expires_at,
        })
    }

    /// Reads back what [`Self::to_session_json`] wrote. Only a store may call this, with the row
    /// of a session that it holds: this is the one way to an identity that does not prove it anew.
    ///
    /// # Errors
    /// When the text is not what [`Self::to_session_json`] writes.
    pub fn from_session_json(text: &str) -> Result<Self, serde_json::Error> {
        let stored: StoredIdentity = serde_json::from_str(text)?;
        Ok(Self {
            principal: stored.principal,
            account_id: stored.account_id,
            groups: stored.groups,
            authenticated_at: stored.authenticated_at,
            expires_at: stored.expires_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::SessionToken;

    fn identity() -> Identity {
        let principal =
            Principal::Ldap { directory: "corp".parse().unwrap(), account: "alice".into() };
        let groups =
            vec![Group("cn=b,dc=x".into()), Group("cn=a,dc=x".into()), Group("cn=b,dc=x".into())];
        Identity::proven(principal, groups, Timestamp::UNIX_EPOCH, "8h".parse().unwrap())
    }

    fn session() -> Session {
        let hash = SessionToken::unverified("t").hash();
        Session::begin(Uuid::nil(), hash, identity(), Timestamp::UNIX_EPOCH)
    }

    fn times() -> SessionTimes {
        SessionTimes { idle: "30m".parse().unwrap(), absolute: "8h".parse().unwrap() }
    }

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(minutes * 60).unwrap()
    }

    #[test]
    fn a_login_keeps_its_times_when_its_groups_are_read_again() {
        let at = Timestamp::from_second(3600).unwrap();
        let groups = vec![Group("cn=c,dc=x".into())];
        let lifetime = "8h".parse().unwrap();
        let seen = Identity::proven(identity().principal.clone(), groups.clone(), at, lifetime);
        let kept = Identity { groups: groups.clone(), ..identity() };
        assert_eq!(identity().as_seen_in(&seen), Some(kept));
        let bob = Principal::Ldap { directory: "corp".parse().unwrap(), account: "bob".into() };
        assert_eq!(identity().as_seen_in(&Identity::proven(bob, groups, at, lifetime)), None);
    }

    #[test]
    fn who_comes_to_the_name_of_another_is_another() {
        let account = |byte| identity().with_account_id(AccountId::of_guid(&[byte; 16]));
        assert_eq!(account(1).as_seen_in(&account(1)), Some(account(1)));
        assert_eq!(account(1).as_seen_in(&account(2)), None);
        // A way in that did not show it then, or does not now, says nothing of it.
        assert_eq!(identity().as_seen_in(&account(1)), Some(account(1)));
        assert_eq!(account(1).as_seen_in(&identity()), Some(account(1)));
    }

    #[test]
    fn a_session_ends_when_idle_or_old_and_not_before() {
        let mut session = session();
        assert_eq!(session.end_at(at(29), times()), None);
        assert_eq!(session.end_at(at(30), times()), Some(SessionEnd::Idle));
        session.seen_at = at(479);
        assert_eq!(session.end_at(at(479), times()), None);
        assert_eq!(session.end_at(at(480), times()), Some(SessionEnd::TooOld));
        // Begun by a clock that was ahead.
        assert_eq!(session.end_at(at(-5), times()), None);
        assert_eq!(session.end_at(at(-6), times()), Some(SessionEnd::NotYetBegun));
    }

    #[test]
    fn using_a_session_is_written_down_seldom() {
        assert!(!session().is_touch_due(at(1), times()));
        assert!(session().is_touch_due(at(2), times()));
    }

    #[test]
    fn an_identity_reads_back_from_its_session_row() {
        let text = identity().to_session_json().unwrap();
        assert_eq!(Identity::from_session_json(&text).unwrap(), identity());
        let account = identity().with_account_id(AccountId::of_guid(&[7; 16]));
        let text = account.to_session_json().unwrap();
        assert_eq!(Identity::from_session_json(&text).unwrap(), account);
        assert!(Identity::from_session_json("{}").is_err());
        assert_eq!(identity().groups().len(), 2);
    }
}

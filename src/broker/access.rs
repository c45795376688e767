//! Logging in and out, and who calls.

use std::net::{IpAddr, Ipv6Addr};

use metrics::counter;
use rand::Rng;
use tracing::{info, warn};
use uuid::Uuid;

use super::standing::Absent;
use super::turns::Turn;
use super::{Broker, Caller, Request, chance};
use crate::audit::{Action, Outcome, Record, Subject, cut};
use crate::auth::way::{Reason, Unproven, Way};
use crate::auth::{Admission, Identity, Session, SessionEnd};
use crate::names::{AccountKey, LoginPassword, SessionToken, WayName};
use crate::store::{Change, Login, StoreError};

/// Why somebody is not let in. What the client sees is decided in `http` alone; every refusal of
/// a login is one and the same from outside.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Wrong, unknown, locked, expired, blank: the audit has the reason.
    #[error("the login was refused")]
    Refused {
        /// The ways in that there are, whichever was asked for.
        ways: Vec<WayName>,
    },
    /// Too many attempts came from this address.
    #[error("too many attempts from this address; try again in {seconds} s")]
    TooManyAttempts {
        /// Seconds until the address may try again.
        seconds: u64,
    },
    /// The directory could not judge.
    #[error("the directory cannot be asked now")]
    DirectoryAway,
    /// The token is of no session that is alive.
    #[error("the session is over or was never begun")]
    NoSession,
    /// The store could not be asked, or did not take the record.
    #[error("the login could not be recorded")]
    Store(#[from] StoreError),
}

/// A login that succeeded.
pub struct LoggedIn {
    /// The token, shown once.
    pub token: SessionToken,
    /// What the token stands for.
    pub session: Session,
}

/// The counters of one attempt, and its turns at them, which last until its end is written.
pub(super) struct Counters {
    account: Option<AccountCounters>,
    source: String,
    _turns: Vec<Turn>,
}

/// An account is counted from each source, closely, so that a stranger elsewhere cannot lock
/// somebody out with a few guesses; and from everywhere, widely.
struct AccountCounters {
    from_source: String,
    everywhere: String,
}

impl Counters {
    /// What an attempt that nobody could judge changes.
    fn given_back(&self) -> Vec<Change> {
        self.changes(Change::GiveBackAttempt)
    }

    /// What a login that succeeded changes.
    fn cleared(&self) -> Vec<Change> {
        self.changes(Change::ClearAttempts)
    }

    /// `at_account` for the account's counters. The source's only ever gets one attempt back, or
    /// one's own logins would make room for guesses at others.
    fn changes(&self, at_account: fn(String) -> Change) -> Vec<Change> {
        let account = self.account.iter();
        let account = account.flat_map(|account| [&account.from_source, &account.everywhere]);
        let source = Change::GiveBackAttempt(self.source.clone());
        account.cloned().map(at_account).chain([source]).collect()
    }
}

impl Broker {
    /// Proves `username` by `password` at the way in `way` (the only one that takes passwords when
    /// there is only one) and begins a session.
    ///
    /// # Errors
    /// When the login is refused, too many came before it, or directory or store are away.
    pub async fn login(
        &self,
        request: &Request,
        way: Option<&str>,
        username: &str,
        password: LoginPassword,
    ) -> Result<LoggedIn, AccessError> {
        let (identity, counters) = self.prove(request, way, username, password).await?;
        self.begin_session(request, identity, counters.cleared(), None).await
    }

    /// Begins the session of a login that was proven, with the `changes` that come with it, and
    /// writes down both, and with them the `note`.
    pub(super) async fn begin_session(
        &self,
        request: &Request,
        identity: Identity,
        mut changes: Vec<Change>,
        note: Option<String>,
    ) -> Result<LoggedIn, AccessError> {
        let (id, token) = {
            let mut rng = chance::rng();
            let id = uuid::Builder::from_random_bytes(rng.random()).into_uuid();
            (id, SessionToken::random(&mut rng))
        };
        let session = Session::begin(id, token.hash(), identity, self.now());
        let principal = session.identity.principal().clone();
        let subject = Subject::Person { principal, session: Some(id) };
        let record = Record { detail: note, ..self.record(request, Action::Login, subject) };
        changes.push(Change::BeginSession(Box::new(session.clone())));
        self.accept(request, &session.identity, changes, record).await?;
        info!(request.id, principal = %session.identity.principal(), "logged in");
        Ok(LoggedIn { token, session })
    }

    /// Proves `username` by `password` for this call alone (HTTP Basic).
    ///
    /// # Errors
    /// As [`Self::login`].
    pub async fn authenticate_password(
        &self,
        request: &Request,
        way: Option<&str>,
        username: &str,
        password: LoginPassword,
    ) -> Result<Caller, AccessError> {
        let (identity, counters) = self.prove(request, way, username, password).await?;
        let caller = self.caller(identity, None);
        let record = self.record(request, Action::Login, caller.subject());
        self.accept(request, caller.identity(), counters.cleared(), record).await?;
        Ok(caller)
    }

    /// Who shows `token`.
    ///
    /// A token of a session that is over is written down, and the session ended. A token of no
    /// session at all is only counted: whoever sends those could fill the store with records.
    ///
    /// # Errors
    /// When it is of no session that is alive, or the store cannot be asked.
    pub async fn authenticate(
        &self,
        request: &Request,
        token: &SessionToken,
    ) -> Result<Caller, AccessError> {
        let now = self.now();
        let Some(session) = self.store().session(&token.hash()).await? else {
            counter!("pgbridge_tokens_refused_total").increment(1);
            return Err(AccessError::NoSession);
        };
        if let Some(cause) = self.why_over(&session) {
            return Err(self.over(request, &session, cause, "").await?);
        }
        self.0.looks.note_login(&session.identity, now);
        let identity = match self.as_known(&session.identity) {
            Ok(identity) => identity,
            Err(Absent::Gone(gone)) => {
                return Err(self.over(request, &session, gone.word, &gone.detail).await?);
            }
            Err(Absent::Missing(missing)) => {
                return Err(self.not_shown(request, &session, &missing).await?);
            }
        };
        if session.is_touch_due(now, self.0.session) {
            self.store().touch_session(session.id, now).await?;
        }
        Ok(self.caller(identity, Some(session.id)))
    }

    /// Ends a session that is over, and writes down why.
    async fn over(
        &self,
        request: &Request,
        session: &Session,
        cause: &str,
        detail: &str,
    ) -> Result<AccessError, AccessError> {
        counter!("pgbridge_tokens_refused_total").increment(1);
        let record = self.refused_access(request, session, cause, detail);
        // Before the clocks were compared nobody knows whether it is over: then it stays.
        let ends = self.0.time.is_settled().then_some(Change::EndSession(session.id));
        self.store().commit(ends.into_iter().collect(), vec![record]).await?;
        Ok(AccessError::NoSession)
    }

    /// Refuses a session whose person is missing, and leaves it: they may be shown again. Written
    /// down once a minute, since the session can ask for ever.
    async fn not_shown(
        &self,
        request: &Request,
        session: &Session,
        missing: &Reason,
    ) -> Result<AccessError, AccessError> {
        counter!("pgbridge_tokens_refused_total").increment(1);
        let about = format!("missing:{}", session.id);
        if let Some(unwritten) = self.0.hushed.speak(&about, self.now()) {
            let detail = format!("{}; {}", missing.detail, since_then(unwritten));
            let record = self.refused_access(request, session, missing.word, &detail);
            self.store().commit(Vec::new(), vec![record]).await?;
        }
        Ok(AccessError::NoSession)
    }

    fn refused_access(
        &self,
        request: &Request,
        session: &Session,
        cause: &str,
        detail: &str,
    ) -> Record {
        let principal = session.identity.principal().clone();
        let subject = Subject::Person { principal, session: Some(session.id) };
        let record = self.record(request, Action::AccessRefused, subject);
        record.ended(Outcome::Refused, cause, detail)
    }

    /// Ends the session of `caller`.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn logout(&self, request: &Request, caller: &Caller) -> Result<(), AccessError> {
        let changes = caller.session.map(Change::EndSession).into_iter().collect();
        let record = self.record(request, Action::Logout, caller.subject());
        Ok(self.store().commit(changes, vec![record]).await?)
    }

    /// Writes down a login that was proven, unless its person's logins were ended meanwhile.
    pub(super) async fn accept(
        &self,
        request: &Request,
        identity: &Identity,
        mut changes: Vec<Change>,
        record: Record,
    ) -> Result<(), AccessError> {
        changes.push(Change::NeedLogin(Login::of(identity, None)));
        match self.store().commit(changes, vec![record]).await {
            Err(StoreError::LoginEnded) => {
                let principal = identity.principal().clone();
                let subject = Subject::Person { principal, session: None };
                self.refuse_login(request, subject, "login_ended", "", Vec::new()).await?;
                Err(self.not_let_in())
            }
            written => Ok(written?),
        }
    }

    /// A refusal, which is the same whatever was wrong.
    fn not_let_in(&self) -> AccessError {
        AccessError::Refused { ways: self.0.ways.keys().cloned().collect() }
    }

    pub(super) fn caller(&self, identity: Identity, session: Option<Uuid>) -> Caller {
        let duties = self.policy().duties(&identity);
        Caller { identity, session, duties }
    }

    fn why_over(&self, session: &Session) -> Option<&'static str> {
        // A way in that was taken out of the configuration takes its sessions with it.
        if !self.0.ways.contains_key(session.identity.principal().issuer()) {
            return Some("way_removed");
        }
        match session.end_at(self.now(), self.0.session)? {
            SessionEnd::NotYetBegun => Some("session_not_yet_begun"),
            SessionEnd::TooOld => Some("session_too_old"),
            SessionEnd::Idle => Some("session_idle"),
        }
    }

    /// Counts the attempt, then asks the directory.
    async fn prove(
        &self,
        request: &Request,
        way: Option<&str>,
        username: &str,
        password: LoginPassword,
    ) -> Result<(Identity, Counters), AccessError> {
        let (named, way) = (way.unwrap_or_default(), self.way(way));
        let subject = Subject::unproven(way.map_or(named, |way| way.name().as_str()), username);
        let counters = self.counters(request, way, &subject, username).await?;
        self.admit(request, &subject, &counters).await?;
        let Some(way) = way else {
            self.refuse_login(request, subject, "unknown_way", "", Vec::new()).await?;
            return Err(self.not_let_in());
        };
        match way.login(username, &password, self.now()).await {
            Ok(identity) => {
                self.0.looks.note_login(&identity, self.now());
                Ok((identity, counters))
            }
            Err(unproven) => Err(self.refused(request, subject, unproven, counters).await?),
        }
    }

    /// The counters of an attempt, with a turn at each: half of what a source may fail side by
    /// side, and whoever is beyond that is told at once; one attempt at an account, and the next
    /// waits.
    pub(super) async fn counters(
        &self,
        request: &Request,
        way: Option<&dyn Way>,
        subject: &Subject,
        username: &str,
    ) -> Result<Counters, AccessError> {
        let place = source(request.client);
        let source = format!("source:{place}");
        let half = (self.0.lockout.source.failures / 2) as usize;
        let Some(from_here) = self.0.turns.take_now(&source, half) else {
            let about = format!("busy:{place}");
            self.refuse_hushed(request, subject, &about, "source_busy", "").await?;
            return Err(AccessError::TooManyAttempts { seconds: 1 });
        };
        let Some(way) = way else {
            return Ok(Counters { account: None, source, _turns: vec![from_here] });
        };
        let account = AccountKey::new(way.name(), &cut(way.counted_as(username)));
        let everywhere = format!("account:{}", account.as_str());
        // What was typed comes last in each, so that no name reads as another's counter.
        let from_source = format!("account-from:{place}:{}", account.as_str());
        let at_this = self.0.turns.take(&everywhere, 1).await;
        let account = Some(AccountCounters { from_source, everywhere });
        Ok(Counters { account, source, _turns: vec![at_this, from_here] })
    }

    fn way(&self, name: Option<&str>) -> Option<&dyn Way> {
        let mut ways = self.0.ways.values().map(|way| &**way);
        if let Some(name) = name {
            return ways.find(|way| way.name().as_str() == name);
        }
        // Where only one takes passwords, nobody has to say which.
        let mut ways = ways.filter(|way| way.tickets().is_none());
        ways.next().filter(|_| ways.next().is_none())
    }

    pub(super) async fn admit(
        &self,
        request: &Request,
        subject: &Subject,
        counters: &Counters,
    ) -> Result<(), AccessError> {
        let mut rules = vec![(counters.source.clone(), self.0.lockout.source)];
        if let Some(account) = &counters.account {
            rules.push((account.from_source.clone(), self.0.lockout.account));
            rules.push((account.everywhere.clone(), self.0.lockout.everywhere));
        }
        let now = self.now();
        let admissions = self.store().admit(&rules, now).await?;
        let locked =
            rules.iter().zip(admissions).find_map(|((counter, _), admission)| match admission {
                Admission::Admitted(_) => None,
                Admission::Locked { until } => Some((counter, until)),
            });
        let Some((counter, until)) = locked else { return Ok(()) };
        let by_source = *counter == counters.source;
        let cause = if by_source { "source_locked_out" } else { "account_locked_out" };
        let until_then = format!("until {until}; ");
        self.refuse_hushed(request, subject, counter, cause, &until_then).await?;
        if by_source {
            let seconds = until.duration_since(now).as_secs().unsigned_abs().max(1);
            return Err(AccessError::TooManyAttempts { seconds });
        }
        Err(self.not_let_in())
    }

    /// Refuses a login that is refused again and again: written down once a minute by what it is
    /// `about`, and else only counted.
    async fn refuse_hushed(
        &self,
        request: &Request,
        subject: &Subject,
        about: &str,
        cause: &'static str,
        detail: &str,
    ) -> Result<(), StoreError> {
        if let Some(unwritten) = self.0.hushed.speak(about, self.now()) {
            let detail = format!("{detail}{}", since_then(unwritten));
            return self.refuse_login(request, subject.clone(), cause, &detail, Vec::new()).await;
        }
        counter!("pgbridge_logins_refused_total", "cause" => cause).increment(1);
        Ok(())
    }

    /// Writes down why the way in gave no identity, and what the client is told.
    pub(super) async fn refused(
        &self,
        request: &Request,
        subject: Subject,
        unproven: Unproven,
        counters: Counters,
    ) -> Result<AccessError, AccessError> {
        let Reason { word, detail } = unproven.reason();
        match unproven {
            Unproven::Refused(_) => {
                self.refuse_login(request, subject, word, detail, Vec::new()).await?;
                Ok(self.not_let_in())
            }
            Unproven::Outage(_) => {
                warn!(request.id, cause = word, detail, "the directory could not judge a login");
                self.refuse_login(request, subject, word, detail, counters.given_back()).await?;
                Ok(AccessError::DirectoryAway)
            }
        }
    }

    async fn refuse_login(
        &self,
        request: &Request,
        subject: Subject,
        cause: &str,
        detail: &str,
        changes: Vec<Change>,
    ) -> Result<(), StoreError> {
        counter!("pgbridge_logins_refused_total", "cause" => cause.to_owned()).increment(1);
        // What was typed is in the audit only: now and then it is a password in the wrong field.
        info!(request.id, client = %request.client, cause, "login refused");
        let record = self.record(request, Action::Login, subject);
        let record = record.ended(Outcome::Refused, cause, detail);
        self.store().commit(changes, vec![record]).await
    }
}

/// How often something was refused and not written down.
fn since_then(unwritten: u64) -> String {
    format!("{unwritten} more since the last record of this")
}

/// The address under which attempts are counted: an IPv6 host owns its whole /64.
fn source(client: IpAddr) -> String {
    match client.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let network = Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX));
            format!("{network}/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_cannot_change_its_counter_by_changing_its_address() {
        let of = |text: &str| source(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}

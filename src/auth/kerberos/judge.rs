//! What becomes of what the library has accepted. The library says yes to every principal that a
//! KDC vouches for, of every realm that is trusted: who is let in is decided here, and purely.

use jiff::Timestamp;

use super::gss::{Accepted, Mechanism};
use super::pac::Logon;
use super::refusal::KerberosRefusal;
use super::settings::{ChannelBinding, Kdc, KerberosSettings};
use crate::names::{KerberosPrincipal, Shape, printable, shortened};

/// Letters of a name that are told when it is none.
const NAME_MAX: usize = 300;

/// Somebody who is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    /// Who it is.
    pub principal: KerberosPrincipal,
    /// When their ticket ends.
    pub ends_at: Timestamp,
}

/// Whether a way in of these `settings` lets in whoever was `accepted`, at `now`.
///
/// # Errors
/// When it does not, with the first reason.
pub(super) fn judge(
    settings: &KerberosSettings,
    accepted: &Accepted,
    now: Timestamp,
) -> Result<Judged, KerberosRefusal> {
    if accepted.mechanism != Mechanism::Kerberos {
        return Err(KerberosRefusal::OtherMechanism);
    }
    if accepted.anonymous {
        return Err(KerberosRefusal::Anonymous);
    }
    let principal = KerberosPrincipal::parse(&accepted.principal).map_err(|problem| {
        let name = String::from_utf8_lossy(&accepted.principal);
        KerberosRefusal::Name { name: shortened(&printable(&name), NAME_MAX), problem }
    })?;
    if !settings.realms.iter().any(|realm| realm == principal.realm()) {
        return Err(KerberosRefusal::OtherRealm(principal));
    }
    let shape = principal.shape();
    if shape == Shape::Reserved || !settings.shapes.contains(&shape) {
        return Err(KerberosRefusal::OtherShape(principal));
    }
    let principal = of_account(settings.kdc, accepted.logon.as_deref(), principal)?;
    if settings.channel_binding == ChannelBinding::Required && !accepted.channel_bound {
        return Err(KerberosRefusal::Unbound(principal));
    }
    // The library allows for clocks that are apart; a login must have an end that is yet to come.
    match Timestamp::from_second(accepted.ends_at) {
        Ok(ends_at) if ends_at > now => Ok(Judged { principal, ends_at }),
        _ => Err(KerberosRefusal::TicketOver(principal)),
    }
}

/// The principal, when it is the name of the account that the ticket is of.
fn of_account(
    kdc: Kdc,
    logon: Option<&[u8]>,
    principal: KerberosPrincipal,
) -> Result<KerberosPrincipal, KerberosRefusal> {
    let logon = match (kdc, logon) {
        (Kdc::Mit, None) => return Ok(principal),
        (Kdc::Mit, Some(_)) => return Err(KerberosRefusal::FromActiveDirectory(principal)),
        (Kdc::ActiveDirectory, logon) => logon.and_then(Logon::read),
    };
    let Some(Logon { account, is_machine }) = logon else {
        return Err(KerberosRefusal::NoAccount(principal));
    };
    let is_its_name = principal.components().eq([account.as_str()]);
    if is_its_name && is_machine == (principal.shape() == Shape::Machine) {
        return Ok(principal);
    }
    let account = shortened(&printable(&account), NAME_MAX);
    Err(KerberosRefusal::OtherAccount { principal, account })
}

#[cfg(test)]
mod tests {
    use super::super::pac::tests::logon_info;
    use super::*;

    fn settings() -> KerberosSettings {
        KerberosSettings {
            name: "tickets".parse().unwrap(),
            service: "HTTP/web.corp.test@CORP.TEST".parse().unwrap(),
            keytab: "keytab".into(),
            realms: vec!["CORP.TEST".to_owned()],
            kdc: Kdc::Mit,
            shapes: vec![Shape::Person],
            channel_binding: ChannelBinding::Offered,
            lifetime: "8h".parse().unwrap(),
        }
    }

    fn accepted(principal: &str) -> Accepted {
        Accepted {
            principal: principal.as_bytes().to_vec(),
            mechanism: Mechanism::Kerberos,
            anonymous: false,
            delegated: false,
            channel_bound: false,
            ends_at: 1000,
            fingerprint: [0; 32],
            logon: None,
            reply: Vec::new(),
        }
    }

    fn at(
        settings: &KerberosSettings,
        accepted: &Accepted,
        now: i64,
    ) -> Result<String, &'static str> {
        let judged = judge(settings, accepted, Timestamp::from_second(now).unwrap());
        judged.map(|judged| judged.principal.to_string()).map_err(|refusal| refusal.kind())
    }

    #[track_caller]
    fn check(settings: &KerberosSettings, principal: &str, verdict: Result<(), &str>) {
        let judged = at(settings, &accepted(principal), 0);
        assert_eq!(judged, verdict.map(|()| principal.to_owned()), "{principal}");
    }

    #[test]
    fn people_of_the_realm_are_let_in_and_nobody_else() {
        let settings = settings();
        check(&settings, "alice@CORP.TEST", Ok(()));
        check(&settings, "alice@OTHER.TEST", Err("realm_not_allowed"));
        check(&settings, "alice@corp.test", Err("realm_not_allowed"));
        check(&settings, r"al\@CORP.TEST@OTHER.TEST", Err("principal_unfit"));
        check(&settings, r"al\@EVIL@CORP.TEST", Err("principal_unfit"));
        for other in ["alice/admin", "web01$", "host/web01", "HTTP/web01", "krbtgt/CORP.TEST"] {
            check(&settings, &format!("{other}@CORP.TEST"), Err("principal_shape"));
        }
    }

    #[test]
    fn another_kind_is_let_in_where_it_is_named_and_the_realms_own_never() {
        let named = [
            (Shape::Instance, "alice/admin@CORP.TEST"),
            (Shape::Machine, "web01$@CORP.TEST"),
            (Shape::Host, "host/web01@CORP.TEST"),
            (Shape::Service, "HTTP/web01@CORP.TEST"),
        ];
        for (shape, principal) in named {
            let settings = KerberosSettings { shapes: vec![shape], ..settings() };
            check(&settings, principal, Ok(()));
            check(&settings, "alice@CORP.TEST", Err("principal_shape"));
        }
        let all = KerberosSettings { shapes: vec![Shape::Reserved, Shape::Service], ..settings() };
        check(&all, "krbtgt/CORP.TEST@CORP.TEST", Err("principal_shape"));
        check(&all, "WELLKNOWN/ANONYMOUS@CORP.TEST", Err("principal_shape"));
    }

    #[test]
    fn a_name_of_active_directory_is_that_of_the_account_and_of_no_other() {
        let person = KerberosSettings { kdc: Kdc::ActiveDirectory, ..settings() };
        let machine = KerberosSettings { shapes: vec![Shape::Machine], ..person.clone() };
        let logon = |principal: &str, account: &str, control| {
            let logon = Some(logon_info(account, control));
            Accepted { logon, ..accepted(principal) }
        };
        let of =
            |settings: &KerberosSettings, accepted: &Accepted| at(settings, accepted, 0).map(drop);
        let (is_person, is_machine) = (0x10, 0x80);
        assert_eq!(of(&person, &logon("alice@CORP.TEST", "alice", is_person)), Ok(()));
        assert_eq!(of(&machine, &logon("dba$@CORP.TEST", "dba$", is_machine)), Ok(()));
        let other = Err("ticket_of_another_account");
        // A computer's ticket by the name of nobody.
        assert_eq!(of(&person, &logon("dba@CORP.TEST", "dba$", is_machine)), other);
        assert_eq!(of(&person, &logon("dba@CORP.TEST", "dba", is_machine)), other);
        assert_eq!(of(&machine, &logon("dba$@CORP.TEST", "dba$", is_person)), other);
        for spelled in ["ALICE@CORP.TEST", "bob@CORP.TEST"] {
            assert_eq!(of(&person, &logon(spelled, "alice", is_person)), other, "{spelled}");
        }
        assert_eq!(of(&person, &accepted("alice@CORP.TEST")), Err("ticket_without_account"));
        let cut = Accepted { logon: Some(vec![1, 0x10]), ..accepted("alice@CORP.TEST") };
        assert_eq!(of(&person, &cut), Err("ticket_without_account"));
        let known = logon("alice@CORP.TEST", "alice", is_person);
        assert_eq!(of(&settings(), &known), Err("ticket_of_active_directory"));
    }

    #[test]
    fn the_mechanism_is_kerberos_and_the_client_known() {
        let alice = accepted("alice@CORP.TEST");
        let other = Accepted { mechanism: Mechanism::Other, ..alice.clone() };
        assert_eq!(at(&settings(), &other, 0), Err("mechanism_not_kerberos"));
        let unknown = Accepted { anonymous: true, ..alice };
        assert_eq!(at(&settings(), &unknown, 0), Err("principal_anonymous"));
    }

    #[test]
    fn a_token_is_bound_where_it_must_be() {
        let required = KerberosSettings { channel_binding: ChannelBinding::Required, ..settings() };
        check(&required, "alice@CORP.TEST", Err("channel_not_bound"));
        let bound = Accepted { channel_bound: true, ..accepted("alice@CORP.TEST") };
        assert!(at(&required, &bound, 0).is_ok());
    }

    #[test]
    fn a_ticket_that_has_ended_lets_nobody_in() {
        let alice = accepted("alice@CORP.TEST");
        assert!(at(&settings(), &alice, 999).is_ok());
        assert_eq!(at(&settings(), &alice, 1000), Err("ticket_expired"));
    }
}

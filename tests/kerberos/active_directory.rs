//! Tickets of a domain controller, which gives them by names that an account does not have: only the
//! account's own name lets somebody in. Each refusal stands beside its accepted twin.

use std::path::PathBuf;

use pgbridge::auth::kerberos::{ChannelBinding, Kdc, KerberosSettings, KerberosWay};
use pgbridge::names::Shape;

use super::{Realm, token, who};
use crate::support::initiator::{Initiator, Wishes};
use crate::support::password_of;
use crate::support::samba::{AD_REALM, DomainController};

/// What tickets must be for.
const SERVICE: &str = "HTTP/web.ad.test";

const OF_ANOTHER: Result<String, &str> = Err("ticket_of_another_account");

/// A domain with the service.
struct Domain {
    controller: DomainController,
    keytab: PathBuf,
}

impl Domain {
    fn start() -> Option<Self> {
        let controller = DomainController::start()?;
        let keytab = controller.add_service("web", SERVICE);
        Some(Self { controller, keytab })
    }

    /// A way in for tickets of a KDC of this kind.
    fn way(&self, kdc: Kdc) -> KerberosWay {
        self.way_of(kdc, Shape::Person)
    }

    fn way_of(&self, kdc: Kdc, shape: Shape) -> KerberosWay {
        KerberosWay::new(KerberosSettings {
            name: "tickets".parse().unwrap(),
            service: format!("{SERVICE}@{AD_REALM}").parse().unwrap(),
            keytab: self.keytab.clone(),
            realms: vec![AD_REALM.to_owned()],
            kdc,
            shapes: vec![shape],
            channel_binding: ChannelBinding::Offered,
            lifetime: "8h".parse().unwrap(),
        })
    }

    /// A token of whoever asks for a ticket by this name and knows this password.
    fn token(&self, name: &str, password: &str) -> Vec<u8> {
        self.token_with(name, password, &[])
    }

    /// The same with `options` of kinit.
    fn token_with(&self, name: &str, password: &str, options: &[&str]) -> Vec<u8> {
        let ticket = self.controller.logged_in(name, password, options);
        let service = format!("{SERVICE}@{AD_REALM}");
        Initiator::new(&ticket, &service, &Wishes::default()).token()
    }
}

fn called(name: &str) -> String {
    format!("gss:{name}@{AD_REALM}")
}

#[tokio::test]
async fn a_ticket_lets_its_account_in_by_no_other_name() {
    let Some(domain) = Domain::start() else { return };
    let way = domain.way(Kdc::ActiveDirectory);
    let (alice, bob) = (password_of("alice"), password_of("bob"));
    assert_eq!(who(&way, domain.token("alice", &alice)).await, Ok(called("alice")));
    // Case does not count for the controller, and the ticket keeps the name as it was asked for.
    assert_eq!(who(&way, domain.token("ALICE", &alice)).await, OF_ANOTHER);
    // Neither does a name that can be changed at will (userPrincipalName).
    let lines = "replace: userPrincipalName\nuserPrincipalName: carla@ad.test";
    domain.controller.modify("bob", lines);
    assert_eq!(who(&way, domain.token("carla", &bob)).await, OF_ANOTHER);
    assert_eq!(who(&way, domain.token("bob", &bob)).await, Ok(called("bob")));
}

#[tokio::test]
async fn a_ticket_that_does_not_say_whose_it_is_is_nobodys() {
    let Some(domain) = Domain::start() else { return };
    let alice = password_of("alice");
    for (option, expected) in [
        ("--no-request-pac", Err("ticket_without_account")),
        ("--request-pac", Ok(called("alice"))),
    ] {
        let token = domain.token_with("alice", &alice, &[option]);
        assert_eq!(who(&domain.way(Kdc::ActiveDirectory), token).await, expected, "{option}");
    }
}

/// Whoever may add a computer, by default everybody, can name it after a person without its `$`. The
/// controller gives tickets by that name for as long as no person has it.
#[tokio::test]
async fn a_computers_ticket_by_the_name_of_a_person_is_not_that_persons() {
    let Some(domain) = Domain::start() else { return };
    let (people, computers) =
        (domain.way(Kdc::ActiveDirectory), domain.way_of(Kdc::ActiveDirectory, Shape::Machine));
    domain.controller.add_computer("dba", "of-the-computer");
    assert_eq!(who(&people, domain.token("dba", "of-the-computer")).await, OF_ANOTHER);
    // Where computers are let in, it is by their name.
    let computer = domain.token("dba$", "of-the-computer");
    assert_eq!(who(&computers, computer.clone()).await, Ok(called("dba$")));
    assert_eq!(who(&people, computer).await, Err("principal_shape"));
    domain.controller.add_person("dba", "of-the-person", "");
    assert_eq!(who(&people, domain.token("dba", "of-the-person")).await, Ok(called("dba")));
}

#[tokio::test]
async fn a_ticket_is_of_the_kind_of_kdc_that_the_configuration_says() {
    let Some(domain) = Domain::start() else { return };
    let alice = domain.token("alice", &password_of("alice"));
    let of_mit = Err("ticket_of_active_directory");
    assert_eq!(who(&domain.way(Kdc::Mit), alice.clone()).await, of_mit);
    assert_eq!(who(&domain.way(Kdc::ActiveDirectory), alice).await, Ok(called("alice")));

    let realm = Realm::start();
    let way = |kdc| KerberosWay::new(KerberosSettings { kdc, ..realm.settings() });
    let alice = token(&realm.alice);
    let of_active_directory = Err("ticket_without_account");
    assert_eq!(who(&way(Kdc::ActiveDirectory), alice.clone()).await, of_active_directory);
    assert_eq!(who(&way(Kdc::Mit), alice).await, Ok("gss:alice@CORP.TEST".to_owned()));
}

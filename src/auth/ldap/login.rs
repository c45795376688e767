//! One attempt to prove a name and a password at one server.

use std::time::Duration;

use ldap3::{Scope, SearchEntry};

use crate::names::LoginPassword;

use super::answer::{judge, needs_tls};
use super::checked::{Bind, Checked, Finder, Server};
use super::entry::{ANYTHING, NO_ATTRIBUTES, Person, Reader, failed};
use super::link::{Credentials, Found, Link, Query, Want};
use super::names::TypedName;
use super::refusal::{Ended, LdapRefusal, OutageReason};
use super::settings::ServiceAccount;

/// A name and a password, to be proven at `server`.
pub(super) struct Attempt<'a> {
    pub at: Reader<'a>,
    pub name: TypedName<'a>,
    pub password: &'a LoginPassword,
}

impl Attempt<'_> {
    /// Proves the password, and reads who it is and in which groups.
    pub(super) async fn run(&self) -> Result<Person, Ended> {
        let Reader { way, server, .. } = self.at;
        match &way.bind {
            Bind::Dn(bind_name) => {
                let dn = bind_name.fill(self.name)?;
                let mut own = self.prove(&dn).await?;
                let entry = self.at.read_own(&mut own, &dn).await?;
                self.must_be_spelled_so(&entry)?;
                self.at.person(&mut own, &entry).await
            }
            Bind::Account { name, base_dn, filter } => {
                let bind_name = name.fill(self.name)?;
                let mut own = self.prove(&bind_name).await?;
                let filter = filter.fill(self.name.as_str(), "");
                let entry = self.at.find(&mut own, base_dn, &filter).await?;
                self.must_be_spelled_so(&entry)?;
                // Whose `userPrincipalName` it is need not be whose account it is.
                self.prove(&entry.dn).await?;
                self.at.person(&mut own, &entry).await
            }
            Bind::Search { base_dn, service, find, .. } => {
                let mut searching = open(way, server).await?;
                bind_service(&mut searching, server, service.as_ref()).await?;
                let entry = match self.find(&mut searching, base_dn, find).await {
                    Err(Ended::Refused(refusal)) => {
                        return Err(self.refuse_slowly(base_dn, refusal).await);
                    }
                    found => found?,
                };
                // On a connection of its own: what searches never becomes the person.
                self.prove(&entry.dn).await?;
                self.at.person(&mut searching, &entry).await
            }
        }
    }

    /// Binds as `bind_name` with the password on a fresh connection, which is then the person's.
    async fn prove(&self, bind_name: &str) -> Result<Link, Ended> {
        let credentials = Credentials::new(bind_name, self.password)?;
        let mut own = open(self.at.way, self.at.server).await?;
        judge(&self.at.server.label(), &own.bind(&credentials).await?)?;
        Ok(own)
    }

    /// Makes a name that leads nowhere take as long as a wrong password: the same connection, the
    /// same TLS, the same round trips. Not made equal is what the directory itself spends on
    /// comparing a hash. The bind is for an entry that does not exist and with a password that is
    /// nobody's: what was typed may be right for another place, and goes to no made-up name.
    async fn refuse_slowly(&self, base_dn: &str, refusal: LdapRefusal) -> Ended {
        let nobody = format!("cn=pgbridge asks for nobody,{base_dn}");
        let password = LoginPassword::new("no password of anybody".into());
        let decoy = Attempt { password: &password, ..*self };
        match decoy.prove(&nobody).await {
            Err(Ended::TryNext(reason)) => Ended::TryNext(reason),
            Ok(_) | Err(Ended::Refused(_)) => Ended::Refused(refusal),
        }
    }

    /// The entry of the name that was typed.
    async fn find(&self, link: &mut Link, base: &str, find: &Finder) -> Result<SearchEntry, Ended> {
        let entry = self.at.find(link, base, &find.filter(self.name)?).await?;
        self.must_be_spelled_so(&entry)?;
        Ok(entry)
    }

    /// By another spelling of a name than its own an entry is as good as not there.
    fn must_be_spelled_so(&self, entry: &SearchEntry) -> Result<(), LdapRefusal> {
        let is_spelled = self.at.way.is_spelled(self.name, entry);
        if is_spelled { Ok(()) } else { Err(LdapRefusal::UnknownAccount) }
    }
}

/// Whether the server answers at all, lets the service account in, and shows it somebody.
pub(super) async fn probe(way: &Checked, server: &Server) -> Result<(), Ended> {
    let mut link = open(way, server).await?;
    if let Bind::Search { base_dn, service, .. } = &way.bind {
        bind_service(&mut link, server, service.as_ref()).await?;
        return shows_somebody(way, server, &mut link, base_dn).await;
    }
    // A process that has stopped still accepts connections: only an answer shows that it lives.
    // Whether the server's own entry may be read does not matter.
    let attributes = vec![NO_ATTRIBUTES];
    let root =
        Query { base: "", scope: Scope::Base, filter: ANYTHING, attributes, want: Want::One };
    link.search(root).await?;
    Ok(())
}

/// Whether anybody at all can be found below `base`. Where nobody can, a name that is not found
/// says nothing about a person.
pub(super) async fn shows_somebody(
    way: &Checked,
    server: &Server,
    link: &mut Link,
    base: &str,
) -> Result<(), Ended> {
    let attribute = &way.account_attribute;
    if anybody_has(server, link, base, attribute).await? {
        return Ok(());
    }
    let (server, attribute) = (server.label(), attribute.clone());
    Err(LdapRefusal::NobodyThere { server, attribute }.into())
}

/// Whether the server shows an entry below `base` that has `attribute`.
pub(super) async fn anybody_has(
    server: &Server,
    link: &mut Link,
    base: &str,
    attribute: &str,
) -> Result<bool, Ended> {
    const SIZE_LIMIT_EXCEEDED: u32 = 4;
    let filter = format!("({attribute}=*)");
    let attributes = vec![NO_ATTRIBUTES];
    let scope = Scope::Subtree;
    let found = link.search(Query { base, scope, filter: &filter, attributes, want: Want::One });
    let Found { entries, result, is_cut } = found.await?;
    if is_cut || !entries.is_empty() || result.rc == SIZE_LIMIT_EXCEEDED {
        return Ok(true);
    }
    if result.rc == 0 {
        return Ok(false);
    }
    let server = server.label();
    Err(failed(&result, |answer| LdapRefusal::Search { server, answer }))
}

pub(super) async fn open(way: &Checked, server: &Server) -> Result<Link, OutageReason> {
    // A login may use its connections for as long as it may take, and no longer.
    let life = way.deadline.saturating_add(Duration::from_secs(1));
    Link::open(server, &way.security, way.timeout, life).await
}

pub(super) async fn bind_service(
    link: &mut Link,
    server: &Server,
    service: Option<&ServiceAccount>,
) -> Result<(), Ended> {
    let Some(ServiceAccount { bind_dn, bind_password }) = service else { return Ok(()) };
    let result = link.bind(&Credentials::new(bind_dn, bind_password)?).await?;
    if result.rc == 0 {
        return Ok(());
    }
    let server = server.label();
    if needs_tls(&result) {
        return Err(LdapRefusal::TlsNeeded { server }.into());
    }
    Err(failed(&result, |answer| LdapRefusal::ServiceBind { server, answer }))
}

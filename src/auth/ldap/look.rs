//! Looking somebody up again, without their password.

use super::entry::{Person, Reader};
use super::login::{bind_service, open, shows_somebody};
use super::names::FilterTemplate;
use super::refusal::{Ended, LdapRefusal};
use super::settings::ServiceAccount;

/// How a directory finds an account again.
pub(super) struct Search<'a> {
    pub base_dn: &'a str,
    pub service: Option<&'a ServiceAccount>,
    /// Finds the entry of an account among those that may log in.
    pub filter: &'a FilterTemplate,
}

/// Who `account` is now.
pub(super) async fn look(
    at: Reader<'_>,
    search: Search<'_>,
    account: &str,
) -> Result<Person, Ended> {
    let mut searching = open(at.way, at.server).await?;
    bind_service(&mut searching, at.server, search.service).await?;
    let filter = search.filter.fill(account, "");
    let entry = match at.find(&mut searching, search.base_dn, &filter).await {
        Err(Ended::Refused(LdapRefusal::UnknownAccount)) => {
            shows_somebody(at.way, at.server, &mut searching, search.base_dn).await?;
            return Err(LdapRefusal::UnknownAccount.into());
        }
        found => found?,
    };
    let person = at.person(&mut searching, &entry).await?;
    if person.account == account {
        Ok(person)
    } else {
        // The directory does not tell `Alice` from `alice`; maps and leases do.
        Err(LdapRefusal::Renamed { account: person.account }.into())
    }
}

//! One spelling of each name in Active Directory.
//!
//! It finds an entry by many spellings of one name: a DN with escapes and blanks or as `<SID=…>`
//! ([MS-ADTS] 3.1.1.3.1.2.4), and letters with accents or signs of no width as if those were not
//! there ([MS-UCODEREF] 3.1.5.2). Failures are counted by what was typed: whoever could spell one
//! account in a thousand ways could guess a thousand times as often. So a name has to be typed as
//! the entry has it, but for what [`AccountKey`] folds too; by any other it is nobody's.

use ldap3::SearchEntry;

use crate::names::AccountKey;

use super::checked::{Bind, Checked, Finder};
use super::link::values;
use super::logon::LogonNames;
use super::names::TypedName;
use super::settings::DirectoryType;

impl Checked {
    /// The attributes in which the entry shows how its names are spelled.
    pub(super) fn name_attributes(&self) -> Vec<&str> {
        match &self.bind {
            _ if self.directory_type != DirectoryType::ActiveDirectory => Vec::new(),
            Bind::Search { find: Finder::Logon(_), .. } => LogonNames::ATTRIBUTES.to_vec(),
            Bind::Search { find: Finder::Filter(filter), .. } | Bind::Account { filter, .. } => {
                filter.asked("").into_iter().map(|(attribute, _)| attribute).collect()
            }
            Bind::Dn(name) => name.attribute().into_iter().collect(),
        }
    }

    /// Whether the entry that was found by `typed` spells that name so. Elsewhere than in Active
    /// Directory the matching rules of the attributes are enough.
    pub(super) fn is_spelled(&self, typed: TypedName<'_>, entry: &SearchEntry) -> bool {
        let typed = typed.as_str();
        let same = |own: &str, other: &str| {
            AccountKey::new(&self.name, own) == AccountKey::new(&self.name, other)
        };
        let has = |attribute: &str, name: &str| {
            values(entry, attribute).iter().any(|own| same(own, name))
        };
        match &self.bind {
            _ if self.directory_type != DirectoryType::ActiveDirectory => true,
            Bind::Search { find: Finder::Logon(names), .. } => names.is_of(typed, entry, same),
            Bind::Search { find: Finder::Filter(filter), .. } | Bind::Account { filter, .. } => {
                filter.asked(typed).iter().any(|(attribute, name)| has(attribute, name))
            }
            Bind::Dn(name) => name.attribute().is_some_and(|attribute| has(attribute, typed)),
        }
    }
}

//! On what one decision of the map rested.

use serde::{Deserialize, Serialize};

use super::{Case, Memberships, Question};
use crate::names::MapName;

/// By what of an identity a line of the map let it in. With the line and the revision it is all
/// that it takes to make the same decision again later: see [`Because::question`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Because {
    /// The map whose line it is.
    pub map: MapName,
    /// What the line was held against.
    pub matched: Matched,
    /// Whether its letters were compared without case.
    #[serde(default, skip_serializing_if = "is_default")]
    pub case: Case,
    /// What `\1` in the line stood for, if it has one; what is not UTF-8 in it is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<String>,
    /// What the cluster said of the role's memberships, if the map asks for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<Memberships>,
}

/// The part of an identity that a line of the map was held against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Matched {
    /// Their own name.
    Name(String),
    /// One of their groups.
    Group(String),
}

impl Matched {
    /// The text that stands for the system user.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Name(text) | Self::Group(text) => text,
        }
    }
}

impl Because {
    /// What the revision is asked again, to decide as it did for `role`. `none` is what counts when
    /// no cluster was asked.
    #[must_use]
    pub fn question<'a>(&'a self, role: &'a [u8], none: &'a Memberships) -> Question<'a> {
        Question {
            map: &self.map,
            system_user: self.matched.as_str().as_bytes(),
            role,
            case: self.case,
            members: self.members.as_ref().unwrap_or(none),
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

//! One name at a time: exact.

use super::Compared;
use super::roles::{Gain, Had};
use super::side::Side;

impl<'a> Compared<'a> {
    /// What each line of `gaining` gives the user and `other` does not, in file order.
    pub(super) fn gains<'s>(
        &self,
        gaining: &'s Side<'a>,
        other: &Side<'a>,
        user: &[u8],
    ) -> Vec<Gain<'s, 'a>> {
        let had = Had::of(self, other, user);
        let given = gaining.about(user).into_iter().take_while(|_| !self.effort.is_spent());
        given.flat_map(|(line, grant)| had.lacks(gaining, line, grant)).collect()
    }
}

//! Files that whoever runs a command may not read. That is no mistake in them, and says nothing of
//! what the broker reads.

use std::collections::BTreeSet;
use std::path::Path;

use super::terminal::Shown;

/// What keeps this user from an answer, and what they can do, when some of the files were closed to
/// them. That the files could be opened to them is not said: one may hold a secret that nobody told
/// of.
pub(super) fn told<'a>(closed: impl Iterator<Item = &'a Path>) -> Option<Shown> {
    let paths: BTreeSet<String> = closed.map(|path| path.display().to_string()).collect();
    (!paths.is_empty()).then(|| {
        let paths = paths.into_iter().collect::<Vec<_>>().join(", ");
        Shown::new(format!(
            "this user may not read {paths}: run this as a user who may, such as the broker's"
        ))
    })
}

//! Text that cannot be printed by accident.

use serde::Deserialize;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A password, a token, or text that holds one. No `Debug`, `Display`, `Clone` or `Serialize`;
/// wiped when dropped; shown by [`Self::expose`] only.
#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub(super) struct Secret(String);

impl Secret {
    /// Takes the text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for where it must go.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
pub(super) mod tests {
    /// Fails to compile when `$type` can be printed: the two implementations are then both
    /// candidates.
    macro_rules! assert_unprintable {
        ($($type:ty),+) => {{
            trait Unprintable<Marker> { fn holds() {} }
            struct Debugged;
            struct Displayed;
            impl<T: ?Sized> Unprintable<()> for T {}
            impl<T: ?Sized + std::fmt::Debug> Unprintable<Debugged> for T {}
            impl<T: ?Sized + std::fmt::Display> Unprintable<Displayed> for T {}
            $(<$type as Unprintable<_>>::holds();)+
        }};
    }
    pub(in crate::cli) use assert_unprintable;

    #[test]
    fn a_secret_cannot_be_printed() {
        assert_unprintable!(super::Secret);
    }
}

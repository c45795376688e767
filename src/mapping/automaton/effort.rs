//! What finding an answer may cost.

use std::cell::Cell;
use std::fmt;

/// Steps of one walk. A step looks at one state once.
const STEPS: usize = 1_000_000;
/// Steps of all the work for one answer: some seconds.
const ALL_STEPS: usize = 100_000_000;

/// What the work for one answer may still cost, and whether the answer is wanted any more. Counted
/// in steps, so that the answer is the same on every machine unless somebody calls it off.
pub struct Effort<'c> {
    left: Cell<usize>,
    is_called_off: &'c dyn Fn() -> bool,
}

impl<'c> Effort<'c> {
    /// As much as one answer may cost, until `is_called_off`: that is asked at every few steps.
    #[must_use]
    pub fn until(is_called_off: &'c dyn Fn() -> bool) -> Self {
        Self { left: Cell::new(ALL_STEPS), is_called_off }
    }

    /// The same with so many steps.
    #[cfg(test)]
    pub(crate) fn of(steps: usize) -> Self {
        Self { left: Cell::new(steps), is_called_off: &|| false }
    }

    /// How many steps are left.
    #[cfg(test)]
    pub(crate) fn left(&self) -> usize {
        self.left.get()
    }

    /// Pays for work that takes so many steps. `false` when that is more than is left, or when it
    /// was called off; from then on it always is.
    pub(crate) fn pay(&self, steps: usize) -> bool {
        let left = self.left.get().saturating_sub(steps);
        self.left.set(if self.is_called_off() { 0 } else { left });
        !self.is_spent()
    }

    /// Whether nobody wants the answer any more. Whoever counts no steps asks this.
    pub(crate) fn is_called_off(&self) -> bool {
        (self.is_called_off)()
    }

    /// Whether an answer may be unfinished, for nothing is left.
    pub(crate) fn is_spent(&self) -> bool {
        self.left.get() == 0
    }

    /// What one walk may cost.
    pub(super) fn of_a_walk(&self) -> Portion<'_> {
        Portion { effort: self, end: self.left.get().saturating_sub(STEPS) }
    }
}

impl Default for Effort<'_> {
    fn default() -> Self {
        Self::until(&|| false)
    }
}

impl fmt::Debug for Effort<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Effort").field(&self.left.get()).finish()
    }
}

/// A part of an effort.
pub(super) struct Portion<'e> {
    effort: &'e Effort<'e>,
    /// What is left of the whole when the part is spent.
    end: usize,
}

impl Portion<'_> {
    /// As [`Effort::pay`], for this part.
    pub(super) fn pay(&self, steps: usize) -> bool {
        self.effort.pay(steps) && self.effort.left.get() > self.end
    }
}

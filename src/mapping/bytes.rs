//! Sets of bytes: what one position of a pattern may match.

use std::fmt::Write;

/// A set of bytes. NUL may be in it: no name holds one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct ByteSet {
    low: u128,
    high: u128,
}

impl ByteSet {
    pub const EMPTY: Self = Self { low: 0, high: 0 };
    pub const ALL: Self = Self { low: u128::MAX, high: u128::MAX };

    pub fn single(byte: u8) -> Self {
        Self::range(byte, byte)
    }

    /// All bytes from `first` to `last`, both included.
    pub fn range(first: u8, last: u8) -> Self {
        Self::of(|byte| (first..=last).contains(&byte))
    }

    pub fn of(holds: impl Fn(u8) -> bool) -> Self {
        let bits = |bytes: std::ops::RangeInclusive<u8>| {
            let held = bytes.filter(|byte| holds(*byte));
            held.fold(0, |bits, byte| bits | 1_u128 << (byte & 127))
        };
        Self { low: bits(0..=127), high: bits(128..=255) }
    }

    pub fn union(self, other: Self) -> Self {
        Self { low: self.low | other.low, high: self.high | other.high }
    }

    pub fn complement(self) -> Self {
        Self { low: !self.low, high: !self.high }
    }

    /// The set with the other case of each ASCII letter in it.
    pub fn in_any_case(self) -> Self {
        let other_case = Self::of(|byte| {
            let other = if byte.is_ascii_alphabetic() { byte ^ 0x20 } else { byte };
            self.has(other)
        });
        self.union(other_case)
    }

    /// Whether a byte is in both.
    pub fn meets(self, other: Self) -> bool {
        self.low & other.low != 0 || self.high & other.high != 0
    }

    /// The set without `byte`.
    pub fn without(self, byte: u8) -> Self {
        self.complement().union(Self::single(byte)).complement()
    }

    /// The byte of a set that holds one.
    pub fn only(self) -> Option<u8> {
        let count = self.low.count_ones() + self.high.count_ones();
        (count == 1).then(|| (0..=255).find(|byte| self.has(*byte))).flatten()
    }

    /// The letter of a set that holds one byte, or one letter in both cases; in lower case.
    pub fn letter(self) -> Option<u8> {
        let first = (0..=255).find(|byte| self.has(*byte))?;
        let only = self == Self::single(first) || self == Self::single(first).in_any_case();
        only.then(|| first.to_ascii_lowercase())
    }

    pub fn has(self, byte: u8) -> bool {
        let half = if byte < 128 { self.low } else { self.high };
        half >> (byte & 127) & 1 == 1
    }

    /// Writes the set as a bracket expression of the `regex` crate, byte by byte in hexadecimal,
    /// so that no character of the map is ever read as syntax.
    pub fn write(self, out: &mut String) {
        if self == Self::EMPTY {
            return out.push_str(r"[^\x00-\xFF]");
        }
        out.push('[');
        let mut bytes = (0..=255_u8).peekable();
        while let Some(first) = bytes.next() {
            if !self.has(first) {
                continue;
            }
            let mut last = first;
            while let Some(next) = bytes.next_if(|next| self.has(*next)) {
                last = next;
            }
            // Writing to a String cannot fail.
            let _ = write!(out, r"\x{first:02X}-\x{last:02X}");
        }
        out.push(']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_written_as_ranges_of_bytes() {
        let mut out = String::new();
        ByteSet::range(b'a', b'c').union(ByteSet::single(0xFF)).write(&mut out);
        assert_eq!(out, r"[\x61-\x63\xFF-\xFF]");
        out.clear();
        ByteSet::ALL.write(&mut out);
        assert_eq!(out, r"[\x00-\xFF]");
        out.clear();
        ByteSet::EMPTY.write(&mut out);
        assert_eq!(out, r"[^\x00-\xFF]");
    }

    #[test]
    fn sets_are_met_and_turned_round() {
        let letters = ByteSet::range(b'a', b'z');
        assert!(letters.has(b'm') && !letters.complement().has(b'm'));
        assert_eq!(letters.without(b'a'), ByteSet::range(b'b', b'z'));
        assert_eq!(letters.without(b'A'), letters);
        assert_eq!(letters.in_any_case(), ByteSet::of(|byte| byte.is_ascii_alphabetic()));
        assert_eq!(ByteSet::single(b'@').in_any_case(), ByteSet::single(b'@'));
        assert_eq!(ByteSet::single(0xC9).in_any_case(), ByteSet::single(0xC9));
        assert_eq!(letters.union(letters.complement()), ByteSet::ALL);
        assert_eq!(ByteSet::EMPTY.complement(), ByteSet::ALL);
        assert_eq!(ByteSet::single(0xC3).only(), Some(0xC3));
        assert_eq!(ByteSet::single(b'a').in_any_case().letter(), Some(b'a'));
        assert_eq!(ByteSet::single(b'A').letter(), Some(b'a'));
        assert_eq!(ByteSet::range(b'A', b'B').letter(), None);
        assert_eq!(ByteSet::EMPTY.letter(), None);
        assert!(letters.meets(ByteSet::single(b'z')) && !letters.meets(ByteSet::single(b'Z')));
        assert!(ByteSet::single(0xC3).meets(ByteSet::ALL));
        assert_eq!(letters.only(), None);
        assert_eq!(ByteSet::EMPTY.only(), None);
    }
}

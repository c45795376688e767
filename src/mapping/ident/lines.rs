//! From the bytes of a file to logical lines (`tokenize_auth_file` in `hba.c`).

use std::iter::Peekable;
use std::rc::Rc;
use std::slice::Split;
use std::sync::Arc;

use super::dialect::Dialect;

/// One or more physical lines, joined where a line ended in a backslash.
pub(super) struct LogicalLine {
    /// The bytes, without line ends and without the backslashes that joined them.
    pub bytes: Vec<u8>,
    /// Where they stand.
    pub origin: Rc<Origin>,
    /// Most bytes of one of its physical lines, line end included.
    pub longest: usize,
}

/// Where the bytes of a logical line stand.
#[derive(Debug)]
pub(super) struct Origin {
    /// The file.
    pub file: Arc<str>,
    /// Where each physical line begins in the logical one; never empty, the first begins at 0.
    segments: Vec<Segment>,
}

#[derive(Debug)]
struct Segment {
    begin: usize,
    line: u32,
}

impl Origin {
    /// The beginning of a file, for what is wrong with it as a whole.
    pub fn whole(file: &Arc<str>) -> Self {
        Self { file: Arc::clone(file), segments: vec![Segment { begin: 0, line: 1 }] }
    }

    /// Number of the first physical line, which is the number PostgreSQL gives the whole.
    pub fn number(&self) -> u32 {
        self.segments.first().map_or(1, |segment| segment.line)
    }

    /// Physical line and 1-based byte column of the byte at `offset`. An offset past the end is
    /// a column past the end of the last physical line.
    pub fn position(&self, offset: usize) -> (u32, u32) {
        let after = self.segments.partition_point(|segment| segment.begin <= offset);
        match self.segments.get(after.saturating_sub(1)) {
            Some(segment) => (segment.line, number(offset - segment.begin + 1)),
            None => (1, number(offset + 1)),
        }
    }
}

/// A count as it is shown to people; no file is long enough to reach the bound.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

type IsLineEnd = fn(&u8) -> bool;

/// The logical lines of a file, in order.
pub(super) struct LogicalLines<'file> {
    file: Arc<str>,
    joins: bool,
    physical: Peekable<Split<'file, u8, IsLineEnd>>,
    /// The last line has a line end too.
    is_ended: bool,
    next_line: u32,
}

impl<'file> LogicalLines<'file> {
    pub fn of(dialect: Dialect, file: &Arc<str>, bytes: &'file [u8]) -> Self {
        let is_line_end: IsLineEnd = |byte| *byte == b'\n';
        // The line end of the last line begins no further line.
        let ended = bytes.strip_suffix(b"\n");
        let bytes = ended.unwrap_or(bytes);
        Self {
            file: Arc::clone(file),
            joins: dialect.joins_lines(),
            physical: bytes.split(is_line_end).peekable(),
            is_ended: ended.is_some(),
            next_line: 1,
        }
    }
}

impl Iterator for LogicalLines<'_> {
    type Item = LogicalLine;

    /// Joins as PostgreSQL does: the line end is stripped from *everything* read so far, and a
    /// backslash counts only after the place of the last join, so that two backslashes followed
    /// by two line ends leave one backslash.
    fn next(&mut self) -> Option<LogicalLine> {
        self.physical.peek()?;
        let mut bytes = Vec::new();
        let mut segments = Vec::new();
        let mut joined = 0;
        let mut longest = 0;
        while let Some(physical) = self.physical.next() {
            let line_end = usize::from(self.is_ended || self.physical.peek().is_some());
            segments.push(Segment { begin: bytes.len(), line: self.next_line });
            self.next_line = self.next_line.saturating_add(1);
            longest = longest.max(physical.len() + line_end);
            bytes.extend_from_slice(physical);
            while bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
            if !self.joins || bytes.len() <= joined || bytes.last() != Some(&b'\\') {
                break;
            }
            bytes.pop();
            joined = bytes.len();
        }
        let origin = Rc::new(Origin { file: Arc::clone(&self.file), segments });
        Some(LogicalLine { bytes, origin, longest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(dialect: &str, file: &str) -> Vec<(u32, String)> {
        LogicalLines::of(dialect.parse().unwrap(), &"f".into(), file.as_bytes())
            .map(|line| (line.origin.number(), String::from_utf8(line.bytes).unwrap()))
            .collect()
    }

    /// What every release but the oldest makes of the file.
    #[track_caller]
    fn check(file: &str, expected: &[(u32, &str)]) {
        for dialect in ["14", "15", "16", "17", "18"] {
            let found = lines(dialect, file);
            let found: Vec<_> = found.iter().map(|(line, text)| (*line, text.as_str())).collect();
            assert_eq!(found, expected, "PostgreSQL {dialect}");
        }
    }

    #[test]
    fn the_oldest_release_joins_no_lines() {
        let found = lines("13", "a\\\nb\r\n\n# c\\\nd\\");
        let found: Vec<_> = found.iter().map(|(line, text)| (*line, text.as_str())).collect();
        assert_eq!(found, [(1, "a\\"), (2, "b"), (3, ""), (4, "# c\\"), (5, "d\\")]);
    }

    #[test]
    fn lines_are_numbered_by_their_first_physical_line() {
        check("a\nb", &[(1, "a"), (2, "b")]);
        check("a\\\nb\nc", &[(1, "ab"), (3, "c")]);
        check("a\\\n b\\\n c\nd\n", &[(1, "a b c"), (4, "d")]);
        check("", &[(1, "")]);
    }

    #[test]
    fn any_run_of_carriage_returns_before_the_line_end_is_stripped() {
        check("a\r\nb\r\r\nc\rd\r", &[(1, "a"), (2, "b"), (3, "c\rd")]);
        check("a\\\r\nb", &[(1, "ab")]);
    }

    #[test]
    fn a_backslash_joins_only_as_the_last_byte() {
        check("a\\ \nb", &[(1, "a\\ "), (2, "b")]);
        check("a\\\\\nb", &[(1, "a\\b")]);
        check("a\\\\\n\nb", &[(1, "a\\"), (3, "b")]);
        check("a\\", &[(1, "a")]);
        check("a\\\n", &[(1, "a")]);
        check("# a\\\nb\nc", &[(1, "# ab"), (3, "c")]);
    }

    #[test]
    fn a_carriage_return_before_a_join_is_stripped_only_when_nothing_follows() {
        check("a\\\r\\\n\nb", &[(1, "a\\"), (3, "b")]);
        check("a\r\\\nb", &[(1, "a\rb")]);
        check("a\r\\\n", &[(1, "a\r")]);
    }

    #[test]
    fn a_position_leads_back_to_the_physical_line() {
        let file = b"ab\\\ncd\\\nef";
        let line = LogicalLines::of(Dialect::default(), &"f".into(), file).next().unwrap();
        let positions: Vec<_> = (0..8).map(|offset| line.origin.position(offset)).collect();
        let physical = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3), (3, 4)];
        assert_eq!(positions, physical);
    }
}

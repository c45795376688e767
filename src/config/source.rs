//! The text of a configuration file, bounded before anything looks at it.

use std::ops::Range;

use super::diagnostic::Position;

/// Bytes a configuration may have: 1 MiB.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;
/// Brackets that may stand inside each other. A configuration needs four.
const DEPTH_MAX: usize = 16;
/// Dots outside of strings that one line may have: each is one more table inside a table. A
/// configuration needs one.
const DOTS_MAX: usize = 16;

/// A text and where its lines begin.
pub(super) struct Source {
    text: String,
    line_starts: Vec<usize>,
}

/// Why a text is not looked at any further.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// A byte that is no UTF-8, at this offset.
    NotUtf8(usize),
    /// Too many tables or arrays inside each other, at this offset.
    TooDeep(usize),
}

impl Source {
    /// Takes the bytes of a file as text.
    pub(super) fn new(bytes: Vec<u8>) -> (Self, Option<Unreadable>) {
        let (text, problem) = match String::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let mut bytes = error.into_bytes();
                bytes.truncate(valid);
                let text = String::from_utf8(bytes).unwrap_or_default();
                (text, Some(Unreadable::NotUtf8(valid)))
            }
        };
        let problem = problem.or_else(|| too_deep(&text).map(Unreadable::TooDeep));
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        (Self { text, line_starts }, problem)
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The line and column of the byte at `offset`, or of the end of the text.
    pub(super) fn position(&self, offset: usize) -> Position {
        let offset = offset.min(self.text.len());
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|index| self.line_starts.get(index));
        let before = self.text.as_bytes().get(*start.unwrap_or(&0)..offset).unwrap_or_default();
        // Every character has one byte that is no continuation of another.
        let characters = before.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Position::at(number(line), number(characters + 1))
    }
}

/// Where brackets or dotted keys go deeper than any configuration does. The parser has bounds of
/// its own, but each of its 80 levels of brackets may hold 80 more of dots, and dropping such a
/// tree is recursive.
fn too_deep(text: &str) -> Option<usize> {
    let mut open = Vec::new();
    let mut dots = 0;
    let mut rest = 0;
    while let Some(&byte) = text.as_bytes().get(rest) {
        let at = rest;
        rest += 1;
        match byte {
            b'"' | b'\'' => rest = string_end(text, at).end,
            b'#' => rest = line_end(text, at),
            b'\n' => dots = 0,
            b'.' => dots += 1,
            b'[' => open.push(b']'),
            b'{' => open.push(b'}'),
            // A bracket that closes nothing does not make room for more.
            b']' | b'}' if open.last() == Some(&byte) => drop(open.pop()),
            _ => {}
        }
        if open.len() > DEPTH_MAX || dots > DOTS_MAX {
            return Some(at);
        }
    }
    None
}

/// The string that begins with the quote at `start`, as far as it is one: a string of one line
/// ends with its line, one of several with the text.
fn string_end(text: &str, start: usize) -> Range<usize> {
    let bytes = text.as_bytes();
    let after = |at: usize| bytes.get(at..).unwrap_or_default();
    let escapes = bytes.get(start) == Some(&b'"');
    let quote: &[u8] = if escapes { b"\"" } else { b"'" };
    let triple = quote.repeat(3);
    let is_long = after(start).starts_with(&triple);
    let end_mark = if is_long { triple.as_slice() } else { quote };
    let mut at = start + end_mark.len();
    while let Some(&byte) = bytes.get(at) {
        if after(at).starts_with(end_mark) {
            return start..at + end_mark.len();
        }
        if byte == b'\n' && !is_long {
            return start..at;
        }
        at += if byte == b'\\' && escapes && bytes.get(at + 1) != Some(&b'\n') { 2 } else { 1 };
    }
    start..bytes.len()
}

fn line_end(text: &str, start: usize) -> usize {
    let rest = text.as_bytes().get(start..).unwrap_or_default();
    rest.iter().position(|byte| *byte == b'\n').map_or(text.len(), |length| start + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new(text.into()).0
    }

    #[test]
    fn positions_count_characters_from_one() {
        let source = source("a\nüb = 1\n");
        let at = |offset| (source.position(offset).line, source.position(offset).column);
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(1), (1, 2));
        assert_eq!(at(2), (2, 1));
        assert_eq!(at(4), (2, 2));
        assert_eq!(at(5), (2, 3));
        assert_eq!(at(10), (3, 1));
        assert_eq!(at(99), (3, 1));
    }

    #[test]
    fn brackets_and_dots_are_bounded_where_they_nest() {
        let problem = |text: &str| Source::new(text.into()).1;
        assert_eq!(problem(&"[".repeat(16)), None);
        assert_eq!(problem(&"[".repeat(17)), Some(Unreadable::TooDeep(16)));
        assert_eq!(problem(&"[}".repeat(17)), Some(Unreadable::TooDeep(32)));
        assert_eq!(problem(&"[]".repeat(1000)), None);
        assert_eq!(problem(&"a.".repeat(17)), Some(Unreadable::TooDeep(33)));
        assert_eq!(problem(&"a.b\n".repeat(1000)), None);
    }

    #[test]
    fn brackets_in_strings_and_comments_do_not_count() {
        let many = "[".repeat(50);
        for text in [
            format!("a = \"{many}\""),
            format!("a = '{many}'"),
            format!("a = \"\\\"{many}\""),
            format!("a = \"\"\"\n\"\"{many}\n\"\"\""),
            format!("a = '''\n'{many}\n'''"),
            format!("# {many}\n"),
        ] {
            assert_eq!(Source::new(text.clone().into()).1, None, "{text}");
            let behind = format!("{text}\n{many}");
            assert!(Source::new(behind.into()).1.is_some(), "{text} hides what follows");
        }
        let unclosed = format!("a = \"x\n{many}");
        assert!(Source::new(unclosed.into()).1.is_some());
    }

    #[test]
    fn bytes_that_are_no_text_are_found_at_their_place() {
        let (source, problem) = Source::new(b"a = 1\nb\xff".to_vec());
        assert_eq!(problem, Some(Unreadable::NotUtf8(7)));
        assert_eq!(source.position(7), Position::at(2, 2));
    }
}

//! The only two ways a text gets into a statement that takes no `$1`.

/// `text` as a PostgreSQL identifier, always quoted
/// (manual, "Lexical Structure", 4.1.1 Identifiers and Key Words).
///
/// A NUL byte cannot stand in a statement; the name types refuse it, and here it is dropped so
/// that no caller can cut a statement short.
#[must_use]
pub fn identifier(text: &str) -> String {
    format!("\"{}\"", text.replace('\0', "").replace('"', "\"\""))
}

/// `text` as a PostgreSQL string constant that reads the same under both settings of
/// `standard_conforming_strings`: a text with a backslash becomes an escape string `E'…'`
/// (manual, "Lexical Structure", 4.1.2 Constants).
#[must_use]
pub fn literal(text: &str) -> String {
    let text = text.replace('\0', "").replace('\'', "''");
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\"))
    } else {
        format!("'{text}'")
    }
}

/// `text` for a log line, an error or a terminal: what cannot be seen, or turns the rest of the
/// line around, is written as `\u{…}`. Names in a catalogue may hold any of it.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, letter| {
        if letter.is_control() || is_invisible(letter) {
            shown.extend(letter.escape_unicode());
        } else {
            shown.push(letter);
        }
        shown
    })
}

/// Zero-width letters, line and paragraph separators, and marks of direction.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(letter, '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_written_out_and_the_rest_stays() {
        assert_eq!(printable("größe 'x' \"y\""), "größe 'x' \"y\"");
        assert_eq!(printable("a\nb\u{202e}c\u{1b}[0m"), r"a\u{a}b\u{202e}c\u{1b}[0m");
    }

    #[test]
    fn a_quote_in_a_name_cannot_end_the_identifier() {
        assert_eq!(
            identifier(r#"x"; ALTER ROLE y SUPERUSER; --"#),
            r#""x""; ALTER ROLE y SUPERUSER; --""#
        );
        assert_eq!(identifier("plain"), r#""plain""#);
    }

    #[test]
    fn a_quote_or_backslash_in_a_value_cannot_end_the_literal() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\'b"), r"E'a\\''b'");
        assert_eq!(literal("plain"), "'plain'");
    }
}

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
        if steers(letter) {
            shown.extend(letter.escape_unicode());
        } else {
            shown.push(letter);
        }
        shown
    })
}

/// `text` if it has at most `most` letters, or the first of them and an ellipsis: what others have
/// written can be of any length.
#[must_use]
pub fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Whether a letter does something to a terminal or to the reader other than being seen: Unicode
/// categories Cc, Zl, Zp and what matters of Cf (UTR #36 section 3).
#[must_use]
pub fn steers(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// `sql` in letters that can be seen. A name or constant that holds others is written with escapes
/// (manual, "Lexical Structure", 4.1.2.3 and 4.1.2.4), so that the server reads the same.
///
/// Invariant: `sql` was made by [`identifier`], [`literal`] and the server's own quoting, which make
/// no dollar quote; a comment goes to the end of its line.
#[must_use]
pub fn printable_sql(sql: &str) -> String {
    let mut shown = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(at) = rest.find(['"', '\'']).into_iter().chain(rest.find("--")).min() {
        let (before, quoted) = rest.split_at(at);
        let is_comment = quoted.starts_with('-');
        let end = if is_comment { quoted.find('\n') } else { Some(end_of_quoted(quoted)) };
        let (token, after) = quoted.split_at(end.unwrap_or(quoted.len()));
        shown.push_str(before);
        if !token.contains(steers) {
            shown.push_str(token);
        } else if is_comment {
            shown.push_str(&printable(token));
        } else if token.starts_with('\'') && before.ends_with('E') {
            // A constant with escapes already: only its letters that cannot be seen are written so.
            shown.push_str(&escape(token, |code| format!("\\U{code:08x}"), None));
        } else {
            shown.push_str("U&");
            shown.push_str(&escape(token, |code| format!("\\+{code:06x}"), Some("\\\\")));
        }
        rest = after;
    }
    shown.push_str(rest);
    shown
}

/// Where the quoted token that `text` begins with ends.
fn end_of_quoted(text: &str) -> usize {
    let Some(quote) = text.chars().next() else { return 0 };
    let mut ends = text.match_indices(quote).map(|(at, _)| at).skip(1).peekable();
    while let Some(at) = ends.next() {
        match ends.peek() {
            Some(next) if *next == at + 1 => {
                ends.next();
            }
            _ => return at + 1,
        }
    }
    text.len()
}

/// `token` with each letter that cannot be seen written by `code`, and a backslash by `backslash`.
fn escape(token: &str, code: fn(u32) -> String, backslash: Option<&str>) -> String {
    let one = |letter: char| match (letter, backslash) {
        ('\\', Some(backslash)) => backslash.to_owned(),
        _ if steers(letter) => code(u32::from(letter)),
        _ => letter.to_string(),
    };
    token.chars().map(one).collect()
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
    fn a_text_that_is_too_long_is_cut_between_letters_and_says_so() {
        for (most, shown) in [(0, "…"), (2, "zü…"), (4, "zürn…"), (5, "zürnt"), (6, "zürnt")]
        {
            assert_eq!(shortened("zürnt", most), shown);
        }
        assert_eq!(shortened("", 0), "");
    }

    #[test]
    fn a_statement_with_letters_that_cannot_be_seen_names_the_same_with_those_that_can() {
        for (sql, shown) in [
            ("DROP TABLE \"größe\".\"it's\"", "DROP TABLE \"größe\".\"it's\""),
            ("DROP TABLE a.\"x\ny\"\"\"; x", "DROP TABLE a.U&\"x\\+00000ay\"\"\"; x"),
            ("X \"a\\\u{200b}\"", "X U&\"a\\\\\\+00200b\""),
            ("ROLLBACK PREPARED 'a\n''b'", "ROLLBACK PREPARED U&'a\\+00000a''b'"),
            ("-- it's \u{61c}\nX \"\u{61c}\";\n", "-- it's \\u{61c}\nX U&\"\\+00061c\";\n"),
            ("X \"a--b\u{ad}\" -- \"", "X U&\"a--b\\+0000ad\" -- \""),
            ("X 'a\u{e0001}'", "X U&'a\\+0e0001'"),
            ("ROLLBACK PREPARED E'a\n\\\\b'", "ROLLBACK PREPARED E'a\\U0000000a\\\\b'"),
        ] {
            assert_eq!(printable_sql(sql), shown);
        }
    }

    #[test]
    fn what_is_shown_of_a_statement_holds_no_letter_that_steers() {
        for letter in ('\u{1}'..=char::MAX).filter(|letter| steers(*letter)) {
            for name in [identifier, literal] {
                let shown = printable_sql(&format!("X {}", name(&format!("a{letter}\\b\"'c"))));
                assert!(!shown.contains(steers) && !shown.contains("\\u{"), "{shown}");
            }
        }
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

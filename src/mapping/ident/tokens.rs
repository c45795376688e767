//! From a logical line to tokens (`next_token` in `hba.c`).

/// One token, with its quotes taken off.
pub(super) struct Token {
    pub text: Vec<u8>,
    /// Where each byte of `text` stands in the logical line.
    offsets: Vec<usize>,
    /// Where the token begins, its opening quote included.
    pub begin: usize,
    /// A quote came before any byte: the token is no keyword, no `+name` and no `@file`. A quote
    /// later in the token does not do that.
    pub quoted: bool,
}

/// A token has more bytes than it may; it begins here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong {
    pub begin: usize,
}

impl Token {
    /// Where byte `index` of the text stands in the logical line; past the end of the text, the
    /// place after its last byte.
    pub fn offset(&self, index: usize) -> usize {
        match (self.offsets.get(index), self.offsets.last()) {
            (Some(offset), _) => *offset,
            (None, Some(last)) => last + 1,
            (None, None) => self.begin,
        }
    }

    /// The token is `@file`: the tokens of that file stand in its place.
    pub fn file(&self) -> Option<&[u8]> {
        if self.quoted {
            return None;
        }
        self.text.strip_prefix(b"@").filter(|file| !file.is_empty())
    }
}

/// Takes a logical line apart, token by token. The grammar itself has no error.
pub(super) struct Tokens<'line> {
    line: &'line [u8],
    most: usize,
    at: usize,
    end: usize,
    open_quote: Option<usize>,
}

/// `pg_isblank`: form feed and vertical tab are none.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

impl<'line> Tokens<'line> {
    /// The tokens of `line`, each of at most `most` bytes.
    pub fn of(line: &'line [u8], most: usize) -> Self {
        Self { line, most, at: 0, end: 0, open_quote: None }
    }

    /// Whether nothing of the line is left.
    pub fn is_at_end(&self) -> bool {
        self.peek().is_none()
    }

    /// Whether a comma ended the last token, so that the next one belongs to the same field.
    pub fn is_at_comma(&self) -> bool {
        self.peek() == Some(b',')
    }

    /// Where the last token ended, its closing quote included.
    pub fn end(&self) -> usize {
        self.end
    }

    /// Where a quote was opened that the line does not close. PostgreSQL lets such a token run to
    /// the end of the line, blanks and `#` included, and so is it here.
    pub fn open_quote(&self) -> Option<usize> {
        self.open_quote
    }

    /// The next token, leaving the byte that ends it; `None` at the end of the line.
    ///
    /// # Errors
    /// When something follows the most bytes that a token may have, even if that is only the
    /// quote or the comma that ends it: so it is in PostgreSQL 15 and older.
    pub fn next_token(&mut self) -> Result<Option<Token>, TooLong> {
        while self.peek().is_some_and(|byte| is_blank(byte) || byte == b',') {
            self.at += 1;
        }
        let begin = self.at;
        let mut token = Token { text: Vec::new(), offsets: Vec::new(), begin, quoted: false };
        let mut open_quote = None;
        let mut after_quote = false;
        let mut any_quote = false;
        while let Some(byte) = self.peek() {
            if open_quote.is_none() && is_blank(byte) {
                break;
            }
            if open_quote.is_none() && byte == b'#' {
                break;
            }
            if token.text.len() >= self.most {
                self.at = self.line.len();
                return Err(TooLong { begin });
            }
            if open_quote.is_none() && byte == b',' {
                break;
            }
            if byte != b'"' || after_quote {
                token.text.push(byte);
                token.offsets.push(self.at);
            }
            // Within quotes, two quotes are one: the first closes, the second is kept and opens.
            after_quote = open_quote.is_some() && byte == b'"' && !after_quote;
            if byte == b'"' {
                open_quote = if open_quote.is_some() { None } else { Some(self.at) };
                any_quote = true;
                token.quoted |= token.text.is_empty();
            }
            self.at += 1;
        }
        self.open_quote = self.open_quote.or(open_quote);
        let is_token = any_quote || !token.text.is_empty();
        if is_token {
            self.end = self.at;
        }
        // A comment begins here, or nothing does.
        if self.peek() == Some(b'#') {
            self.at = self.line.len();
        }
        Ok(is_token.then_some(token))
    }

    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A quoted token is shown in quotes, one that a comma ends with `|` after it.
    fn shown(tokens: &mut Tokens<'_>) -> Result<Vec<String>, TooLong> {
        let mut fields = vec![String::new()];
        while let Some(token) = tokens.next_token()? {
            let quote = if token.quoted { "\"" } else { "" };
            let text = String::from_utf8(token.text).unwrap();
            let comma = if tokens.is_at_comma() { "|" } else { "" };
            fields.last_mut().unwrap().push_str(&[quote, &text, quote, comma].concat());
            if comma.is_empty() {
                fields.push(String::new());
            }
        }
        fields.retain(|field| !field.is_empty());
        Ok(fields)
    }

    #[track_caller]
    fn check(line: &str, fields: &[&str]) {
        let mut tokens = Tokens::of(line.as_bytes(), usize::MAX);
        assert_eq!(shown(&mut tokens).unwrap(), fields, "{line}");
        assert!(tokens.is_at_end());
    }

    #[test]
    fn blanks_split_fields() {
        check("a b\tc\rd", &["a", "b", "c", "d"]);
        check("  a  ", &["a"]);
        check("a\x0bb\x0cc", &["a\x0bb\x0cc"]);
        check(" \t\r", &[]);
    }

    #[test]
    fn commas_join_tokens_into_a_field() {
        check("a,b c", &["a|b", "c"]);
        check("a, b c", &["a|b", "c"]);
        check("a ,b", &["a", "b"]);
        check(",a b,", &["a", "b|"]);
        check("a,,b", &["a|b"]);
        check("\"a,b\"", &["\"a,b\""]);
    }

    #[test]
    fn a_comment_ends_the_line_even_within_a_token() {
        check("# all", &[]);
        check("a b#c d", &["a", "b"]);
        check("a \"b#c\" d", &["a", "\"b#c\"", "d"]);
        check("a,#b", &["a|"]);
    }

    #[test]
    fn quotes_may_stand_anywhere_in_a_token() {
        check(r#""a b" c"d e"f"#, &["\"a b\"", "cd ef"]);
        check(r#""" x"#, &["\"\"", "x"]);
        check(r#""a""b""#, &["\"a\"b\""]);
        check(r#""""""#, &["\"\"\""]);
        check(r#"""all a"ll""#, &["\"all\"", "all"]);
    }

    #[test]
    fn a_quote_that_is_never_closed_runs_to_the_end_of_the_line() {
        check(r#"a "b c # d"#, &["a", "\"b c # d\""]);
        let open_quote = |line: &[u8]| {
            let mut tokens = Tokens::of(line, usize::MAX);
            while tokens.next_token().unwrap().is_some() {}
            tokens.open_quote()
        };
        assert_eq!(open_quote(br#"a "b c"#), Some(2));
        assert_eq!(open_quote(br#"a "b" c"#), None);
    }

    #[test]
    fn offsets_point_at_the_bytes_of_the_line() {
        let mut tokens = Tokens::of(br#" "a""b"c"#, usize::MAX);
        let token = tokens.next_token().unwrap().unwrap();
        assert_eq!(token.begin, 1);
        let offsets: Vec<_> = (0..5).map(|index| token.offset(index)).collect();
        assert_eq!(offsets, [2, 4, 5, 7, 8]);
    }

    #[test]
    fn a_token_is_too_long_when_anything_but_its_end_follows() {
        let bounded = |line: &str| shown(&mut Tokens::of(line.as_bytes(), 3));
        assert_eq!(bounded("abc abc"), Ok(vec!["abc".into(), "abc".into()]));
        assert_eq!(bounded("abc#d"), Ok(vec!["abc".into()]));
        assert_eq!(bounded(r#"  "abc "#), Err(TooLong { begin: 2 }));
        assert_eq!(bounded("x abcd"), Err(TooLong { begin: 2 }));
        assert_eq!(bounded("abc,d"), Err(TooLong { begin: 0 }));
        assert_eq!(bounded(r#""abc""#), Err(TooLong { begin: 0 }));
        assert_eq!(bounded(r#""ab" ab,c"#), Ok(vec!["\"ab\"".into(), "ab|c".into()]));
    }

    #[test]
    fn a_file_is_named_by_an_at_sign_that_is_not_quoted() {
        let file = |line: &str| {
            let token = Tokens::of(line.as_bytes(), usize::MAX).next_token().unwrap().unwrap();
            token.file().map(|file| String::from_utf8(file.to_vec()).unwrap())
        };
        assert_eq!(file("@a").as_deref(), Some("a"));
        assert_eq!(file(r#"@"a b""#).as_deref(), Some("a b"));
        assert_eq!(file(r#""@a""#), None);
        assert_eq!(file("@"), None);
        assert_eq!(file("a@b"), None);
    }
}

//! From a logical line to fields of tokens (`next_token` and `next_field_expand` in `hba.c`).

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
}

/// One field: tokens that commas join. Never empty.
pub(super) type Field = Vec<Token>;

/// The fields of a line, and where a quote was opened that the line does not close. PostgreSQL
/// lets such a token run to the end of the line, blanks and `#` included, and so is it here.
pub(super) struct Fields {
    pub fields: Vec<Field>,
    pub open_quote: Option<usize>,
}

/// Splits a logical line. Nothing is refused here: the grammar has no error.
pub(super) fn split(line: &[u8]) -> Fields {
    let mut reader = Reader { line, at: 0, open_quote: None };
    let mut fields = Vec::new();
    while reader.peek().is_some() {
        let field = reader.field();
        if !field.is_empty() {
            fields.push(field);
        }
    }
    Fields { fields, open_quote: reader.open_quote }
}

struct Reader<'line> {
    line: &'line [u8],
    at: usize,
    open_quote: Option<usize>,
}

/// `pg_isblank`: form feed and vertical tab are none.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    fn field(&mut self) -> Field {
        let mut field = Vec::new();
        loop {
            while self.peek().is_some_and(|byte| is_blank(byte) || byte == b',') {
                self.at += 1;
            }
            let Some(token) = self.token() else { return field };
            field.push(token);
            if self.peek() != Some(b',') {
                return field;
            }
        }
    }

    /// The token here, leaving the byte that ends it; `None` at the end of the line.
    fn token(&mut self) -> Option<Token> {
        let begin = self.at;
        let mut token = Token { text: Vec::new(), offsets: Vec::new(), begin, quoted: false };
        let mut open_quote = None;
        let mut after_quote = false;
        let mut any_quote = false;
        while let Some(byte) = self.peek() {
            if open_quote.is_none() {
                match byte {
                    b'#' => {
                        self.at = self.line.len();
                        break;
                    }
                    b',' => break,
                    _ if is_blank(byte) => break,
                    _ => {}
                }
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
        (any_quote || !token.text.is_empty()).then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A quoted token is shown in quotes, tokens of one field with `|` between.
    #[track_caller]
    fn check(line: &str, fields: &[&str]) {
        let shown = |token: &Token| {
            let text = String::from_utf8(token.text.clone()).unwrap();
            if token.quoted { format!("\"{text}\"") } else { text }
        };
        let found: Vec<_> = split(line.as_bytes())
            .fields
            .iter()
            .map(|field| field.iter().map(shown).collect::<Vec<_>>().join("|"))
            .collect();
        assert_eq!(found, fields, "{line}");
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
        check(",a b,", &["a", "b"]);
        check("a,,b", &["a|b"]);
        check("\"a,b\"", &["\"a,b\""]);
    }

    #[test]
    fn a_comment_ends_the_line_even_within_a_token() {
        check("# all", &[]);
        check("a b#c d", &["a", "b"]);
        check("a \"b#c\" d", &["a", "\"b#c\"", "d"]);
        check("a,#b", &["a"]);
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
        assert_eq!(split(br#"a "b c"#).open_quote, Some(2));
        assert_eq!(split(br#"a "b" c"#).open_quote, None);
    }

    #[test]
    fn offsets_point_at_the_bytes_of_the_line() {
        let fields = split(br#" "a""b"c"#).fields;
        let token = &fields[0][0];
        assert_eq!(token.begin, 1);
        let offsets: Vec<_> = (0..5).map(|index| token.offset(index)).collect();
        assert_eq!(offsets, [2, 4, 5, 7, 8]);
    }
}

//! Classes of bytes that have names.
//!
//! PostgreSQL reads the map before it knows any database, so its server encoding is still
//! `SQL_ASCII` and its collation C: patterns match bytes, and classes know ASCII only.

use crate::mapping::bytes::ByteSet;

/// The bytes of a POSIX class in the C locale, as PostgreSQL's `regc_pg_locale.c` has them;
/// `cntrl` holds 0x80 to 0x9F too.
pub(super) fn posix_class(name: &[u8]) -> Option<ByteSet> {
    let class: fn(u8) -> bool = match name {
        b"alnum" => |byte| byte.is_ascii_alphanumeric(),
        b"alpha" => |byte| byte.is_ascii_alphabetic(),
        b"ascii" => |byte| byte.is_ascii(),
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => |byte| matches!(byte, 0..=0x1F | 0x7F..=0x9F),
        b"digit" => |byte| byte.is_ascii_digit(),
        b"graph" => |byte| byte.is_ascii_graphic(),
        b"lower" => |byte| byte.is_ascii_lowercase(),
        b"print" => |byte| byte.is_ascii_graphic() || byte == b' ',
        b"punct" => |byte| byte.is_ascii_punctuation(),
        b"space" => |byte| matches!(byte, b' ' | b'\t'..=b'\r'),
        b"upper" => |byte| byte.is_ascii_uppercase(),
        b"word" => is_word,
        b"xdigit" => |byte| byte.is_ascii_hexdigit(),
        _ => return None,
    };
    Some(ByteSet::of(class))
}

/// What `\w` matches, and what borders of words are between.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The bytes of `\d`, `\s` and `\w`.
pub(super) fn class_escape(letter: u8) -> Option<ByteSet> {
    match letter {
        b'd' => posix_class(b"digit"),
        b's' => posix_class(b"space"),
        b'w' => posix_class(b"word"),
        _ => None,
    }
}

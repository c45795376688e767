//! As much of the Basic Encoding Rules as is needed to check a directory's answers before a
//! library sees them (RFC 4511 section 5.1: definite lengths only).

/// Most levels of nesting in an LDAP message. An entry's value is at level 6, a control's at 4.
const DEPTH_MAX: usize = 10;

/// One element: its identifier octet, its contents, and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element<'a> {
    pub tag: u8,
    pub content: &'a [u8],
    pub rest: &'a [u8],
}

/// The first element of `bytes`; none when it is cut short, has an identifier of several octets
/// or an indefinite length.
pub(super) fn first(bytes: &[u8]) -> Option<Element<'_>> {
    let (&tag, rest) = bytes.split_first()?;
    let (&short, rest) = rest.split_first()?;
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (length, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        0x81..=0x84 => {
            let (octets, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            (big_endian(octets), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some(Element { tag, content, rest })
}

/// `octets` as an unsigned number; callers pass at most four.
pub(super) fn big_endian(octets: &[u8]) -> usize {
    octets.iter().fold(0, |sum, &octet| (sum << 8) | usize::from(octet))
}

/// Whether `bytes` are whole elements and nothing else, nested no deeper than an LDAP message is.
pub(super) fn is_well_formed(bytes: &[u8]) -> bool {
    holds_elements(bytes, DEPTH_MAX)
}

fn holds_elements(mut bytes: &[u8], depth: usize) -> bool {
    while !bytes.is_empty() {
        let Some(element) = first(bytes) else { return false };
        let is_constructed = element.tag & 0x20 != 0;
        if is_constructed && (depth == 0 || !holds_elements(element.content, depth - 1)) {
            return false;
        }
        bytes = element.rest;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_read_whole_or_not_at_all() {
        let message = [0x30, 0x03, 0x02, 0x01, 0x07, 0xff];
        let element = first(&message).unwrap();
        assert_eq!((element.tag, element.content), (0x30, &message[2..5]));
        assert_eq!(element.rest, &[0xff]);
        for cut in 0..5 {
            assert_eq!(first(&message[..cut]), None, "{cut} bytes");
        }
    }

    #[test]
    fn long_lengths_are_read_and_indefinite_ones_refused() {
        let active_directory_style = [0x04, 0x84, 0, 0, 0, 1, b'x'];
        assert_eq!(first(&active_directory_style).unwrap().content, b"x");
        assert_eq!(first(&[0x30, 0x80, 0, 0]), None);
        assert_eq!(first(&[0x30, 0x85, 0, 0, 0, 0, 0]), None);
        assert_eq!(first(&[0x04, 0x84, 0xff, 0xff, 0xff, 0xff, 1]), None);
        assert_eq!(first(&[0x1f, 0x01, 0x00]), None);
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| {
            (0..levels).fold(Vec::new(), |inner: Vec<u8>, _| {
                let mut outer = vec![0x30, u8::try_from(inner.len()).unwrap()];
                outer.extend(inner);
                outer
            })
        };
        assert!(is_well_formed(&nested(DEPTH_MAX)));
        assert!(!is_well_formed(&nested(DEPTH_MAX + 2)));
        assert!(is_well_formed(&[0x02, 0x01, 0x07, 0x04, 0x00]));
        assert!(!is_well_formed(&[0x30, 0x02, 0x04, 0x05]));
    }
}

//! What a line says of a role alone, whoever asks: for searching backwards.

use super::question::Question;
use super::rule::{DatabaseUser, SystemUser};
use super::view::RuleView;

/// What a line says of a role, whoever it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mapping) enum RoleAlone {
    /// It lets all whom it is about act as the role.
    Yes,
    /// It lets those act as the role whose group 1 holds this.
    WithCapture(Vec<u8>),
    /// It lets nobody act as the role.
    No,
}

impl RuleView<'_> {
    /// What the line says of the role of `question`, whoever asks.
    pub(in crate::mapping) fn role_alone(self, question: &Question<'_>) -> RoleAlone {
        let DatabaseUser::WithCapture { before, after } = &self.0.database_user else {
            let admits = self.0.database_user.admits(question, None);
            return if admits == Some(true) { RoleAlone::Yes } else { RoleAlone::No };
        };
        if self.captures() == Captures::Never {
            return RoleAlone::No;
        }
        let between = |role: &[u8]| -> Option<Vec<u8>> {
            let (head, rest) = role.split_at_checked(before.len())?;
            let (capture, tail) = rest.split_at_checked(rest.len().checked_sub(after.len())?)?;
            let case = question.case;
            (case.is_same(head, before) && case.is_same(tail, after)).then(|| capture.to_vec())
        };
        between(question.role).map_or(RoleAlone::No, RoleAlone::WithCapture)
    }

    /// Whether the line may end in an error for somebody whom it is about: because it needs group 1
    /// of a regular expression that may match without it.
    pub(in crate::mapping) fn may_fail(self) -> bool {
        match &self.0.database_user {
            DatabaseUser::WithCapture { .. } => self.captures() != Captures::Always,
            _ => false,
        }
    }

    /// Whether the line ends in an error for nobody at all, however long their name is.
    pub(in crate::mapping) fn never_fails(self) -> bool {
        match &self.0.system_user {
            SystemUser::Pattern(pattern) => !pattern.can_fail(),
            SystemUser::Literal(_) => true,
        }
    }

    fn captures(self) -> Captures {
        match &self.0.system_user {
            SystemUser::Pattern(pattern) => captures(pattern.text()),
            SystemUser::Literal(_) => Captures::Never,
        }
    }
}

/// Whether group 1 of a regular expression takes part in its matches, as far as that is plain to
/// see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Captures {
    /// It stands in no other parentheses and beside no alternative, and must be matched.
    Always,
    /// There is none.
    Never,
    /// Either, or it is not plain.
    Perhaps,
}

fn captures(pattern: &[u8]) -> Captures {
    // A director changes what the rest means, and so can an option (`x`, `q`).
    if pattern.starts_with(b"***") || has_options(pattern) {
        return Captures::Perhaps;
    }
    let mut rest = pattern;
    let mut depth = 0_usize;
    let mut first = None;
    let mut is_sure = true;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'\\' => rest = after.get(1..).unwrap_or_default(),
            b'[' => rest = after_bracket(after),
            b'|' => is_sure &= depth > 0,
            b'(' => {
                if first.is_none() && !after.starts_with(b"?") {
                    is_sure &= depth == 0;
                    first = Some(Group::Open);
                }
                depth += 1;
            }
            b')' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && first == Some(Group::Open) {
                    first = Some(Group::Closed);
                    is_sure &= !matches!(after.first(), Some(b'?' | b'*' | b'{'));
                }
            }
            _ => {}
        }
    }
    match first {
        None => Captures::Never,
        Some(Group::Closed) if is_sure && depth == 0 => Captures::Always,
        Some(_) => Captures::Perhaps,
    }
}

/// How far group 1 was read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Open,
    Closed,
}

/// `(?i)` and its like at the beginning.
fn has_options(pattern: &[u8]) -> bool {
    let Some(inside) = pattern.strip_prefix(b"(?") else { return false };
    inside.first().is_some_and(u8::is_ascii_alphabetic) && !inside.starts_with(b"i)")
}

/// What comes after a bracket expression of which `rest` follows the `[` (manual, 9.7.3.2).
fn after_bracket(rest: &[u8]) -> &[u8] {
    let body = rest.strip_prefix(b"^").unwrap_or(rest);
    // A `]` that comes first is a letter.
    let mut rest = body.strip_prefix(b"]").unwrap_or(body);
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after.first()) {
            (b']', _) => return rest,
            (b'\\', _) => rest = after.get(1..).unwrap_or_default(),
            (b'[', Some(kind @ (b':' | b'.' | b'='))) => {
                let end = after.windows(2).skip(1).position(|pair| pair == [*kind, b']']);
                rest = end.and_then(|end| after.get(end + 3..)).unwrap_or_default();
            }
            _ => {}
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_one_is_sure_only_where_it_must_be_matched() {
        let check = |patterns: &[&str], expected| {
            for pattern in patterns {
                assert_eq!(captures(pattern.as_bytes()), expected, "{pattern}");
            }
        };
        let always = [
            "(.*)",
            "^(.*)@CORP$",
            "^(a|b)c",
            r"^\((.*)\)$",
            "^[(]([^)|]*)[|]$",
            "a(?:b|c)(d)",
            "(a)(b)?",
            "^([[:alpha:])]+)x",
            "(?i)^(a)$",
            "((a)|b)",
            "x?(y)+",
            "^[]|](.)$",
        ];
        check(&always, Captures::Always);
        let perhaps = [
            "^(a)?b",
            "(a)*",
            "(a){0,1}",
            "a|(b)",
            "(a)|b",
            "(?:(a)|b)",
            "(?:(a))?",
            "***=(a)",
            "(?x)(a)",
            "(?=(a))",
            "***=a",
        ];
        check(&perhaps, Captures::Perhaps);
        let never = ["", "abc", r"\(a\)", "[(]a[)]", "(?:a)", "[[:alpha:]|(x)]", "a|b", "(?i)a"];
        check(&never, Captures::Never);
    }
}

//! Fields that do not mean what they seem to.

use super::Checked;
use super::finding::{LintCode, LintFinding, printed, shown};
use crate::mapping::line::{Grant, Line};
use crate::mapping::{DatabaseUserView, IdentMap, RuleRef, SystemUserView};
use crate::names::MapName;

/// What a file may begin with that was saved as UTF-8 by some editors.
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// Lines that name several files, of which only the first is included.
pub(super) fn half_included(map: &IdentMap) -> impl Iterator<Item = LintFinding> {
    let message = "the line includes the first file alone: PostgreSQL drops what stands behind a \
                   comma without a word";
    let hint = "write a line for each file; quote a name with a comma in it";
    map.half_included()
        .map(move |place| LintFinding::new(Some(place), LintCode::HalfIncluded, message, hint))
}

/// Files that begin with a byte order mark.
pub(super) fn of_files(map: &IdentMap) -> Vec<LintFinding> {
    let marked = map.files().filter(|(_, bytes)| bytes.starts_with(MARK));
    let finding = |(file, _): (String, &[u8])| {
        let message = "the file begins with a byte order mark, which is read as a part of the first \
                       name";
        let hint = "save the file without it";
        let place = RuleRef { file, line: 1 };
        LintFinding::new(Some(place), LintCode::ByteOrderMark, message, hint)
    };
    marked.map(finding).collect()
}

/// Whether the map is called like what includes files.
pub(super) fn is_directive(map: &MapName) -> bool {
    ["include", "include_if_exists", "include_dir"].contains(&map.as_str())
}

/// PostgreSQL includes only by lines of two fields; all others are lines of a map.
fn not_included(checked: &Checked<'_>, line: &Line<'_>) -> Option<LintFinding> {
    if checked.used.is_some() || !is_directive(checked.name) {
        return None;
    }
    let name = checked.name;
    let message = format!("the line includes nothing: it is one of a map that is called {name}");
    let hint = if checked.dialect.includes() {
        "leave out what stands behind the name of the file; quote a name with blanks, and begin a \
         comment with `#`"
    } else {
        "only PostgreSQL 16 and newer include files: write their lines here"
    };
    Some(LintFinding::new(Some(line.reference()), LintCode::NotIncluded, message, hint))
}

pub(super) fn check(checked: &Checked<'_>) -> Vec<LintFinding> {
    let mut findings = Vec::new();
    for line in &checked.lines {
        findings.extend(not_included(checked, line));
    }
    for line in &checked.lines {
        findings.extend(extra_field(line));
        findings.extend(empty_name(line));
        findings.extend(keyword(line));
        findings.extend(literal_pattern(line));
        if let Some(used) = checked.used {
            if used.is_of_groups() {
                findings.extend(all_for_group(line));
            } else if used.groups.is_empty() && !used.group_duties {
                findings.extend(account_by_dn(line));
            }
        }
    }
    findings
}

fn extra_field(line: &Line<'_>) -> Option<LintFinding> {
    let message = "the line has more than three fields, and the others are ignored without a word";
    let hint = "leave them out, begin a comment with `#`, or quote a name with blanks";
    let finding = || LintFinding::new(Some(line.reference()), LintCode::ExtraField, message, hint);
    line.has_extra_field().then(finding)
}

fn empty_name(line: &Line<'_>) -> Option<LintFinding> {
    let message = match (line.system_user(), line.database_user()) {
        (SystemUserView::Literal(b""), _) => "the system user is empty, which nobody is called",
        (_, DatabaseUserView::Literal(b"")) => {
            "the database user is empty, which no role is called"
        }
        (_, DatabaseUserView::MemberOf(b"")) => "the `+` has no group, so nobody is a member of it",
        _ => return None,
    };
    let hint = "write the name, or leave the line out";
    Some(LintFinding::new(Some(line.reference()), LintCode::EmptyName, message, hint))
}

/// In quotes it is meant as it stands.
fn keyword(line: &Line<'_>) -> Option<LintFinding> {
    let SystemUserView::Literal(name) = line.system_user() else { return None };
    let is_keyword = name == b"all" || name.starts_with(b"+");
    if line.is_user_quoted() || !is_keyword {
        return None;
    }
    let message = format!(
        "{} as system user is no keyword: the line is about somebody who is called so",
        shown(name)
    );
    let hint = "name the people or a pattern; in quotes it is the name, and not told any more";
    Some(LintFinding::new(Some(line.reference()), LintCode::LiteralKeyword, message, hint))
}

/// A name of letters that only a pattern or a shell would write. In quotes it is meant as it stands,
/// but for a name that is quoted for a blank or a comma in it.
fn literal_pattern(line: &Line<'_>) -> Option<LintFinding> {
    let user = match line.system_user() {
        SystemUserView::Literal(name) if !is_meant(name, line.is_user_quoted()) => Some(name),
        _ => None,
    };
    let role = match line.database_user() {
        DatabaseUserView::Literal(role) if !is_meant(role, line.is_role_quoted()) => Some(role),
        _ => None,
    };
    let name = user.into_iter().chain(role).find(|name| is_like_a_pattern(name))?;
    let message = format!("{} is taken letter by letter: it is no pattern", shown(name));
    let hint = "begin a pattern with `/`, and write `.*` for anything: `/^svc_.*$`";
    Some(LintFinding::new(Some(line.reference()), LintCode::LiteralPattern, message, hint))
}

fn is_meant(name: &[u8], is_quoted: bool) -> bool {
    is_quoted && !name.iter().any(|byte| matches!(byte, b' ' | b',' | b'\t'))
}

fn is_like_a_pattern(name: &[u8]) -> bool {
    // `\*` is how a distinguished name writes an asterisk.
    let is_open = |at: usize| at.checked_sub(1).and_then(|at| name.get(at)) != Some(&b'\\');
    let has_asterisk = name.iter().enumerate().any(|(at, byte)| *byte == b'*' && is_open(at));
    has_asterisk || name.starts_with(b"^") || (name.len() > 1 && name.starts_with(b"(?"))
}

/// Computers of Active Directory are called `NAME$`, so a `$` says nothing.
fn all_for_group(line: &Line<'_>) -> Option<LintFinding> {
    if line.grant() != Grant::Any {
        return None;
    }
    let who = match line.system_user() {
        SystemUserView::Literal(group) => shown(group),
        SystemUserView::Pattern(pattern) => format!("/{}", printed(pattern)),
    };
    let message = format!("whoever is in {who} may act as every role, also as those of tomorrow");
    let hint = "write one line for each role that the group may act as";
    Some(LintFinding::new(Some(line.reference()), LintCode::AllForGroup, message, hint))
}

/// Accounts log in by a name; groups are distinguished names.
fn account_by_dn(line: &Line<'_>) -> Option<LintFinding> {
    let (SystemUserView::Literal(name) | SystemUserView::Pattern(name)) = line.system_user();
    let name = name.to_ascii_lowercase();
    let begins = |part: &[u8], attribute: &[u8]| part.starts_with(attribute);
    let mut parts = name.split(|byte| matches!(byte, b',' | b'^' | b'(' | b'|' | b'+'));
    let is_dn = parts.any(|part| {
        let part = part.trim_ascii_start();
        begins(part, b"cn=") || begins(part, b"dc=")
    });
    if !is_dn {
        return None;
    }
    let message = "a distinguished name is nobody's account: the map is asked about accounts only";
    let hint = "write the name of the account; a group stands in a `group_map`";
    Some(LintFinding::new(Some(line.reference()), LintCode::AccountByDn, message, hint))
}

//! The answers as people read them.

use std::fmt::Write as _;

use super::people::NotThere;
use super::{Explanations, WhatAnswer, WhoAnswer};
use crate::cli::table::{self, columns};
use crate::cli::terminal::Shown;
use crate::lease::{Again, LeaseExplanation};
use crate::mapping::{
    AskedLine, AskedMap, Cause, DutyAnswer, Explanation, LentTerms, LineAnswer, LineSaid, MapLine,
    NameOf, NetworkSaid, PlacedLine, RoleAnswer, Verdict, WhatCan, Who, WhoCan, WhyNever,
};

/// Digits of a revision that are enough to tell two apart.
const REVISION_DIGITS: usize = 12;

/// Said where an answer turns on memberships that are not known.
const UNTOLD_MEMBERS: &str = "  `--member GROUP=ROLE` says that the role is a member of the group, `--member GROUP=` that none is\n";

/// Each explanation, and by which ways in nobody of the name could log in.
pub(super) fn explanations(answer: &Explanations) -> String {
    let texts = answer.explanations.iter().map(|answer| {
        let how = if answer.verdict == Verdict::Unknown { UNTOLD_MEMBERS } else { "" };
        explanation(answer) + how
    });
    joined(texts, &answer.left_out)
}

/// All that somebody may act as by each way in, and by which nobody of the name could log in.
pub(super) fn what_they_can(answer: &WhatAnswer) -> String {
    joined(answer.people.iter().map(what_can), &answer.left_out)
}

fn joined(texts: impl Iterator<Item = String>, not_there: &[NotThere]) -> String {
    let not_there = not_there.iter().map(|NotThere { way, detail, .. }| {
        format!(
            "way in {}: nobody of this name could log in: {}\n",
            Shown::new(way),
            Shown::new(detail)
        )
    });
    texts.chain(not_there).collect::<Vec<_>>().join("\n")
}

/// One explanation: the answer first, then what was asked on the way.
fn explanation(answer: &Explanation) -> String {
    let Explanation { system_user, way, role, cluster, .. } = answer;
    let (yes, may) = match answer.verdict {
        Verdict::Allowed => ("YES", "may act as"),
        Verdict::Denied => ("NO", "may not act as"),
        Verdict::Unknown => ("UNKNOWN", "may or may not act as"),
    };
    let mut text = String::new();
    let who = Shown::new(match way {
        Some(way) => format!("`{system_user}` (way in {way})"),
        None => format!("`{system_user}` (by any way in)"),
    });
    let place = place(cluster.as_deref());
    let _ = writeln!(text, "{yes}: {who} {may} `{}` {place}", Shown::new(role));
    let _ = writeln!(text, "  because {}", Shown::new(&answer.reason));
    for asked in &answer.asked {
        text.push_str(&asked_map(asked));
    }
    if answer.unlisted_lines > 0 {
        let _ =
            writeln!(text, "  {} more lines were asked and are not listed", answer.unlisted_lines);
    }
    if let (Some(map), Cause::NotMapped | Cause::MembersUnknown) =
        (&answer.unasked_group_map, answer.cause)
    {
        text.push_str(&unasked(map));
    }
    let near: Vec<_> = answer.near.iter().map(|miss| with_line(&miss.line, &miss.detail)).collect();
    text.push_str(&section("nearly", &near));
    if let Some(how) = answer.near_unsought {
        let _ = writeln!(text, "  {how}");
    }
    if let Some(terms) = &answer.terms {
        let _ = writeln!(text, "  lent {}", Shown::new(terms_text(terms)));
        if terms.network == NetworkSaid::NotAsked && answer.verdict == Verdict::Allowed {
            text.push_str("  no address was named, see `--from`\n");
        }
    }
    text.push_str(&revision(&answer.map_revision, answer.postgres));
    text
}

/// Why a lease was issued, and what today's map says.
pub(super) fn lease(answer: &LeaseExplanation) -> String {
    let LeaseExplanation { lease, person, cluster, role, then, now } = answer;
    let (person, role) = (Shown::new(person), Shown::new(role));
    let mut text = format!("lease {lease}: `{person}` as `{role}` on {}\n", Shown::new(cluster));
    let whom = match &then.by_group {
        Some(group) => Shown::new(format!("group `{group}`")),
        None => Shown::new("them"),
    };
    let place = Shown::new(format!("{}:{}", then.file, then.line));
    let _ = writeln!(text, "THEN: {place} let {whom} in");
    text.push_str(match then.again {
        Again::Same => "  the map of that time says the same again\n",
        Again::Differs => "  the map of that time does NOT say that again\n",
        Again::NotKept => "  the map of that time, or by what they were let in, was not kept\n",
    });
    if let Some(asked) = &then.asked {
        text.push_str(&asked_map(asked));
    }
    match then.postgres {
        Some(postgres) => text.push_str(&revision(&then.map_revision, postgres)),
        None => {
            let _ = writeln!(text, "  map revision {}", short(&then.map_revision));
        }
    }
    match now {
        Some(now) => {
            let _ = write!(text, "NOW, {}", explanation(now));
        }
        None => text.push_str("NOW: cluster or way in are not configured any more\n"),
    }
    text
}

/// A map that was asked: the lines about somebody else are counted.
fn asked_map(asked: &AskedMap) -> String {
    let others = |line: &&AskedLine| line.said == LineSaid::OtherUser;
    let count = asked.lines.iter().filter(others).count();
    let whose = match asked.of {
        NameOf::Person => "",
        NameOf::Group => "group ",
    };
    let case = if asked.any_case { " (in any case)" } else { "" };
    let head = format!("map {}, asked about {whose}`{}`{case}", asked.map, asked.name);
    let head = match count {
        0 if asked.lines.is_empty() => format!("{head}: it has no lines"),
        0 => head,
        1 => format!("{head}: 1 line is about others"),
        _ => format!("{head}: {count} lines are about others"),
    };
    let about = asked.lines.iter().filter(|line| !others(line));
    let rows: Vec<_> = about.map(|line| with_line(&line.line, &said(line))).collect();
    section(&head, &rows)
}

fn said(line: &AskedLine) -> String {
    let capture = match &line.capture {
        Some(capture) => format!(", \\1 is `{capture}`"),
        None => String::new(),
    };
    let gives = line.gives.as_deref().unwrap_or_default();
    match line.said {
        LineSaid::OtherUser => "is about others".to_owned(),
        LineSaid::OtherRole => format!("gives `{gives}`{capture}"),
        LineSaid::Allows => format!("lets them in{capture}"),
        LineSaid::Fails => {
            let error = line.error.as_deref().unwrap_or_default();
            format!("ends in an error, which denies: {error}")
        }
        LineSaid::Unknown => format!("gives `{gives}`, and its members are not known"),
    }
}

/// Who may act as a role.
pub(super) fn who_can(answer: &WhoAnswer) -> String {
    let WhoAnswer { who, people, left_out } = answer;
    let mut text = format!("`{}` {}", Shown::new(&who.role), place(who.cluster.as_deref()));
    if let Some(terms) = &who.terms {
        let _ = write!(text, ", lent {}", Shown::new(terms_text(terms)));
    }
    if let Some(reason) = &who.not_lent {
        let _ = write!(text, ": {}", Shown::new(reason));
    }
    text.push('\n');
    text.push_str(&lines_of(who));
    if let Some(people) = people {
        let rows: Vec<_> = people
            .iter()
            .map(|person| {
                let name = format!("{} (way in {})", person.system_user, person.way);
                let mut row = vec![Shown::new(name)];
                row.extend(by_line(&person.answer));
                if person.answer.verdict == Verdict::Unknown {
                    row.push(Shown::new("perhaps: its members are not known"));
                }
                row
            })
            .collect();
        let count = people.len();
        let head = if count == 1 { "1 person".to_owned() } else { format!("{count} people") };
        let _ = writeln!(text, "  {head} who could log in");
        text.push_str(&indented(&columns(&rows)));
    }
    for left in left_out.iter().flatten() {
        let _ = writeln!(
            text,
            "  left out at {}: {} who could not log in ({})",
            Shown::new(&left.way),
            left.entries,
            left.why
        );
    }
    text.push_str(&revision(&who.map_revision, who.postgres));
    text
}

fn lines_of(who: &WhoCan) -> String {
    let asked = |at: &PlacedLine| match &at.way {
        Some(way) => Shown::new(format!("way in {way}, map {}", at.map)),
        None => Shown::new(format!("map {}", at.map)),
    };
    let lets_in: Vec<_> = who
        .lines
        .iter()
        .map(|line| {
            let mut row = vec![whom(&line.who, &line.at), asked(&line.at)];
            row.extend(with_line(&line.at.line, &condition(line)));
            row
        })
        .collect();
    let ends: Vec<_> = who
        .ends
        .iter()
        .map(|line| {
            let mut row = vec![whom(&line.who, &line.at), asked(&line.at)];
            row.extend(with_line(&line.at.line, "where \\1 has nothing to stand for"));
            row
        })
        .collect();
    let never: Vec<_> = who
        .never
        .iter()
        .map(|line| {
            let earlier = line.because_of.as_ref().map(ToString::to_string).unwrap_or_default();
            let why = match line.which {
                WhyNever::LetsIn => format!("{earlier} lets them in already"),
                WhyNever::EndsTheScan => format!("{earlier} denies before it"),
                WhyNever::AboutNobody => "it is about no name that anybody can have".to_owned(),
            };
            with_line(&line.at.line, &why)
        })
        .collect();
    let mut text = if lets_in.is_empty() {
        "  no line lets anybody in\n".to_owned()
    } else {
        let head = match who.not_lent {
            None => "lines that let in",
            Some(_) => "lines that would let in if the cluster lent it",
        };
        section(head, &lets_in)
    };
    text.push_str(&section(
        "lines that end the scan, which denies, so that no later line or group is asked",
        &ends,
    ));
    if who.not_lent.is_none() && who.lines.iter().any(|line| line.if_member_of.is_some()) {
        text.push_str(UNTOLD_MEMBERS);
    }
    text.push_str(&section("lines by which nobody comes in", &never));
    text + &unlisted(who.unlisted_lines)
}

fn unlisted(lines: usize) -> String {
    match lines {
        0 => String::new(),
        lines => format!("  {lines} more lines matter and are not listed\n"),
    }
}

fn whom(who: &Who, at: &PlacedLine) -> Shown {
    let noun = match at.of {
        NameOf::Person => "person",
        NameOf::Group => "group",
    };
    Shown::new(match who {
        Who::Name(name) if at.any_case => format!("{noun} `{name}`, in any case"),
        Who::Name(name) => format!("{noun} `{name}`"),
        Who::Everybody => match at.of {
            NameOf::Person => "everybody".to_owned(),
            NameOf::Group => "every group".to_owned(),
        },
        Who::Pattern(pattern) => format!("each {noun} that matches `{pattern}`"),
        Who::Capture { pattern, capture } => {
            format!("each {noun} that matches `{pattern}` with \\1 = `{capture}`")
        }
    })
}

fn condition(line: &crate::mapping::LineLetsIn) -> String {
    let mut parts = Vec::new();
    if let Some(group) = &line.if_member_of {
        parts.push(format!("if the role is a member of `{group}`, which is not known"));
    }
    if let Some(role) = &line.role_spelled {
        parts.push(format!("the line has `{role}` for the role, and case does not count"));
    }
    if line.perhaps_nobody {
        parts.push("perhaps for nobody: that was not found out".to_owned());
    }
    if !line.but_for.is_empty() {
        let places: Vec<String> = line.but_for.iter().map(ToString::to_string).collect();
        let more = match line.but_for_others {
            0 => String::new(),
            others => format!(" or one of {others} more lines"),
        };
        parts.push(format!("but for those whom {}{more} denies", places.join(", ")));
    }
    parts.join("; ")
}

fn unasked(map: &str) -> String {
    let map = Shown::new(map);
    format!("  map {map} was not asked: no group was named, see `--groups` and `--resolve`\n")
}

/// All that somebody may act as.
fn what_can(answer: &WhatCan) -> String {
    let who = format!("`{}` (way in {})", answer.system_user, answer.way);
    let who = Shown::new(who);
    let mut unasked = answer.unasked_group_map.as_deref().map(unasked).unwrap_or_default();
    if answer.roles.iter().any(|role| role.answer.verdict == Verdict::Unknown) {
        unasked.push_str(UNTOLD_MEMBERS);
    }
    let revision = revision(&answer.map_revision, answer.postgres);
    if answer.roles.is_empty() && answer.duties.is_empty() {
        let by = if unasked.is_empty() { "" } else { " by this name alone" };
        return format!("{who} may act as nothing{by}\n{unasked}{revision}");
    }
    let roles = answer.roles.iter().map(role);
    let rows: Vec<Vec<Shown>> = roles.chain(answer.duties.iter().map(duty)).collect();
    let headings = ["CLUSTER", "ROLE", "ANSWER", "LINE", "", "BY"];
    format!("{who}\n{}{unasked}{revision}", indented(&table::table(&headings, &rows)))
}

fn role(answer: &RoleAnswer) -> Vec<Shown> {
    let yes = match answer.terms.network {
        NetworkSaid::Any | NetworkSaid::Admitted => "yes".to_owned(),
        NetworkSaid::NotAsked | NetworkSaid::NotAdmitted => {
            let networks = answer.terms.networks.as_deref().unwrap_or_default();
            format!("yes, from {}", networks.join(", "))
        }
    };
    answer_row(&answer.cluster, &answer.role, &yes, &answer.answer)
}

fn duty(answer: &DutyAnswer) -> Vec<Shown> {
    answer_row("(the broker)", &answer.duty, "yes", &answer.answer)
}

fn answer_row(cluster: &str, role: &str, yes: &str, answer: &LineAnswer) -> Vec<Shown> {
    let verdict = match answer.verdict {
        Verdict::Allowed => yes,
        Verdict::Denied => "no, a line fails",
        Verdict::Unknown => "unknown members",
    };
    let mut row = vec![Shown::new(cluster), Shown::new(role), Shown::new(verdict)];
    row.extend(by_line(answer));
    row
}

/// Where a role is one: on a cluster, or, for a duty, of the broker.
fn place(cluster: Option<&str>) -> String {
    match cluster {
        Some(cluster) => format!("on {}", Shown::new(cluster)),
        None => "of the broker".to_owned(),
    }
}

/// The line that an answer rests on, and by which name, as cells.
fn by_line(answer: &LineAnswer) -> Vec<Shown> {
    with_line(&answer.line, &by(answer.group.as_deref()))
}

fn by(group: Option<&str>) -> String {
    match group {
        Some(group) => format!("by group `{group}`"),
        None => "by name".to_owned(),
    }
}

fn terms_text(terms: &LentTerms) -> String {
    let length = |seconds: u32| table::length(u64::from(seconds));
    let (ttl, most) = (length(terms.ttl_seconds), length(terms.max_ttl_seconds));
    let mut text = format!("for {}: {ttl}, at most {most}", terms.databases.join(", "));
    if terms.reason_required {
        text.push_str(", with a reason");
    }
    if let Some(networks) = &terms.networks {
        let _ = write!(text, ", from {} only", networks.join(", "));
    }
    text
}

fn revision(revision: &str, postgres: u32) -> String {
    format!("  map revision {}, read as PostgreSQL {postgres} does\n", short(revision))
}

fn short(revision: &str) -> &str {
    revision.get(..REVISION_DIGITS).unwrap_or(revision)
}

/// A line of the map and something about it, as cells.
fn with_line(line: &MapLine, about: &str) -> Vec<Shown> {
    vec![Shown::new(line), Shown::new(without_gaps(&line.text)), Shown::new(about)]
}

/// A line whose fields are not far apart; what stands in quotes stays as it is.
fn without_gaps(text: &str) -> String {
    let mut quoted = false;
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        quoted ^= letter == '"';
        let is_gap = !quoted && matches!(letter, ' ' | '\t');
        if !is_gap {
            shown.push(letter);
        } else if !shown.ends_with(' ') {
            shown.push(' ');
        }
    }
    shown
}

/// Rows under a head; nothing without rows, unless the head says something by itself.
fn section(head: &str, rows: &[Vec<Shown>]) -> String {
    if rows.is_empty() && !head.contains(':') {
        return String::new();
    }
    format!("  {}\n{}", Shown::new(head), indented(&columns(rows)))
}

fn indented(lines: &str) -> String {
    lines.lines().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "    {line}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_not_listed_are_told() {
        assert_eq!(unlisted(0), "");
        assert_eq!(unlisted(3), "  3 more lines matter and are not listed\n");
    }
}

//! What changes, for people, for programs and for the audit.

use std::fmt;

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::{
    Certainty, ChangedFor, Direction, Example, Given, Grant, IdleLine, MapChange, MapDifference,
    NotCompared, WhyIdle,
};
use crate::mapping::RuleRef;
use crate::mapping::lint::{not_lent, printed, shown, unused_map};
use crate::names::{printable, shortened};

/// Letters of one line of the report.
const LINE: usize = 1000;
/// Bytes of a name or pattern in such a line: it can be of any length, and what is gained stands
/// behind it.
const WHO: usize = 100;
/// Roles that are told of one change.
const ROLES: usize = 20;
/// Roles of `every role` that are told to be no change.
const BUT: usize = 5;
/// Maps that are told of which not all was compared.
const MAPS: usize = 5;

impl MapDifference {
    /// One line for each change, at most `limit`, those first that give something; one before them
    /// that says what was not compared, and one behind that says how many more there are. Lines are
    /// bounded too, and hold no line end.
    #[must_use]
    pub fn lines(&self, limit: usize) -> Vec<String> {
        let mut changes: Vec<&MapChange> = self.changes.iter().collect();
        changes.sort_by_key(|change| (change.direction, change.certainty));
        let (told, untold) = changes.split_at(limit.min(changes.len()));
        let mut lines: Vec<String> = self.told_as_not_compared().into_iter().collect();
        lines.extend(told.iter().map(|change| shortened(&change.brief().to_string(), LINE)));
        if !untold.is_empty() {
            let gains = untold.iter().filter(|change| change.direction == Direction::Gains).count();
            let (gains, losses) = (gains, untold.len() - gains);
            lines.push(format!(
                "and {} more: {gains} gains, {losses} losses; `pgbridge map diff {} {} --config FILE` tells all",
                untold.len(),
                self.old,
                self.new,
            ));
        }
        lines
    }

    fn told_as_not_compared(&self) -> Option<String> {
        let maps: Vec<String> =
            self.not_compared.iter().take(MAPS).map(ToString::to_string).collect();
        let more = self.not_compared.len().saturating_sub(MAPS);
        let more = if more > 0 { format!("; and of {more} more maps") } else { String::new() };
        (!maps.is_empty()).then(|| format!("{}{more}", maps.join("; ")))
    }

    /// Everything, for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let changes: Vec<Value> = self.changes.iter().map(change_to_json).collect();
        let idle: Vec<Value> = self.idle.iter().map(idle_to_json).collect();
        json!({
            "old": self.old,
            "new": self.new,
            "same": self.is_empty(),
            "whole": self.is_whole(),
            "caseins_users": self.caseins_users,
            "would_be_refused": self.misfits,
            "changes": changes,
            "not_compared": self.not_compared.iter().map(left_to_json).collect::<Vec<_>>(),
            "idle": idle,
        })
    }
}

impl MapChange {
    /// The same with the beginning of what somebody has written at length.
    fn brief(&self) -> Self {
        let who = match &self.who {
            ChangedFor::Name { name, is_group } => {
                ChangedFor::Name { name: beginning(name), is_group: *is_group }
            }
            ChangedFor::Matching { pattern, example } => {
                let brief = |example: &Example| Example {
                    name: beginning(&example.name),
                    role: example.role.clone(),
                };
                let example = example.as_ref().map(brief);
                ChangedFor::Matching { pattern: beginning(pattern), example }
            }
        };
        Self { who, ..self.clone() }
    }
}

/// The text if it is short, or its first bytes and an ellipsis.
fn beginning(text: &[u8]) -> Vec<u8> {
    match text.get(..WHO) {
        Some(first) if text.len() > WHO => [first, "…".as_bytes()].concat(),
        _ => text.to_vec(),
    }
}

/// One line for each change, and for each map of which not all was compared.
impl fmt::Display for MapDifference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.changes.iter().try_for_each(|change| writeln!(formatter, "{change}"))?;
        self.not_compared.iter().try_for_each(|left| writeln!(formatter, "{left}"))
    }
}

/// One line: `! corp: 12 names and 340 patterns were not compared, which would take too long`.
impl fmt::Display for NotCompared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { map, names, patterns } = self;
        let map = shown(map.as_str().as_bytes());
        write!(
            formatter,
            "! {map}: {names} names and {patterns} patterns were not compared, which would take too long"
        )
    }
}

/// One line: `+ corp: alice may now act as orders_read (pg_ident.conf:3)`. `-` is what is lost, `?`
/// what may be gained or lost.
impl fmt::Display for MapChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, verb) = match (self.certainty, self.direction) {
            (Certainty::Certain, Direction::Gains) => ('+', "may now act as"),
            (Certainty::Certain, Direction::Loses) => ('-', "may no longer act as"),
            (Certainty::Possible, Direction::Gains) => ('?', "may perhaps now act as"),
            (Certainty::Possible, Direction::Loses) => ('?', "may perhaps no longer act as"),
        };
        let map = shown(self.map.as_str().as_bytes());
        write!(formatter, "{sign} {map}: {} {verb} ", self.who)?;
        let roles: Vec<String> = self.grants.iter().take(ROLES).map(Given::to_string).collect();
        formatter.write_str(&roles.join(", "))?;
        let more = self.grants.len().saturating_sub(ROLES);
        if more > 0 {
            write!(formatter, " and {more} more")?;
        }
        let example = match &self.who {
            ChangedFor::Matching { example, .. } => example.as_ref(),
            ChangedFor::Name { .. } => None,
        };
        if let Some(example) = example {
            write!(formatter, ", {example}")?;
        }
        if !self.turns_on.is_empty() {
            let groups: Vec<String> = self.turns_on.iter().map(|group| shown(group)).collect();
            write!(formatter, "; that turns on who is a member of {}", groups.join(", "))
        } else if self.certainty == Certainty::Possible && example.is_none() {
            formatter.write_str("; the patterns could not be compared, and no example was found")
        } else {
            Ok(())
        }
    }
}

/// `every role but orders_read (pg_ident.conf:3)`.
impl fmt::Display for Given {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { grant, but, line: RuleRef { file, line } } = self;
        let mut but: Vec<&Grant> = but.iter().collect();
        match grant {
            // Without the group itself the others are left.
            Grant::MembersOf(group) if but.contains(&&Grant::Role(group.clone())) => {
                but.retain(|kept| **kept != Grant::Role(group.clone()));
                write!(formatter, "every member of {}", shown(group))?;
            }
            grant => write!(formatter, "{grant}")?,
        }
        let told: Vec<String> = but.iter().take(BUT).map(ToString::to_string).collect();
        if !told.is_empty() {
            write!(formatter, " but {}", told.join(" and "))?;
        }
        let more = but.len().saturating_sub(BUT);
        if more > 0 {
            write!(formatter, " and {more} more")?;
        }
        write!(formatter, " ({}:{line})", printable(file))
    }
}

/// `corp: no cluster lends orders_raed, so the line allows nothing (pg_ident.conf:3)`.
impl fmt::Display for IdleLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let map = self.map.as_str().as_bytes();
        match &self.why {
            WhyIdle::UnusedMap => formatter.write_str(&unused_map(map))?,
            WhyIdle::NotLent(role) => write!(formatter, "{}: {}", shown(map), not_lent(role))?,
        }
        write!(formatter, " ({}:{})", printable(&self.line.file), self.line.line)
    }
}

impl fmt::Display for ChangedFor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { name, is_group: false } => formatter.write_str(&shown(name)),
            Self::Name { name, is_group: true } => {
                write!(formatter, "whoever is in {}", shown(name))
            }
            Self::Matching { pattern, .. } => {
                write!(formatter, "whoever matches /{}", printed(pattern))
            }
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(role) => formatter.write_str(&shown(role)),
            Self::Any => formatter.write_str("every role"),
            Self::MembersOf(group) => {
                write!(formatter, "{} and every member of it", shown(group))
            }
            Self::RolesMatching(pattern) => {
                write!(formatter, "every role that matches /{}", printed(pattern))
            }
            Self::Captured { before, after } => {
                let role = [before.as_slice(), b"\\1", after].concat();
                formatter.write_str(&shown(&role))
            }
        }
    }
}

/// `for example svc_a as a`.
impl fmt::Display for Example {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "for example {}", shown(&self.name))?;
        match &self.role {
            Some(role) => write!(formatter, " as {}", shown(role)),
            None => Ok(()),
        }
    }
}

fn left_to_json(left: &NotCompared) -> Value {
    let NotCompared { map, names, patterns } = left;
    json!({ "map": map, "names": names, "patterns": patterns, "text": left.to_string() })
}

fn change_to_json(change: &MapChange) -> Value {
    let MapChange { map, who, direction, certainty, turns_on, grants } = change;
    let grants: Vec<Value> = grants.iter().map(given_to_json).collect();
    let groups = turns_on.iter().map(|group| String::from_utf8_lossy(group));
    json!({
        "map": map,
        "who": who_to_json(who),
        "change": match direction { Direction::Gains => "gains", Direction::Loses => "loses" },
        "certain": *certainty == Certainty::Certain,
        "turns_on_members_of": groups.collect::<Vec<_>>(),
        "roles": grants,
        "text": change.to_string(),
    })
}

fn idle_to_json(idle: &IdleLine) -> Value {
    let IdleLine { map, why, line } = idle;
    let mut value = match why {
        WhyIdle::UnusedMap => json!({ "why": "unused-map" }),
        WhyIdle::NotLent(role) => {
            let mut value = text("role", role);
            set(&mut value, "why", json!("role-not-lent"));
            value
        }
    };
    let (file, line) = (json!(line.file), json!(line.line));
    for (key, field) in
        [("map", json!(map)), ("file", file), ("line", line), ("text", json!(idle.to_string()))]
    {
        set(&mut value, key, field);
    }
    value
}

fn who_to_json(who: &ChangedFor) -> Value {
    match who {
        ChangedFor::Name { name, is_group } => {
            let mut value = text(if *is_group { "group" } else { "name" }, name);
            if std::str::from_utf8(name).is_err() {
                set(&mut value, "hex", json!(HEXLOWER.encode(name)));
            }
            value
        }
        ChangedFor::Matching { pattern, example } => {
            let mut value = text("pattern", pattern);
            if let Some(Example { name, role }) = example {
                set(&mut value, "example", json!(String::from_utf8_lossy(name)));
                if let Some(role) = role {
                    set(&mut value, "example_role", json!(String::from_utf8_lossy(role)));
                }
            }
            value
        }
    }
}

fn given_to_json(given: &Given) -> Value {
    let Given { grant, but, line } = given;
    let mut value = grant_to_json(grant);
    if !but.is_empty() {
        set(&mut value, "but", but.iter().map(grant_to_json).collect());
    }
    set(&mut value, "file", json!(line.file));
    set(&mut value, "line", json!(line.line));
    value
}

fn grant_to_json(grant: &Grant) -> Value {
    match grant {
        Grant::Role(role) => text("role", role),
        Grant::Any => json!({ "all": true }),
        Grant::MembersOf(group) => text("members_of", group),
        Grant::RolesMatching(pattern) => text("pattern", pattern),
        Grant::Captured { before, after } => {
            text("role", &[before.as_slice(), b"\\1", after].concat())
        }
    }
}

fn text(key: &str, bytes: &[u8]) -> Value {
    json!({ key: String::from_utf8_lossy(bytes) })
}

fn set(object: &mut Value, key: &str, value: Value) {
    if let Value::Object(fields) = object {
        fields.insert(key.to_owned(), value);
    }
}

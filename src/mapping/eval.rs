//! Batch evaluation: a question and its answer, each a line of JSON.
//!
//! ```text
//! {"map":"corp","user":"alice@CORP.TEST","role":"orders_read","members":{"readers":["orders_read"]}}
//! {"decision":"allow","file":"pg_ident.conf","line":3,"reason":"pg_ident.conf:3 allows it"}
//! ```
//!
//! What is decided is what a server would decide at a log-in (`check_usermap` in `hba.c`): a role
//! is cut to 63 bytes as the server cuts it, and without a map the two names must be equal. (The
//! broker itself lets nobody in without a map.)

use std::collections::BTreeMap;

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;

use super::{Case, IdentMap, MapDecision, MapMistake, Memberships, Question};
use crate::names::MapName;

/// Most bytes of a line with a question.
pub const QUESTION_BYTES: usize = 1 << 20;

/// Most bytes of a role that a server reads at a log-in: it cuts the rest off.
const ROLE_BYTES: usize = 63;

/// A question as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    map: String,
    user: Option<String>,
    user_hex: Option<String>,
    role: Option<String>,
    role_hex: Option<String>,
    /// Roles and groups by the group that they are members of.
    #[serde(default)]
    members: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    caseins: bool,
}

/// What is answered to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EvalAnswer {
    /// How it came out.
    pub decision: EvalDecision,
    /// The file of the line that decided.
    pub file: Option<String>,
    /// Its number; nothing when no line did.
    pub line: Option<u32>,
    /// Why, for people; where a server would write it into its log, in its words.
    pub reason: String,
}

/// How a question came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EvalDecision {
    /// A line lets the user act as the role.
    Allow,
    /// No line does.
    Deny,
    /// A line could not be evaluated, which denies; or, without a line, the question could not be
    /// read.
    Error,
}

/// One answer, and whether there was a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evaluated {
    /// The question was answered.
    Answered(EvalAnswer),
    /// The line was no question; this says why.
    Malformed(EvalAnswer),
}

impl Evaluated {
    /// The line that goes out for it, without its end.
    #[must_use]
    pub fn to_json(&self) -> String {
        let (Self::Answered(answer) | Self::Malformed(answer)) = self;
        serde_json::to_string(answer).unwrap_or_default()
    }

    /// The answer to a line of more than [`QUESTION_BYTES`], which was not read.
    #[must_use]
    pub fn too_long() -> Self {
        malformed(format!("the question has more than {QUESTION_BYTES} bytes"))
    }
}

/// Answers the question that stands in `line`. Total: what is no question gets an answer too.
#[must_use]
pub fn evaluate(map: &IdentMap, line: &[u8]) -> Evaluated {
    if line.len() > QUESTION_BYTES {
        return Evaluated::too_long();
    }
    match read(line) {
        Ok(Asked { map: name, user, role, members, case }) => {
            let Some(name) = name else {
                return Evaluated::Answered(without_map(&user, &role, case));
            };
            let question =
                Question { map: &name, system_user: &user, role: &role, case, members: &members };
            Evaluated::Answered(answer(map.decide(&question), &question))
        }
        Err(why) => malformed(why),
    }
}

/// The one line that stands in the place of all answers when the map cannot be read. `mistakes`
/// are those of [`IdentMap::load`]; `file` is named when they name none.
#[must_use]
pub fn load_error(file: &str, mistakes: &[MapMistake]) -> String {
    #[derive(Serialize)]
    struct Told<'a> {
        load_error: &'a str,
        file: &'a str,
        line: Option<u32>,
        column: Option<u32>,
        end_column: Option<u32>,
        hint: Option<&'a str>,
        mistakes: usize,
    }
    let first = mistakes.first();
    let error = Told {
        load_error: first.map_or("cannot be read", |first| first.message.as_str()),
        file: first
            .map(|first| first.file.as_str())
            .filter(|name| !name.is_empty())
            .unwrap_or(file),
        line: first.map(|first| first.line),
        column: first.map(|first| first.column),
        end_column: first.map(|first| first.end_column),
        hint: first.map(|first| first.hint.as_str()).filter(|hint| !hint.is_empty()),
        mistakes: mistakes.len(),
    };
    serde_json::to_string(&error).unwrap_or_default()
}

/// A question that was read.
struct Asked {
    /// Nothing for no map.
    map: Option<MapName>,
    user: Vec<u8>,
    role: Vec<u8>,
    members: Memberships,
    case: Case,
}

fn read(line: &[u8]) -> Result<Asked, String> {
    let written = written(line)?;
    let user = bytes("user", written.user, written.user_hex)?;
    let mut role = bytes("role", written.role, written.role_hex)?;
    role.truncate(ROLE_BYTES);
    let map = match written.map.as_str() {
        "" => None,
        name => Some(name.parse().map_err(|error| format!("`map`: {error}"))?),
    };
    let members = memberships(&role, &written.members);
    let case = if written.caseins { Case::Insensitive } else { Case::Sensitive };
    Ok(Asked { map, user, role, members, case })
}

/// The question as it stands in the line, which must be a JSON object.
fn written(line: &[u8]) -> Result<Written, String> {
    let text = std::str::from_utf8(line).map_err(|error| {
        let at = error.valid_up_to() + 1;
        format!("not UTF-8 at byte {at}: a name that is none is given as `user_hex` or `role_hex`")
    })?;
    match text.trim_start().chars().next() {
        Some('{') => serde_json::from_str(text).map_err(|error| not_a_question(&error)),
        None => Err("not a question: the line is empty".to_owned()),
        Some('\u{feff}') => {
            Err("the line begins with a byte order mark: save the questions without it".to_owned())
        }
        Some(_) => {
            let like = r#"{"map":"corp","user":"alice","role":"orders_read"}"#;
            Err(format!("not a question, which is a JSON object such as {like}"))
        }
    }
}

fn not_a_question(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        Category::Data => "not a question",
        Category::Syntax | Category::Eof | Category::Io => "not JSON",
    };
    // A question is one line, whatever its number in the input.
    let place = format!(" at line {} column {}", error.line(), error.column());
    let said = error.to_string();
    let said = said.strip_suffix(&place).unwrap_or(&said);
    format!("{what}: {said}, at byte {}", error.column())
}

/// A name, given as text or in hexadecimal.
fn bytes(key: &str, text: Option<String>, hex: Option<String>) -> Result<Vec<u8>, String> {
    let name = match (text, hex) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(hex)) => HEXLOWER_PERMISSIVE
            .decode(hex.as_bytes())
            .map_err(|_| format!("`{key}_hex` is not hexadecimal"))?,
        (None, None) => return Err(format!("not a question: missing field `{key}`")),
        (Some(_), Some(_)) => return Err(format!("both `{key}` and `{key}_hex` are given")),
    };
    if name.contains(&0) {
        return Err(format!("`{key}` holds a NUL byte, which no name can"));
    }
    Ok(name)
}

/// The roles that exist are those that the question names. A role that is no UTF-8 is a member of
/// nothing.
fn memberships(role: &[u8], members: &BTreeMap<String, Vec<String>>) -> Memberships {
    let edges = members
        .iter()
        .flat_map(|(group, members)| members.iter().map(move |member| (&**member, &**group)));
    let role = std::str::from_utf8(role).ok();
    Memberships::of_edges(members.keys().map(String::as_str).chain(role), edges)
}

/// Without a map the names must be equal, whether or not the broker would ask without one.
fn without_map(user: &[u8], role: &[u8], case: Case) -> EvalAnswer {
    let is_equal = match case {
        Case::Sensitive => user == role,
        Case::Insensitive => user.eq_ignore_ascii_case(role),
    };
    let (decision, reason) = if is_equal {
        (EvalDecision::Allow, "without a map, equal names are allowed".to_owned())
    } else {
        let (user, role) = (String::from_utf8_lossy(user), String::from_utf8_lossy(role));
        let reason = format!(
            "provided user name ({role}) and authenticated user name ({user}) do not match"
        );
        (EvalDecision::Deny, reason)
    };
    EvalAnswer { decision, file: None, line: None, reason }
}

fn answer(decision: MapDecision, question: &Question<'_>) -> EvalAnswer {
    match decision {
        MapDecision::Allowed(rule) => {
            let reason = format!("{rule} allows it");
            let (file, line) = (Some(rule.file), Some(rule.line));
            EvalAnswer { decision: EvalDecision::Allow, file, line, reason }
        }
        MapDecision::NoMatch => {
            let user = String::from_utf8_lossy(question.system_user);
            let role = String::from_utf8_lossy(question.role);
            let map = question.map;
            let reason = format!(
                "no match in usermap \"{map}\" for user \"{role}\" authenticated as \"{user}\""
            );
            EvalAnswer { decision: EvalDecision::Deny, file: None, line: None, reason }
        }
        MapDecision::Failed { rule, reason } => {
            let (file, line) = (Some(rule.file), Some(rule.line));
            EvalAnswer { decision: EvalDecision::Error, file, line, reason }
        }
    }
}

fn malformed(reason: String) -> Evaluated {
    let decision = EvalDecision::Error;
    Evaluated::Malformed(EvalAnswer { decision, file: None, line: None, reason })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mapping::Dialect;

    const MAP: &str = "m alice read\nm /^(.*)@T$ \\1\nm bob +readers\nm /^x$ \\1\nm x read\n";

    fn ask(question: &str) -> Evaluated {
        let map = IdentMap::parse(Dialect::default(), "f.conf", MAP.as_bytes()).unwrap();
        evaluate(&map, question.as_bytes())
    }

    /// `decision`, or `decision:line`.
    #[track_caller]
    fn check(question: &serde_json::Value, expected: &str) {
        let Evaluated::Answered(answer) = ask(&question.to_string()) else {
            panic!("malformed: {question}")
        };
        let word = serde_json::to_value(answer.decision).unwrap();
        let word = word.as_str().unwrap();
        let line = answer.line.map(|line| format!(":{line}")).unwrap_or_default();
        assert_eq!(format!("{word}{line}"), expected, "{question}: {}", answer.reason);
        assert_eq!(answer.file.is_some(), answer.line.is_some());
    }

    #[test]
    fn each_question_is_answered_with_the_line_that_decided() {
        check(&json!({"map": "m", "user": "alice", "role": "read"}), "allow:1");
        check(&json!({"map": "m", "user": "Alice", "role": "read"}), "deny");
        check(&json!({"map": "m", "user": "Alice", "role": "read", "caseins": true}), "allow:1");
        check(&json!({"map": "m", "user": "write@T", "role": "write"}), "allow:2");
        check(&json!({"map": "m", "user": "x", "role": "read"}), "error:4");
        check(&json!({"map": "n", "user": "alice", "role": "read"}), "deny");
    }

    #[test]
    fn members_are_direct_and_indirect_and_a_role_that_exists_is_its_own() {
        let question = |role: &str, members: serde_json::Value| json!({"map": "m", "user": "bob", "role": role, "members": members});
        check(&question("read", json!({"readers": ["read"]})), "allow:3");
        check(&question("read", json!({"readers": ["staff"], "staff": ["read"]})), "allow:3");
        check(&question("readers", json!({})), "allow:3");
        check(&question("read", json!({})), "deny");
        check(&question("read", json!({"staff": ["read"]})), "deny");
        check(&question("read", json!({"read": ["readers"]})), "deny");
        check(&json!({"map": "m", "user": "bob", "role": "read"}), "deny");
    }

    #[test]
    fn names_may_be_bytes_that_are_no_text() {
        check(&json!({"map": "m", "user_hex": "ff4054", "role_hex": "FF"}), "allow:2");
        check(&json!({"map": "m", "user_hex": "ff4054", "role_hex": "fe"}), "deny");
    }

    #[test]
    fn without_a_map_the_names_must_be_equal() {
        check(&json!({"map": "", "user": "alice", "role": "alice"}), "allow");
        check(&json!({"map": "", "user": "alice", "role": "Alice"}), "deny");
        check(&json!({"map": "", "user": "alice", "role": "Alice", "caseins": true}), "allow");
    }

    #[test]
    fn a_role_is_cut_as_a_server_cuts_it() {
        let long = "r".repeat(64);
        let question = |user: &str| json!({"map": "m", "user": format!("{user}@T"), "role": long});
        check(&question(&long), "deny");
        check(&question(&long[..63]), "allow:2");
    }

    #[test]
    fn what_is_no_question_is_answered_in_its_place() {
        let hex_too = r#"{"map":"m","user":"a","user_hex":"61","role":"r"}"#;
        for (line, words) in [
            ("", "the line is empty"),
            (" \t\r", "the line is empty"),
            ("{", "not JSON: EOF while parsing an object, at byte 1"),
            (r#"{"map":"m","user":"a","role":"r"} {"#, "not JSON: trailing characters, at byte 35"),
            (r#"{"map":"m","user":"a","user":"b","role":"r"}"#, "duplicate field `user`"),
            ("nonsense", "a JSON object such as {"),
            // In the order of the keys it would be one, to whoever reads it so.
            (r#"["m","alice",null,"read",null,{},false]"#, "a JSON object such as {"),
            ("\u{feff}{}", "byte order mark"),
            ("{}", "not a question: missing field `map`, at byte 2"),
            (r#"{"map":"m","role":"r"}"#, "missing field `user`"),
            (r#"{"map":"m","user":"a"}"#, "missing field `role`"),
            (r#"{"map":"m","user":"a","role":3}"#, "not a question: invalid type: integer `3`"),
            (r#"{"map":"m","user":"a","role":"r","member":{}}"#, "unknown field `member`"),
            (r#"{"map":"m","user":"a","role":"r","members":{"g":"r"}}"#, "expected a sequence"),
            (r#"{"map":"m\u0000","user":"a","role":"r"}"#, "`map`: a map name"),
            (r#"{"map":"m","user":"a\u0000","role":"r"}"#, "NUL"),
            (r#"{"map":"m","user_hex":"6","role":"r"}"#, "`user_hex` is not hexadecimal"),
            (hex_too, "both `user` and `user_hex`"),
        ] {
            let Evaluated::Malformed(answer) = ask(line) else { panic!("accepted: {line}") };
            assert_eq!((answer.decision, answer.line), (EvalDecision::Error, None));
            assert!(answer.reason.contains(words), "{line}: {}", answer.reason);
        }
        let map = IdentMap::parse(Dialect::default(), "f.conf", MAP.as_bytes()).unwrap();
        let bytes = evaluate(&map, b"{\"map\":\"m\",\"user\":\"\xff\",\"role\":\"r\"}");
        let reason =
            "not UTF-8 at byte 20: a name that is none is given as `user_hex` or `role_hex`";
        assert_eq!(bytes, malformed(reason.to_owned()));
        let twin = r#"{"map":"m","user_hex":"ff","role":"r"}"#;
        assert!(matches!(ask(twin), Evaluated::Answered(_)));
        let long = format!(r#"{{"map":"m","user":"{}","role":"r"}}"#, "a".repeat(QUESTION_BYTES));
        assert_eq!(ask(&long), Evaluated::too_long());
    }

    #[test]
    fn what_stands_in_the_place_of_all_answers_names_a_file() {
        let mistakes = IdentMap::parse(Dialect::default(), ".", b"m alice\n").unwrap_err();
        let told: serde_json::Value = serde_json::from_str(&load_error(".", &mistakes)).unwrap();
        assert_eq!((&told["file"], &told["line"]), (&json!("."), &json!(1)));
        let mistakes = IdentMap::parse(Dialect::default(), "d/f.conf", b"m alice\n").unwrap_err();
        let told: serde_json::Value =
            serde_json::from_str(&load_error("d/f.conf", &mistakes)).unwrap();
        assert_eq!((&told["file"], &told["mistakes"]), (&json!("f.conf"), &json!(1)));
    }

    #[test]
    fn an_answer_is_one_line_of_json() {
        let answer = ask(r#"{"map":"m","user":"al\nice","role":"read"}"#).to_json();
        assert_eq!(answer.lines().count(), 1, "{answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let reason = "no match in usermap \"m\" for user \"read\" authenticated as \"al\nice\"";
        let expected = json!({"decision": "deny", "file": null, "line": null, "reason": reason});
        assert_eq!(answer, expected);
    }
}

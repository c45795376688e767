//! What reaches the terminal: answers on standard output, the rest on standard error, and neither
//! with a character that could steer the terminal.

use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};

use serde::Deserialize;

use crate::names::{literal, printable, printable_sql, steers};

/// Text that is safe to show, whoever wrote it: control characters, ANSI sequences, changes of
/// the writing direction and invisible characters are escaped. One line.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(from = "String")]
pub(super) struct Shown(String);

impl Shown {
    /// Makes `text` safe to show.
    pub fn new(text: impl fmt::Display) -> Self {
        // Ends of lines and tabs are so usual that they are shown as everybody writes them.
        Self(printable(&text.to_string().replace('\n', "\\n").replace('\t', "\\t")))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Shown {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// JSON with the same characters escaped as `\uXXXX`. Outside of strings JSON has none of them,
/// so the value stays the same.
pub(super) fn safe_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    let mut units = [0_u16; 2];
    for letter in json.chars() {
        if steers(letter) && letter != '\n' {
            for unit in letter.encode_utf16(&mut units) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(letter);
        }
    }
    safe
}

/// One line that mends something, to be pasted into psql: a statement, a command of psql or a
/// comment. It is safe to show, and as it is shown it names what it is about.
pub(super) fn pasted(line: &str) -> String {
    match line.strip_prefix('\\').and_then(|command| command.split_once(' ')) {
        Some((command, name)) if printable(line) != line => named_by_variable(command, name),
        _ if line.starts_with('#') => printable(line),
        _ => Shown::new(printable_sql(line)).0,
    }
}

/// A command of psql on a name, which it takes as it stands: no escapes, but a variable.
fn named_by_variable(command: &str, quoted: &str) -> String {
    let name = quoted.trim_matches('"').replace("\"\"", "\"");
    let name = printable_sql(&literal(&name));
    format!("SELECT {name} AS pgbridge_name \\gset \\{command} :\"pgbridge_name\"")
}

/// Writes an answer to standard output. A reader who has seen enough and went away is none of its
/// business: what the answer says stays as it is, and so does its exit code.
///
/// # Errors
/// When it cannot be written.
pub(super) fn answer(text: &str) -> io::Result<()> {
    match hand_out(text) {
        Err(unread) if unread.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// Writes to standard output what must be read to its end.
///
/// # Errors
/// When it cannot be written; [`io::ErrorKind::BrokenPipe`] when the reader went away.
pub(super) fn hand_out(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()
}

/// Asks the person on their terminal, wherever standard input comes from, and gives the line that
/// they type. `question` must be safe to show.
///
/// # Errors
/// When there is no terminal, or nothing was typed to its end.
pub(super) fn ask(question: &str) -> io::Result<String> {
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    write!(terminal, "{question}")?;
    terminal.flush()?;
    let mut line = String::new();
    if BufReader::new(terminal).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// Tells the person something nice to know: only when they are there to read it.
pub(super) fn note(text: impl fmt::Display) {
    if io::stderr().is_terminal() {
        warn(text);
    }
}

/// Tells the person something they must know, on standard error. `text` must be safe to show.
pub fn warn(text: impl fmt::Display) {
    // Whoever closed standard error does not want to know.
    let _ = writeln!(io::stderr().lock(), "pgbridge: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped_and_letters_are_not() {
        let hostile = "a\u{1b}[2Jb\nc\u{9b}31m\u{202e}d\u{200b}\r";
        let shown = Shown::new(hostile);
        assert_eq!(shown.as_str(), "a\\u{1b}[2Jb\\nc\\u{9b}31m\\u{202e}d\\u{200b}\\u{d}");
        assert_eq!(Shown::new("Zoë 中 \\n").as_str(), "Zoë 中 \\n");
    }

    #[test]
    fn what_is_to_be_pasted_names_the_same_as_it_is_shown() {
        for (line, shown) in [
            ("GRANT \"it's\" TO \"größe\";", "GRANT \"it's\" TO \"größe\";"),
            ("GRANT \"a\u{61c}\nb\" TO c;", "GRANT U&\"a\\+00061c\\+00000ab\" TO c;"),
            ("\\connect \"orders\"", "\\connect \"orders\""),
            (
                "\\connect \"a\"\"'\u{61c}\"",
                "SELECT U&'a\"''\\+00061c' AS pgbridge_name \\gset \\connect :\"pgbridge_name\"",
            ),
            ("-- it's \u{61c}", "-- it's \\u{61c}"),
            ("# it's \u{61c}", "# it's \\u{61c}"),
        ] {
            assert_eq!(pasted(line), shown);
        }
    }

    #[test]
    fn json_keeps_its_value_and_loses_what_steers_a_terminal() {
        let value = serde_json::json!({"x": "a\u{1b}\u{9b}\u{202e}\u{e0001}é\u{7f}\n"});
        let safe = safe_json(&serde_json::to_string_pretty(&value).unwrap());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
        assert!(!safe.chars().any(|letter| steers(letter) && letter != '\n'), "{safe:?}");
        assert!(safe.contains('é'), "{safe}");
    }
}

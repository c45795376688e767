//! What an error says, with what caused it.

use std::error::Error;

/// An error and its causes on one line, each said once, for a log, a blocker or a terminal.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some libraries repeat their cause in their own text.
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Said {
        text: &'static str,
        source: Option<Box<Said>>,
    }

    fn check(texts: &[&'static str], line: &str) {
        let chain =
            texts.iter().rev().fold(None, |source, text| Some(Box::new(Said { text, source })));
        assert_eq!(with_causes(&*chain.unwrap()), line);
    }

    #[test]
    fn every_cause_is_said_once_in_its_order() {
        check(&["it failed"], "it failed");
        check(&["it failed", "the disk", "full"], "it failed: the disk: full");
        check(&["it failed: the disk", "the disk", "full"], "it failed: the disk: full");
        check(
            &["it failed: the disk: full", "the disk: full", "full"],
            "it failed: the disk: full",
        );
        check(&["full: it failed", "full"], "full: it failed: full");
    }
}

//! `pgbridge map eval`: questions on standard input, answers on standard output.

use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Write};

use super::files;
use crate::cli::args::MapEval;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::terminal::{self, safe_json};
use crate::config::MapDisk;
use crate::mapping::{Evaluated, IdentMap, QUESTION_BYTES, evaluate, load_error};

/// The map cannot be read.
const UNREADABLE: Exit = Exit::Own(2);

/// Answers every question, and says in the end whether all of them were some. Where not all could be
/// read or written, that is not known.
pub(super) fn run(command: &MapEval) -> Result<Exit, Failure> {
    match files::load(&command.file, command.postgres.unwrap_or_default(), &MapDisk::default()) {
        Ok(map) => {
            let mut input = BufReader::new(io::stdin().lock());
            answer_all(&map, &mut input)
        }
        Err(mistakes) => {
            let told = load_error(&command.file.to_string_lossy(), &mistakes);
            terminal::answer(&shown(told)).map_err(Failure::Output)?;
            Ok(UNREADABLE)
        }
    }
}

fn answer_all(map: &IdentMap, input: &mut BufReader<impl io::Read>) -> Result<Exit, Failure> {
    let mut output = BufWriter::new(io::stdout().lock());
    let mut exit = Exit::Done;
    loop {
        // Whoever waits for an answer before asking again must get it now.
        if !input.buffer().contains(&b'\n') {
            output.flush().map_err(Failure::Output)?;
        }
        let evaluated = match next_line(input).map_err(Failure::QuestionsUnread)? {
            NextLine::End => break,
            NextLine::TooLong => Evaluated::too_long(),
            NextLine::Line(line) => evaluate(map, &line),
        };
        if matches!(evaluated, Evaluated::Malformed(_)) {
            exit = Exit::Failed;
        }
        writeln!(output, "{}", shown(evaluated.to_json())).map_err(Failure::Output)?;
    }
    output.flush().map_err(Failure::Output)?;
    Ok(exit)
}

enum NextLine {
    Line(Vec<u8>),
    TooLong,
    End,
}

/// The next line without its end. One that is too long is passed over, and never kept.
fn next_line(input: &mut impl BufRead) -> io::Result<NextLine> {
    let mut line = Vec::new();
    let mut length = 0_usize;
    loop {
        let read = input.fill_buf()?;
        if read.is_empty() {
            break;
        }
        let end = read.iter().position(|byte| *byte == b'\n');
        let part = read.get(..end.unwrap_or(read.len())).unwrap_or_default();
        length = length.saturating_add(part.len());
        if length <= QUESTION_BYTES {
            line.extend_from_slice(part);
        }
        let taken = part.len() + usize::from(end.is_some());
        input.consume(taken);
        if end.is_some() {
            return Ok(if length > QUESTION_BYTES {
                NextLine::TooLong
            } else {
                NextLine::Line(line)
            });
        }
    }
    Ok(match length {
        0 => NextLine::End,
        _ if length > QUESTION_BYTES => NextLine::TooLong,
        _ => NextLine::Line(line),
    })
}

/// JSON for a program as it is, and for a person's terminal so that it cannot steer that.
fn shown(json: String) -> String {
    if io::stdout().is_terminal() { safe_json(&json) } else { json }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<Option<Vec<u8>>> {
        let mut input = BufReader::with_capacity(7, text);
        let mut lines = Vec::new();
        loop {
            match next_line(&mut input).unwrap() {
                NextLine::Line(line) => lines.push(Some(line)),
                NextLine::TooLong => lines.push(None),
                NextLine::End => return lines,
            }
        }
    }

    #[test]
    fn lines_end_with_their_end_or_the_text_s() {
        let expected = [b"a".as_slice(), b"", b"bcdefghij", b"k"].map(|line| Some(line.to_vec()));
        assert_eq!(lines(b"a\n\nbcdefghij\nk"), expected);
        assert_eq!(lines(b""), []);
        assert_eq!(lines(b"\n"), [Some(Vec::new())]);
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_the_next_one_read() {
        let mut text = vec![b'x'; QUESTION_BYTES];
        text.extend_from_slice(b"\n");
        text.extend(vec![b'y'; QUESTION_BYTES + 1]);
        text.extend_from_slice(b"\nz\n");
        let found = lines(&text);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].as_ref().map(Vec::len), Some(QUESTION_BYTES));
        assert_eq!(found[1..], [None, Some(b"z".to_vec())]);
    }
}

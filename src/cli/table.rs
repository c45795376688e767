//! Tables and times as people read them.

use jiff::Timestamp;
use unicode_normalization::char::is_combining_mark;

use super::terminal::Shown;

/// Rows under headings, each column as wide as its widest cell on the terminal.
pub(super) fn table(headings: &[&str], rows: &[Vec<Shown>]) -> String {
    let headings = headings.iter().map(Shown::new).collect();
    let all: Vec<Vec<Shown>> = std::iter::once(headings).chain(rows.iter().cloned()).collect();
    columns(&all)
}

/// Rows, each column as wide as its widest cell on the terminal.
pub(super) fn columns(rows: &[Vec<Shown>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width_of = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| width(cell.as_str())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width_of).collect();
    rows.iter().map(|row| line(row, &widths)).collect()
}

/// Names and values, one pair a line.
pub(super) fn pairs(pairs: &[(&str, Shown)]) -> String {
    let rows: Vec<Vec<Shown>> =
        pairs.iter().map(|(name, value)| vec![Shown::new(name), value.clone()]).collect();
    let widest = pairs.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
    rows.iter().map(|row| line(row, &[widest, 0])).collect()
}

fn line(row: &[Shown], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, wanted) in row.iter().zip(widths) {
        let padding = wanted.saturating_sub(width(cell.as_str())) + 2;
        line.push_str(cell.as_str());
        line.extend(std::iter::repeat_n(' ', padding));
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

/// Columns that a text takes on a terminal: none for combining marks, two for the wide letters of
/// East Asia and for emoji (UAX #11), one for the rest.
fn width(text: &str) -> usize {
    text.chars()
        .map(|letter| match letter {
            _ if is_combining_mark(letter) => 0,
            '\u{1100}'..='\u{115f}'
            | '\u{2e80}'..='\u{303e}'
            | '\u{3041}'..='\u{a4cf}'
            | '\u{a960}'..='\u{a97f}'
            | '\u{ac00}'..='\u{d7a3}'
            | '\u{f900}'..='\u{faff}'
            | '\u{fe30}'..='\u{fe6f}'
            | '\u{ff00}'..='\u{ff60}'
            | '\u{ffe0}'..='\u{ffe6}'
            | '\u{1f300}'..='\u{1f64f}'
            | '\u{1f680}'..='\u{1f6ff}'
            | '\u{1f900}'..='\u{1faff}'
            | '\u{20000}'..='\u{3fffd}' => 2,
            _ => 1,
        })
        .sum()
}

/// A time, relative to `now` and absolute: `in 14m59s (2026-11-20 20:00:00 UTC)`.
pub(super) fn time(at: Timestamp, now: Timestamp) -> Shown {
    let absolute = at.strftime("%Y-%m-%d %H:%M:%S UTC");
    let away = length(at.as_second().abs_diff(now.as_second()));
    Shown::new(match at.as_second().cmp(&now.as_second()) {
        std::cmp::Ordering::Greater => format!("in {away} ({absolute})"),
        std::cmp::Ordering::Equal => format!("now ({absolute})"),
        std::cmp::Ordering::Less => format!("{away} ago ({absolute})"),
    })
}

/// A length of time by its two largest units: `1d3h`, `1h30m`, `15m`, `59s`.
pub(super) fn length(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let mut rest = seconds;
    let mut parts = units.into_iter().map(|(unit, size)| {
        let count = rest / size;
        rest %= size;
        (count, unit)
    });
    let Some((count, unit)) = parts.find(|(count, _)| *count > 0) else {
        return "0s".to_owned();
    };
    match parts.next() {
        Some((next, smaller)) if next > 0 => format!("{count}{unit}{next}{smaller}"),
        _ => format!("{count}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_by_what_is_seen() {
        let rows = [
            vec![Shown::new("中"), Shown::new("x")],
            vec![Shown::new("Zoe\u{308}s"), Shown::new("y")],
            vec![Shown::new("ab"), Shown::new("")],
        ];
        assert_eq!(table(&["A", "B"], &rows), "A     B\n中    x\nZoe\u{308}s  y\nab\n");
    }

    #[test]
    fn a_cell_cannot_break_out_of_its_line() {
        let rows = [vec![Shown::new("a\nb\u{1b}[31m")]];
        assert_eq!(table(&["A"], &rows), "A\na\\nb\\u{1b}[31m\n");
    }

    #[test]
    fn times_are_relative_and_absolute() {
        let now: Timestamp = "2026-11-20T20:00:00Z".parse().unwrap();
        let at =
            |seconds: i64| time(now + jiff::SignedDuration::from_secs(seconds), now).to_string();
        assert_eq!(at(899), "in 14m59s (2026-11-20 20:14:59 UTC)");
        assert_eq!(at(0), "now (2026-11-20 20:00:00 UTC)");
        assert_eq!(at(-5400), "1h30m ago (2026-11-20 18:30:00 UTC)");
    }

    #[test]
    fn lengths_show_their_two_largest_units() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (900, "15m"), (3601, "1h"), (5400, "1h30m"), (97_200, "1d3h")]
        {
            assert_eq!(length(seconds), text);
        }
    }
}

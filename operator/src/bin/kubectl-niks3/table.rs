//! Columns, ages and sizes, as `kubectl` writes them.

use k8s_openapi::jiff::Timestamp;
use niks3_operator::scaled::{Scaled, scaled};

/// Rows with their columns below each other, indented.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = format!("  {}", cells.collect::<Vec<_>>().join("   "));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A row of cells.
pub(crate) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// How long ago an RFC 3339 time was: `5s`, `3m`, `2h`, `4d`.
pub(crate) fn age(then: Option<&str>, now: Timestamp) -> String {
    parsed(then).map_or_else(|| "-".to_owned(), |then| lasting(now.as_second() - then.as_second()))
}

/// How long it is until then: `in 2h`.
pub(crate) fn until(then: Option<&str>, now: Timestamp) -> String {
    parsed(then)
        .map_or_else(|| "-".to_owned(), |then| format!("in {}", lasting(then.as_second() - now.as_second())))
}

fn parsed(time: Option<&str>) -> Option<Timestamp> {
    time?.parse().ok()
}

fn lasting(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ ..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// Bytes for people.
pub(crate) fn size(bytes: i64) -> String {
    let Scaled { value, tenths, unit } = scaled(bytes);
    match tenths {
        Some(tenths) => format!("{value}.{tenths} {unit}B"),
        None => format!("{value} {unit}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_below_each_other() {
        let rows = [row(["A", "LONG", "C"]), row(["longer", "b", ""])];
        assert_eq!(table(&rows), "  A        LONG   C\n  longer   b\n");
    }

    #[test]
    fn ages_and_sizes_are_short() {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        let ages =
            ["2026-01-09T23:59:55Z", "2026-01-09T23:50:00Z", "2026-01-09T12:00:00Z", "2026-01-01T00:00:00Z"];
        assert_eq!(ages.map(|then| age(Some(then), now)), ["5s", "10m", "12h", "9d"]);
        assert_eq!((age(None, now), age(Some("soon"), now)), ("-".to_owned(), "-".to_owned()));
        assert_eq!(
            (until(Some("2026-01-10T05:00:00Z"), now), until(None, now)),
            ("in 5h".into(), "-".into())
        );
        assert_eq!([0, 1536, 5 << 30].map(size), ["0 B", "1.5 KiB", "5.0 GiB"]);
    }
}

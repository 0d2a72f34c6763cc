//! Rows as a table for a terminal.

use super::stage::Rows;

/// Longer cells are cut to this: their beginning and their end, since envelopes of one column begin alike.
const WIDTH_MAX: usize = 34;
/// Characters kept at the end of a longer cell.
const END: usize = 12;

/// The table, each line indented by four.
pub(super) fn render(rows: &Rows) -> String {
    let mut lines = vec![rows.columns.clone()];
    lines.extend(rows.rows.iter().cloned());
    let widths: Vec<usize> = (0..rows.columns.len())
        .map(|i| lines.iter().filter_map(|line| line.get(i)).map(|cell| width(cell)).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for (n, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| pad(cell, *width)).collect();
        out.push_str("    ");
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
        if n == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
            out.push_str(&format!("    {}\n", rules.join("  ")));
        }
    }
    out
}

fn width(cell: &str) -> usize {
    cell.chars().count().min(WIDTH_MAX)
}

fn pad(cell: &str, width: usize) -> String {
    let length = cell.chars().count();
    let text: String = if length > WIDTH_MAX {
        let (start, end) = (cell.chars().take(WIDTH_MAX - END - 1), cell.chars().skip(length - END));
        start.chain(['…']).chain(end).collect()
    } else {
        cell.to_owned()
    };
    let missing = width.saturating_sub(text.chars().count());
    text + &" ".repeat(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_long_cells_are_cut() {
        let cell = |text: &str| text.to_owned();
        let rows = Rows {
            columns: vec![cell("a"), cell("name")],
            rows: vec![vec![cell("1"), cell("Zoë")], vec![cell("22"), "x".repeat(30) + &"y".repeat(10)]],
        };
        let text = render(&rows);
        assert_eq!(text.lines().next(), Some("    a   name"));
        assert_eq!(text.lines().nth(2), Some("    1   Zoë"));
        assert_eq!(text.lines().nth(3), Some("    22  xxxxxxxxxxxxxxxxxxxxx…xxyyyyyyyyyy"));
    }
}

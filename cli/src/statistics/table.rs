//! Tables of text as Linkerd prints them: names to the left, figures to the right, three spaces
//! between.

/// A column.
pub(crate) struct Column {
    pub(crate) head: &'static str,
    is_right: bool,
}

/// A column of names.
pub(crate) fn left(head: &'static str) -> Column {
    Column { head, is_right: false }
}

/// A column of figures.
pub(crate) fn right(head: &'static str) -> Column {
    Column { head, is_right: true }
}

const GAP: usize = 3;
/// Between columns that have little room.
const GAP_NARROW: usize = 2;

/// The table, with its head.
pub(crate) fn render(columns: &[Column], rows: &[Vec<String>]) -> String {
    draw(columns, rows, &widths(columns, rows), GAP)
}

/// The table in so many characters of width: names are cut, to no fewer than `name_min`. None where
/// that is not enough.
pub(crate) fn fitted(
    columns: &[Column],
    rows: &[Vec<String>],
    width: usize,
    name_min: usize,
) -> Option<String> {
    let mut widths = widths(columns, rows);
    let all = |widths: &[usize], gap: usize| {
        widths.iter().sum::<usize>() + gap * columns.len().saturating_sub(1)
    };
    if all(&widths, GAP) <= width {
        return Some(draw(columns, rows, &widths, GAP));
    }
    while all(&widths, GAP_NARROW) > width {
        let names = widths.iter_mut().zip(columns).filter(|(_, column)| !column.is_right);
        let widest = names.map(|(width, _)| width).max_by_key(|width| **width)?;
        if *widest <= name_min {
            return None;
        }
        *widest -= 1;
    }
    Some(draw(columns, rows, &widths, GAP_NARROW))
}

/// As many characters; where some are left out, the last says so.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain((width > 0).then_some('\u{2026}')).collect()
}

fn widths(columns: &[Column], rows: &[Vec<String>]) -> Vec<usize> {
    let width_of = |(index, column): (usize, &Column)| {
        let cells = rows.iter().filter_map(|row| row.get(index));
        let cells = cells.map(|cell| cell.chars().count());
        cells.max().unwrap_or_default().max(column.head.len())
    };
    columns.iter().enumerate().map(width_of).collect()
}

fn draw(columns: &[Column], rows: &[Vec<String>], widths: &[usize], gap: usize) -> String {
    let head: Vec<_> = columns.iter().map(|column| column.head.to_string()).collect();
    let mut out = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let cells = columns.iter().zip(widths).zip(row).map(|((column, width), cell)| {
            let cell = cut(cell, *width);
            match column.is_right {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            }
        });
        let line = cells.collect::<Vec<_>>().join(&" ".repeat(gap));
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_below_each_other() {
        let row = |name: &str, figure: &str| vec![name.to_string(), figure.to_string()];
        let rows = [row("web", "1"), row("└─ web-of-things", "√ 12345678")];
        insta::assert_snapshot!(render(&[left("NAME"), right("RPS")], &rows), @r#"
        NAME                      RPS
        web                         1
        └─ web-of-things   √ 12345678
        "#);
    }

    #[test]
    fn names_give_way_where_there_is_little_room() {
        let row = |name: &str, figure: &str| vec![name.to_string(), figure.to_string()];
        let rows = [row("web", "1"), row("web-of-things", "12345678")];
        let columns = [left("NAME"), right("RPS")];
        let fit = |width| fitted(&columns, &rows, width, 6);
        assert_eq!(fit(24), Some(render(&columns, &rows)));
        insta::assert_snapshot!(fit(18).unwrap(), @r#"
        NAME           RPS
        web              1
        web-of-…  12345678
        "#);
        assert_eq!(fit(15), None);
        assert_eq!(
            (cut("abc", 3), cut("abc", 2), cut("abc", 0)),
            ("abc".into(), "a…".into(), "".into())
        );
    }
}

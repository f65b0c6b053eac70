//! Tables of text as Linkerd prints them: names to the left, figures to the right, three spaces
//! between.

/// A column.
pub(crate) struct Column {
    head: &'static str,
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

const GAP: &str = "   ";

/// The table, with its head.
pub(crate) fn render(columns: &[Column], rows: &[Vec<String>]) -> String {
    let width_of = |index: usize, column: &Column| {
        let cells = rows.iter().filter_map(|row| row.get(index));
        let cells = cells.map(|cell| cell.chars().count());
        cells.max().unwrap_or_default().max(column.head.len())
    };
    let widths: Vec<_> =
        columns.iter().enumerate().map(|(index, column)| width_of(index, column)).collect();
    let head: Vec<_> = columns.iter().map(|column| column.head.to_string()).collect();
    let mut out = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let cells =
            columns.iter().zip(&widths).zip(row).map(|((column, width), cell)| {
                match column.is_right {
                    true => format!("{cell:>width$}"),
                    false => format!("{cell:<width$}"),
                }
            });
        let line = cells.collect::<Vec<_>>().join(GAP);
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
}

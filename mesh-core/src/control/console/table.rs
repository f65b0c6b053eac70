//! Tables: what columns there are, in which order rows stand, which page of them is shown. Pure.

use std::cmp::Ordering;

use super::format;
use super::html::{Element, Html, el};
use super::link::{Asked, Link};

/// How many rows a page has.
pub(crate) const PAGE_ROWS: usize = 50;

/// A column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Its name in addresses; empty where rows cannot be put in its order.
    pub(crate) key: &'static str,
    /// Its heading.
    pub(crate) title: &'static str,
    /// Whether it has figures, which stand at the right.
    pub(crate) is_number: bool,
}

/// A column of words.
pub(crate) const fn words(key: &'static str, title: &'static str) -> Column {
    Column { key, title, is_number: false }
}

/// A column of figures.
pub(crate) const fn number(key: &'static str, title: &'static str) -> Column {
    Column { key, title, is_number: true }
}

/// A row: what it is told by, and its cells; the first is its heading.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The same as long as it is the same thing.
    pub(crate) key: String,
    /// As many as there are columns.
    pub(crate) cells: Vec<Html>,
}

/// Which column rows are in order of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// The column's key.
    pub(crate) key: String,
    /// Largest first.
    pub(crate) is_descending: bool,
}

impl Order {
    /// `sort=-rps`, or else `default`.
    pub(crate) fn asked(asked: &Asked, columns: &[Column], default: &str) -> Self {
        let known = |text: &&str| {
            let key = text.trim_start_matches('-');
            !key.is_empty() && columns.iter().any(|column| column.key == key)
        };
        let text = Some(asked.value("sort")).filter(known).unwrap_or(default);
        let key = text.trim_start_matches('-').to_string();
        Self { key, is_descending: text.starts_with('-') }
    }

    fn toggled(&self, column: &Column) -> String {
        let is_it = self.key == column.key;
        // Figures are looked at for their largest, words for their first.
        let descending = if is_it { !self.is_descending } else { column.is_number };
        format!("{}{}", if descending { "-" } else { "" }, column.key)
    }
}

/// What is compared to bring rows in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Key {
    /// A word.
    Word(String),
    /// A figure; what has none comes last either way.
    Figure(Option<f64>),
}

/// Brings rows in order; what is equal stays as it stood.
pub(crate) fn sort<T>(rows: &mut [T], order: &Order, key: impl Fn(&T, &str) -> Key) {
    let of = |row: &T| key(row, &order.key);
    rows.sort_by(|a, b| compare(&of(a), &of(b), order.is_descending));
}

fn compare(a: &Key, b: &Key, is_descending: bool) -> Ordering {
    let turned = |ordering: Ordering| if is_descending { ordering.reverse() } else { ordering };
    match (a, b) {
        (Key::Word(a), Key::Word(b)) => turned(a.cmp(b)),
        (Key::Figure(Some(a)), Key::Figure(Some(b))) => turned(a.total_cmp(b)),
        (Key::Figure(a), Key::Figure(b)) => b.is_some().cmp(&a.is_some()),
        (Key::Word(_), Key::Figure(_)) => Ordering::Less,
        (Key::Figure(_), Key::Word(_)) => Ordering::Greater,
    }
}

/// A part of many rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paging {
    /// Which page, from 1.
    pub(crate) page: usize,
    /// How many rows there are in all.
    pub(crate) rows: usize,
}

impl Paging {
    /// `page=2`, or the nearest that there is.
    pub(crate) fn asked(asked: &Asked, rows: usize) -> Self {
        let pages = rows.div_ceil(PAGE_ROWS).max(1);
        Self { page: asked.number("page").unwrap_or(1).clamp(1, pages), rows }
    }

    /// Those of the rows that are on this page.
    pub(crate) fn of<T>(self, rows: Vec<T>) -> Vec<T> {
        let before = (self.page - 1) * PAGE_ROWS;
        rows.into_iter().skip(before).take(PAGE_ROWS).collect()
    }

    fn render(self, here: &Link) -> Html {
        if self.rows <= PAGE_ROWS {
            return Html::default();
        }
        let first = (self.page - 1) * PAGE_ROWS + 1;
        let last = (self.page * PAGE_ROWS).min(self.rows);
        let pages = self.rows.div_ceil(PAGE_ROWS);
        let link = |to: usize, text: &'static str, rel: &'static str| {
            let here =
                here.clone().query("page", if to == 1 { String::new() } else { to.to_string() });
            el("li").child(
                el("a")
                    .class("button")
                    .href(&here)
                    .attr("rel", rel)
                    .flag("data-swap", true)
                    .text(text),
            )
        };
        el("nav")
            .class("pages")
            .attr("aria-label", "Pages of the table")
            .child(
                el("span")
                    .text(format!("{first}\u{2013}{last} of {}", format::count(self.rows as u64))),
            )
            .child(
                el("ul")
                    .child((self.page > 1).then(|| link(self.page - 1, "Previous", "prev")))
                    .child((self.page < pages).then(|| link(self.page + 1, "Next", "next"))),
            )
            .into()
    }
}

/// A table as it is shown.
#[derive(Clone, Debug)]
pub(crate) struct Table<'a> {
    /// Its id on the page.
    pub(crate) id: &'static str,
    /// What it is a table of.
    pub(crate) caption: String,
    /// Said smaller beside the caption.
    pub(crate) note: String,
    /// Its columns.
    pub(crate) columns: &'a [Column],
    /// Its rows, in order.
    pub(crate) rows: Vec<Row>,
    /// The order, and the address that it is changed at.
    pub(crate) order: Option<(Order, Link)>,
    /// Where these are not all.
    pub(crate) paging: Option<Paging>,
    /// Said where there is no row.
    pub(crate) empty: Html,
}

impl Table<'_> {
    /// The table in a card of its own.
    pub(crate) fn render(self) -> Html {
        let Self { id, caption, note, columns, rows, order, paging, empty } = self;
        let small = (!note.is_empty()).then(|| el("small").text(&note));
        if rows.is_empty() {
            let header = el("header").child(el("h2").text(&caption)).child(small);
            let empty = el("div").class("empty").child(empty);
            return el("section").class("card").child(header).child(empty).into();
        }
        let caption_id = format!("{id}-caption");
        let table = el("table")
            .attr("id", id)
            .child(el("caption").attr("id", &caption_id).text(&caption).child(small))
            .child(el("thead").child(
                el("tr").children(columns.iter().map(|column| heading(column, order.as_ref()))),
            ))
            .child(el("tbody").children(rows.into_iter().map(|row| self::row(columns, row))));
        el("section")
            .class("card")
            .child(
                el("div")
                    .class("scroll")
                    .attr("role", "region")
                    .attr("tabindex", "0")
                    .attr("aria-labelledby", &caption_id)
                    .child(table),
            )
            .child(paging.zip(order).map(|(paging, (_, here))| paging.render(&here)))
            .into()
    }
}

fn heading(column: &Column, order: Option<&(Order, Link)>) -> Element {
    let th = el("th").attr("scope", "col").maybe("class", column.is_number.then_some("number"));
    let Some((order, here)) = order.filter(|_| !column.key.is_empty()) else {
        return th.text(column.title);
    };
    let direction = if order.is_descending { "descending" } else { "ascending" };
    let sorted = (order.key == column.key).then_some(direction);
    let link = here.clone().query("sort", order.toggled(column)).query("page", "");
    th.maybe("aria-sort", sorted)
        .child(el("a").href(&link).flag("data-swap", true).text(column.title))
}

fn row(columns: &[Column], row: Row) -> Element {
    let cells = row.cells.into_iter().zip(columns).enumerate().map(|(index, (cell, column))| {
        let begun = match index {
            0 => el("th").attr("scope", "row"),
            _ => el("td").maybe("class", column.is_number.then_some("number")),
        };
        begun.child(cell)
    });
    el("tr").attr("data-key", row.key).children(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 2] = [words("name", "Name"), number("rps", "RPS")];

    #[test]
    fn an_order_that_there_is_not_is_the_usual_one() {
        let order = |query| Order::asked(&Asked::read("/", query), &COLUMNS, "-rps");
        assert_eq!(order("sort=name").key, "name");
        assert_eq!(order("sort=other"), Order { key: "rps".to_string(), is_descending: true });
    }

    #[test]
    fn what_has_no_figure_comes_last_either_way() {
        for sorted in ["rps", "-rps"] {
            let order =
                Order::asked(&Asked::read("/", &format!("sort={sorted}")), &COLUMNS, "name");
            let mut rows = vec![None, Some(2.0), Some(1.0)];
            sort(&mut rows, &order, |row, _| Key::Figure(*row));
            assert_eq!(rows[2], None, "{sorted}");
        }
    }

    #[test]
    fn a_page_beyond_the_last_is_the_last() {
        let asked = Asked::read("/", "page=99");
        assert_eq!(Paging::asked(&asked, 120), Paging { page: 3, rows: 120 });
        assert_eq!(Paging::asked(&asked, 120).of((0..120).collect()).len(), 20);
        assert_eq!(Paging::asked(&asked, 0).page, 1);
    }

    #[test]
    fn a_table_says_its_order() {
        let asked = Asked::read("/", "sort=-rps");
        let table = Table {
            id: "t",
            caption: "Things".to_string(),
            note: String::new(),
            columns: &COLUMNS,
            rows: vec![Row { key: "a".to_string(), cells: vec!["<a>".into(), "1".into()] }],
            order: Some((Order::asked(&asked, &COLUMNS, "name"), Link::to("/things"))),
            paging: None,
            empty: Html::default(),
        };
        insta::assert_snapshot!(table.render().as_str(), @r##"<section class="card"><div class="scroll" role="region" tabindex="0" aria-labelledby="t-caption"><table id="t"><caption id="t-caption">Things</caption><thead><tr><th scope="col"><a href="/things?sort=name" data-swap="">Name</a></th><th scope="col" class="number" aria-sort="descending"><a href="/things?sort=rps" data-swap="">RPS</a></th></tr></thead><tbody><tr data-key="a"><th scope="row">&lt;a&gt;</th><td class="number">1</td></tr></tbody></table></div></section>"##);
    }
}

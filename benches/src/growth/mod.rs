//! Cost as the work grows: what proxies and a control plane hold and spend at ten, a hundred, a
//! thousand times as much of something. Nothing is judged but what must return or recover.

pub mod control;
pub mod proxy;

/// Figures in rows, with the names of their columns.
#[derive(Debug)]
pub struct Table {
    /// What grows, and how it was measured.
    pub title: &'static str,
    /// With units.
    pub columns: Vec<&'static str>,
    /// As many figures in each as there are columns.
    pub rows: Vec<Vec<f64>>,
}

impl Table {
    /// An empty one.
    pub fn new(title: &'static str, columns: &[&'static str]) -> Self {
        Self { title, columns: columns.to_vec(), rows: Vec::new() }
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut text = format!("\n{}\n", self.title);
        let mut line = |cells: Vec<String>| {
            for (cell, column) in cells.iter().zip(&self.columns) {
                text += &format!("{cell:>width$}", width = column.len().max(8) + 2);
            }
            text += "\n";
        };
        line(self.columns.iter().map(ToString::to_string).collect());
        for row in &self.rows {
            line(row.iter().map(|figure| number(*figure)).collect());
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        let row = |row: &Vec<f64>| {
            let pairs = self.columns.iter().zip(row).map(|(c, f)| (c.to_string(), (*f).into()));
            serde_json::Value::Object(pairs.collect())
        };
        serde_json::json!({ "title": self.title, "rows": self.rows.iter().map(row).collect::<Vec<_>>() })
    }
}

fn number(figure: f64) -> String {
    match figure {
        whole if whole.fract() == 0.0 => format!("{whole:.0}"),
        large if large >= 100.0 => format!("{large:.0}"),
        small => format!("{small:.1}"),
    }
}

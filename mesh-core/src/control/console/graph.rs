//! Who calls whom as a drawing: nodes in columns from caller to called, with as few crossings as a
//! few sweeps find. Pure: the same graph is always drawn alike.

use super::chart::{short, svg};
use super::html::{Element, Html, el};
use super::link::Link;

/// Nodes of a drawing; who has more shows the busiest.
pub(crate) const NODES_MAX: usize = 120;

const NODE_WIDTH: f64 = 176.0;
const NODE_HEIGHT: f64 = 58.0;
const GAP_ACROSS: f64 = 104.0;
const GAP_DOWN: f64 = 20.0;
/// A line that passes a column takes this much of it.
const PASSING_HEIGHT: f64 = 14.0;
const MARGIN: f64 = 14.0;
const SWEEPS: usize = 6;
const TITLE_CHARS_MAX: usize = 22;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// Nothing is known of it.
    None,
    /// As it should be.
    Good,
    /// To be seen to.
    Warn,
    /// It does not work.
    Bad,
}

impl State {
    /// Of a success rate: from 99 % good, from 95 % to be seen to.
    pub(crate) fn of_success(share: Option<f64>) -> Self {
        match share {
            None => Self::None,
            Some(share) if share >= 0.99 => Self::Good,
            Some(share) if share >= 0.95 => Self::Warn,
            Some(_) => Self::Bad,
        }
    }

    /// As a class.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }

    /// The shape beside its color, as `weft check` has it.
    pub(crate) fn shape(self) -> &'static str {
        match self {
            Self::None => "\u{25cb}",
            Self::Good => "\u{221a}",
            Self::Warn => "\u{203c}",
            Self::Bad => "\u{d7}",
        }
    }
}

/// A node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its name.
    pub(crate) title: String,
    /// Beside the name, smaller: its namespace and kind.
    pub(crate) note: String,
    /// Its figures.
    pub(crate) figures: String,
    /// How it is.
    pub(crate) state: State,
    /// Where it leads.
    pub(crate) link: Option<Link>,
    /// Whether the drawing is about it.
    pub(crate) is_self: bool,
}

/// A line from one node to another, by their places among the nodes.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    /// The caller.
    pub(crate) from: usize,
    /// The called.
    pub(crate) to: usize,
    /// Requests a second.
    pub(crate) weight: f64,
    /// How it is.
    pub(crate) state: State,
    /// Said upon it.
    pub(crate) label: String,
    /// Whether it is known to have mutual TLS.
    pub(crate) is_secured: bool,
}

/// A point of a column: a node, or a line that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    Node(usize),
    Passing,
}

/// Where everything is.
struct Layout {
    points: Vec<Point>,
    column: Vec<usize>,
    /// Middles of the points.
    y: Vec<f64>,
    columns: Vec<Vec<usize>>,
    /// For each edge, the points that it leads through.
    routes: Vec<Vec<usize>>,
}

/// The drawing of a graph. `what` says what it shows.
pub(crate) fn render(nodes: &[Node], edges: &[Edge], what: &str) -> Html {
    let edges: Vec<&Edge> = edges.iter().filter(|edge| edge.from != edge.to).collect();
    let pairs: Vec<_> = edges.iter().map(|edge| (edge.from, edge.to)).collect();
    let layout = Layout::of(nodes.len(), &pairs);
    let bottom = layout.y.iter().zip(&layout.points).map(|(y, point)| y + height(*point) / 2.0);
    let tall = bottom.fold(NODE_HEIGHT, f64::max) + MARGIN;
    let columns = layout.columns.len().max(1) as f64;
    let wide = columns * NODE_WIDTH + (columns - 1.0) * GAP_ACROSS + 2.0 * MARGIN;
    let busiest = edges.iter().map(|edge| edge.weight).fold(0.0, f64::max);
    let drawing = svg(wide, tall, "drawing", what)
        .attr("width", short(wide))
        .attr("height", short(tall))
        .children(edges.iter().zip(&layout.routes).map(|(edge, route)| {
            let share = if busiest > 0.0 { (edge.weight / busiest).sqrt() } else { 0.0 };
            layout.line(edge, route, 1.25 + 3.25 * share)
        }))
        .children(nodes.iter().enumerate().map(|(index, node)| layout.node(index, node)))
        .children(edges.iter().zip(&layout.routes).map(|(edge, route)| layout.label(edge, route)));
    el("div")
        .class("graph")
        .attr("tabindex", "0")
        .attr("role", "region")
        .attr("aria-label", what)
        .child(drawing)
        .into()
}

impl Layout {
    fn of(nodes: usize, edges: &[(usize, usize)]) -> Self {
        let forward = without_cycles(nodes, edges);
        let depth = depths(nodes, &forward);
        let mut points: Vec<Point> = (0..nodes).map(Point::Node).collect();
        let mut column = depth.clone();
        let mut routes = Vec::with_capacity(edges.len());
        for (from, to) in edges {
            let mut route = vec![*from];
            let (low, high) = (depth[*from].min(depth[*to]), depth[*from].max(depth[*to]));
            let mut passing: Vec<usize> = (low + 1..high)
                .map(|at| {
                    points.push(Point::Passing);
                    column.push(at);
                    points.len() - 1
                })
                .collect();
            if depth[*from] > depth[*to] {
                passing.reverse();
            }
            route.append(&mut passing);
            route.push(*to);
            routes.push(route);
        }
        let count = column.iter().max().map_or(1, |last| last + 1);
        let mut columns = vec![Vec::new(); count];
        for (point, at) in column.iter().enumerate() {
            columns[*at].push(point);
        }
        let mut layout = Self { y: vec![0.0; points.len()], points, column, columns, routes };
        layout.order();
        layout.place();
        layout
    }

    /// Brings each column in the order of the middle of its neighbours, a few times to and fro.
    fn order(&mut self) {
        let mut neighbours = vec![Vec::new(); self.points.len()];
        for route in &self.routes {
            for step in route.windows(2) {
                neighbours[step[0]].push(step[1]);
                neighbours[step[1]].push(step[0]);
            }
        }
        let mut rank = vec![0.0; self.points.len()];
        let set_ranks = |columns: &[Vec<usize>], rank: &mut [f64]| {
            for column in columns {
                for (at, point) in column.iter().enumerate() {
                    rank[*point] = (at as f64 + 0.5) / column.len() as f64;
                }
            }
        };
        set_ranks(&self.columns, &mut rank);
        for sweep in 0..SWEEPS {
            let indexes: Vec<usize> = match sweep % 2 {
                0 => (0..self.columns.len()).collect(),
                _ => (0..self.columns.len()).rev().collect(),
            };
            for index in indexes {
                let middle = |point: &usize| {
                    let around = &neighbours[*point];
                    let sum: f64 = around.iter().map(|other| rank[*other]).sum();
                    if around.is_empty() { rank[*point] } else { sum / around.len() as f64 }
                };
                let mut sorted: Vec<_> =
                    self.columns[index].iter().map(|point| (middle(point), *point)).collect();
                sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
                self.columns[index] = sorted.into_iter().map(|(_, point)| point).collect();
                set_ranks(&self.columns[index..=index], &mut rank);
            }
        }
    }

    /// Stacks each column, and centers the columns beside each other.
    fn place(&mut self) {
        let tall = |column: &Vec<usize>| -> f64 {
            let heights = column.iter().map(|point| height(self.points[*point]) + GAP_DOWN);
            heights.sum::<f64>() - GAP_DOWN
        };
        let tallest = self.columns.iter().map(tall).fold(0.0, f64::max);
        for column in &self.columns {
            let mut top = MARGIN + (tallest - tall(column)) / 2.0;
            for point in column {
                let height = height(self.points[*point]);
                self.y[*point] = top + height / 2.0;
                top += height + GAP_DOWN;
            }
        }
    }

    fn left(&self, point: usize) -> f64 {
        MARGIN + self.column[point] as f64 * (NODE_WIDTH + GAP_ACROSS)
    }

    fn line(&self, edge: &Edge, route: &[usize], width: f64) -> Element {
        let is_back = self.column[edge.from] >= self.column[edge.to];
        let mut path = String::new();
        for (index, step) in route.windows(2).enumerate() {
            let (from, to) = (step[0], step[1]);
            let (y1, y2) = (self.y[from], self.y[to]);
            let (x1, x2) = match is_back {
                false => (self.left(from) + NODE_WIDTH, self.left(to)),
                true => (self.left(from), self.left(to) + NODE_WIDTH),
            };
            let bend = (x2 - x1) / 2.0;
            if index == 0 {
                path.push_str(&format!("M{} {}", short(x1), short(y1)));
            } else {
                // It passes a column straight.
                path.push_str(&format!("L{} {}", short(x1), short(y1)));
            }
            path.push_str(&format!(
                "C{} {} {} {} {} {}",
                short(x1 + bend),
                short(y1),
                short(x2 - bend),
                short(y2),
                short(x2),
                short(y2)
            ));
        }
        let plain = if edge.is_secured { "" } else { " plain" };
        el("path")
            .class(format!("link {}{plain}", edge.state.class()))
            .attr("d", path)
            .attr("stroke-width", short(width))
    }

    /// Said in the first gap that the line crosses.
    fn label(&self, edge: &Edge, route: &[usize]) -> Html {
        let (Some(from), Some(to)) = (route.first(), route.get(1)) else { return Html::default() };
        if edge.label.is_empty() {
            return Html::default();
        }
        let is_back = self.column[*from] >= self.column[*to];
        let x = match is_back {
            false => self.left(*from) + NODE_WIDTH + GAP_ACROSS / 2.0,
            true => self.left(*from) - GAP_ACROSS / 2.0,
        };
        let y = (self.y[*from] + self.y[*to]) / 2.0;
        el("text")
            .class(format!("edge-label {}", edge.state.class()))
            .attr("x", short(x))
            .attr("y", short(y - 4.0))
            .attr("text-anchor", "middle")
            .text(&edge.label)
            .into()
    }

    fn node(&self, index: usize, node: &Node) -> Html {
        let (x, y) = (self.left(index), self.y[index] - NODE_HEIGHT / 2.0);
        let at = |dx: f64, dy: f64, class: &'static str, text: &str| {
            el("text").class(class).attr("x", short(x + dx)).attr("y", short(y + dy)).text(text)
        };
        let class = if node.is_self { "node self" } else { "node" };
        let rect = |class: &'static str, width: f64| {
            el("rect")
                .class(class)
                .attr("x", short(x))
                .attr("y", short(y))
                .attr("width", short(width))
                .attr("height", short(NODE_HEIGHT))
                .attr("rx", "7")
        };
        let mark = el("rect")
            .class("mark")
            .attr("x", short(x + 7.0))
            .attr("y", short(y + 9.0))
            .attr("width", "3")
            .attr("height", short(NODE_HEIGHT - 18.0))
            .attr("rx", "1.5");
        let drawn = el("g")
            .class(format!("{class} {}", node.state.class()))
            .child(el("title").text(format!("{} {} {}", node.title, node.note, node.figures)))
            .child(rect("box", NODE_WIDTH))
            .child(mark)
            .child(at(18.0, 20.0, "title", &cut(&node.title)))
            .child(at(18.0, 34.0, "small", &cut(&node.note)))
            .child(at(
                18.0,
                49.0,
                "small state",
                &format!("{} {}", node.state.shape(), node.figures),
            ));
        match &node.link {
            Some(link) => el("a").href(link).child(drawn).into(),
            None => drawn.into(),
        }
    }
}

fn height(point: Point) -> f64 {
    match point {
        Point::Node(_) => NODE_HEIGHT,
        Point::Passing => PASSING_HEIGHT,
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(TITLE_CHARS_MAX) {
        None => text.to_string(),
        Some(_) => {
            let kept: String = text.chars().take(TITLE_CHARS_MAX - 1).collect();
            format!("{kept}\u{2026}")
        }
    }
}

/// Edges with those that close a cycle turned about.
fn without_cycles(nodes: usize, edges: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let mut calls = vec![Vec::new(); nodes];
    let mut callers = vec![0_usize; nodes];
    for (index, (from, to)) in edges.iter().enumerate() {
        calls[*from].push((index, *to));
        callers[*to] += 1;
    }
    // Whoever nobody calls begins; then whoever is left.
    let mut starts: Vec<usize> = (0..nodes).collect();
    starts.sort_by_key(|node| callers[*node]);
    let mut turned = vec![false; edges.len()];
    // 0: not seen, 1: on the way, 2: done.
    let mut seen = vec![0_u8; nodes];
    for start in starts {
        if seen[start] != 0 {
            continue;
        }
        seen[start] = 1;
        let mut way = vec![(start, 0)];
        while let Some((node, next)) = way.pop() {
            let Some((edge, to)) = calls[node].get(next) else {
                seen[node] = 2;
                continue;
            };
            way.push((node, next + 1));
            match seen[*to] {
                0 => {
                    seen[*to] = 1;
                    way.push((*to, 0));
                }
                1 => turned[*edge] = true,
                _ => {}
            }
        }
    }
    let turn = |(index, (from, to)): (usize, &(usize, usize))| match turned[index] {
        true => (*to, *from),
        false => (*from, *to),
    };
    edges.iter().enumerate().map(turn).collect()
}

/// For each node, the length of the longest way to it. Edges have no cycle.
fn depths(nodes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut depth = vec![0; nodes];
    let mut callers = vec![0_usize; nodes];
    let mut calls = vec![Vec::new(); nodes];
    for (from, to) in edges {
        calls[*from].push(*to);
        callers[*to] += 1;
    }
    let mut ready: Vec<usize> = (0..nodes).filter(|node| callers[*node] == 0).collect();
    while let Some(node) = ready.pop() {
        for to in &calls[node] {
            depth[*to] = depth[*to].max(depth[node] + 1);
            callers[*to] -= 1;
            if callers[*to] == 0 {
                ready.push(*to);
            }
        }
    }
    depth
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn columns(nodes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
        Layout::of(nodes, edges).column[..nodes].to_vec()
    }

    #[test]
    fn callers_stand_before_those_they_call() {
        assert_eq!(columns(4, &[(0, 1), (1, 2), (0, 2), (3, 2)]), [0, 1, 2, 0]);
    }

    #[test]
    fn a_line_over_several_columns_has_a_place_in_each() {
        let layout = Layout::of(3, &[(0, 1), (1, 2), (0, 2)]);
        assert_eq!(layout.routes[2].len(), 3);
        assert_eq!(layout.points[layout.routes[2][1]], Point::Passing);
    }

    #[test]
    fn a_cycle_is_drawn_with_a_line_back() {
        assert_eq!(columns(3, &[(0, 1), (1, 2), (2, 0)]), [0, 1, 2]);
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(cut(&"a".repeat(22)).len(), 22);
        assert_eq!(cut(&"\u{e9}".repeat(40)).chars().count(), TITLE_CHARS_MAX);
    }

    proptest! {
        #[test]
        fn any_graph_has_a_layout_without_overlap(
            nodes in 1_usize..20,
            edges in prop::collection::vec((0_usize..20, 0_usize..20), 0..60),
        ) {
            let edges: Vec<_> = edges
                .into_iter()
                .map(|(from, to)| (from % nodes, to % nodes))
                .filter(|(from, to)| from != to)
                .collect();
            let layout = Layout::of(nodes, &edges);
            for column in &layout.columns {
                for pair in column.windows(2) {
                    let between = layout.y[pair[1]] - layout.y[pair[0]];
                    let least = (height(layout.points[pair[0]]) + height(layout.points[pair[1]])) / 2.0;
                    prop_assert!(between >= least);
                }
            }
            for (edge, route) in edges.iter().zip(&layout.routes) {
                prop_assert_eq!((route[0], *route.last().unwrap()), *edge);
                for step in route.windows(2) {
                    prop_assert!(layout.column[step[0]].abs_diff(layout.column[step[1]]) <= 1);
                }
            }
        }
    }
}

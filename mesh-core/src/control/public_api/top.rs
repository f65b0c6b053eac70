//! `top`: what passes right now, summed up from taps: who asks whom for what, how often, how fast and
//! how well. Pure: events in, rows out.
//!
//! Law: never more than [`ROWS_MAX`] rows nor [`PENDING_MAX`] requests without an end are kept; what
//! is left out is counted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::traffic::classify::is_grpc_failure;

/// Rows that are kept. Requests of others are counted and not told apart.
pub const ROWS_MAX: usize = 1_000;
/// Requests whose end is waited for. Beyond, the oldest is given up.
pub const PENDING_MAX: usize = 10_000;

/// How requests are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopOptions {
    /// Not by who asks.
    pub hide_sources: bool,
    /// By route, and not by method and path.
    pub by_route: bool,
}

/// Requests that are alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopRow {
    /// Who asks: a pod, else an address; empty where sources are hidden.
    pub source: String,
    /// Who is asked.
    pub destination: String,
    /// The method; empty where routes are told apart.
    pub method: String,
    /// The path without its query; empty where routes are told apart.
    pub path: String,
    /// The route; empty where methods and paths are told apart.
    pub route: String,
    /// How many ended.
    pub count: u64,
    /// The quickest, in milliseconds.
    pub best_ms: f64,
    /// The slowest.
    pub worst_ms: f64,
    /// The last.
    pub last_ms: f64,
    /// The share that did well, 0 to 1.
    pub success_rate: f64,
}

/// Requests, summed up.
#[derive(Clone, Debug, Default)]
pub struct Top {
    options: TopOptions,
    pending: BTreeMap<Id, Pending>,
    /// Of the request seen last.
    seen: u64,
    rows: BTreeMap<Key, Sums>,
    left_out: u64,
}

/// Of a tap's stream: the proxy's number and the request's.
type Id = (u64, u64);

#[derive(Clone, Debug)]
struct Pending {
    key: Key,
    /// Its place in the order of beginnings.
    nth: u64,
    status: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    source: String,
    destination: String,
    method: String,
    path: String,
    route: String,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    count: u64,
    successes: u64,
    best: Duration,
    worst: Duration,
    last: Duration,
}

impl Top {
    /// Nothing has passed yet.
    pub fn new(options: TopOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// An event of a tap, as `-o json` shows it. What is none is passed over.
    pub fn see(&mut self, event: &Value) {
        if let Some(begun) = event.get("requestInitEvent") {
            self.begin(event, begun);
        } else if let Some(answered) = event.get("responseInitEvent") {
            let pending = id(answered).and_then(|id| self.pending.get_mut(&id));
            if let Some(pending) = pending {
                pending.status = answered["httpStatus"].as_u64();
            }
        } else if let Some(ended) = event.get("responseEndEvent") {
            self.end(ended);
        }
    }

    /// The rows, most frequent first.
    pub fn rows(&self) -> Vec<TopRow> {
        let row = |(key, sums): (&Key, &Sums)| {
            let Key { source, destination, method, path, route } = key.clone();
            let ms = |time: Duration| time.as_secs_f64() * 1000.0;
            TopRow {
                source,
                destination,
                method,
                path,
                route,
                count: sums.count,
                best_ms: ms(sums.best),
                worst_ms: ms(sums.worst),
                last_ms: ms(sums.last),
                success_rate: sums.successes as f64 / sums.count as f64,
            }
        };
        let mut rows: Vec<_> = self.rows.iter().map(row).collect();
        // Stable: rows that are as frequent stay in order of name.
        rows.sort_by_key(|row| std::cmp::Reverse(row.count));
        rows
    }

    /// Requests that are in no row: for want of room, or because their end was never told.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    fn begin(&mut self, event: &Value, begun: &Value) {
        let Some(id) = id(begun) else { return };
        if self.pending.len() >= PENDING_MAX {
            let oldest = self.pending.iter().min_by_key(|(_, pending)| pending.nth);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.pending.remove(&oldest);
                self.left_out += 1;
            }
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let TopOptions { hide_sources, by_route } = self.options;
        let mut key = Key {
            source: if hide_sources { String::new() } else { name(&event["source"]) },
            destination: name(&event["destination"]),
            method: String::new(),
            path: String::new(),
            route: String::new(),
        };
        if by_route {
            let route = &event["routeMeta"];
            let named = route.get("route").or(route.get("name")).map(text);
            key.route = named.filter(|name| !name.is_empty()).unwrap_or("[default]".to_string());
        } else {
            let path = text(&begun["path"]);
            key.method = text(&begun["method"]);
            // Every query would be a row of its own.
            key.path = path.split('?').next().unwrap_or_default().to_string();
        }
        self.seen += 1;
        self.pending.insert(id, Pending { key, nth: self.seen, status: None });
    }

    fn end(&mut self, ended: &Value) {
        let Some(Pending { key, status, .. }) = id(ended).and_then(|id| self.pending.remove(&id))
        else {
            // It began before we looked.
            return;
        };
        if self.rows.len() >= ROWS_MAX && !self.rows.contains_key(&key) {
            self.left_out += 1;
            return;
        }
        let grpc = ended["grpcStatusCode"].as_u64();
        let is_success = ended.get("resetErrorCode").is_none()
            && status.is_some_and(|status| status < 500)
            && !grpc.is_some_and(|code| is_grpc_failure(u16::try_from(code).unwrap_or(2)));
        let took = duration(&ended["sinceRequestInit"]);
        let sums = self.rows.entry(key).or_default();
        sums.best = if sums.count == 0 { took } else { sums.best.min(took) };
        sums.worst = sums.worst.max(took);
        sums.last = took;
        sums.count += 1;
        sums.successes += u64::from(is_success);
    }
}

fn id(event: &Value) -> Option<Id> {
    Some((event["id"]["base"].as_u64()?, event["id"]["stream"].as_u64()?))
}

fn duration(value: &Value) -> Duration {
    let part = |name: &str| value[name].as_u64().unwrap_or_default();
    let nanos = u32::try_from(part("nanos")).unwrap_or_default();
    Duration::from_secs(part("seconds")).saturating_add(Duration::from_nanos(nanos.into()))
}

/// A pod's name, else an address.
fn name(end: &Value) -> String {
    let pod = end["metadata"]["pod"].as_str().filter(|pod| !pod.is_empty());
    pod.or(end["ip"].as_str()).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A request's three events, or the first of them.
    fn request(stream: u64, path: &str, status: u64, nanos: u64) -> Vec<Value> {
        let id = json!({"base": 1, "stream": stream});
        let source = json!({"ip": "10.0.0.1", "metadata": {"pod": "web-1"}});
        let destination = json!({"ip": "10.0.0.2", "metadata": {}});
        let event = |name: &str, what: Value| {
            let mut event = json!({
                "source": source, "destination": destination, "routeMeta": {"route": "all"},
            });
            event[name] = what;
            event
        };
        let since = json!({"nanos": nanos});
        vec![
            event("requestInitEvent", json!({"id": id, "method": "GET", "path": path})),
            event("responseInitEvent", json!({"id": id, "httpStatus": status})),
            event("responseEndEvent", json!({"id": id, "sinceRequestInit": since})),
        ]
    }

    fn seen(options: TopOptions, events: impl IntoIterator<Item = Value>) -> Top {
        let mut top = Top::new(options);
        events.into_iter().for_each(|event| top.see(&event));
        top
    }

    #[test]
    fn requests_that_are_alike_are_one_row() {
        let events = [
            request(1, "/a?x=1", 200, 2_000_000),
            request(2, "/a?x=2", 503, 1_000_000),
            request(3, "/b", 404, 7_000_000),
            request(4, "/a", 200, 3_000_000),
        ];
        let rows = seen(TopOptions::default(), events.concat()).rows();
        let told = rows.iter().map(|row| {
            let TopRow { source, destination, method, path, count, .. } = row;
            let TopRow { best_ms, worst_ms, last_ms, success_rate, .. } = row;
            format!(
                "{source} {destination} {method} {path} {count} {best_ms} {worst_ms} {last_ms} \
                 {success_rate:.2}"
            )
        });
        insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @"
        web-1 10.0.0.2 GET /a 3 1 3 3 0.67
        web-1 10.0.0.2 GET /b 1 7 7 7 1.00
        ");
    }

    #[test]
    fn rows_are_of_routes_or_of_all_sources_where_so_asked() {
        let options = TopOptions { hide_sources: true, by_route: true };
        let events = [request(1, "/a", 200, 1), request(2, "/b", 200, 1)];
        let rows = seen(options, events.concat()).rows();
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((&*row.source, &*row.path, &*row.route, row.count), ("", "", "all", 2));
    }

    #[test]
    fn a_stream_that_broke_or_failed_in_its_trailers_is_no_success() {
        let mut broken = request(1, "/a", 200, 1);
        broken[2]["responseEndEvent"]["resetErrorCode"] = 8.into();
        let mut failed = request(2, "/a", 200, 1);
        failed[2]["responseEndEvent"]["grpcStatusCode"] = 14.into();
        let rows = seen(TopOptions::default(), [broken, failed].concat()).rows();
        assert_eq!((rows[0].count, rows[0].success_rate), (2, 0.0));
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let paths = (0..ROWS_MAX as u64 + 5).map(|n| request(n, &format!("/{n}"), 200, 1));
        let top = seen(TopOptions::default(), paths.flatten());
        assert_eq!((top.rows().len(), top.left_out()), (ROWS_MAX, 5));
        let begun = (0..PENDING_MAX as u64 + 5).map(|n| request(n, "/", 200, 1).remove(0));
        let top = seen(TopOptions::default(), begun);
        assert_eq!((top.pending.len(), top.left_out()), (PENDING_MAX, 5));
    }

    proptest! {
        /// Against the same sums, made at once.
        #[test]
        fn every_request_that_ended_is_counted_once(
            requests in prop::collection::vec((0_u8..4, 200_u64..600, 1_u64..1_000), 0..50),
        ) {
            let events: Vec<_> = requests.iter().enumerate().map(|(n, (path, status, ms))| {
                request(n as u64, &format!("/{path}"), *status, ms * 1_000_000)
            }).collect();
            // All begin before the first ends.
            let in_turn = (0..3).flat_map(|nth| events.iter().map(move |three| three[nth].clone()));
            let rows = seen(TopOptions::default(), in_turn.collect::<Vec<_>>()).rows();
            for row in &rows {
                let alike = requests.iter().filter(|(path, ..)| format!("/{path}") == row.path);
                let alike: Vec<_> = alike.collect();
                let good = alike.iter().filter(|(_, status, _)| *status < 500).count();
                let times = || alike.iter().map(|(.., ms)| *ms as f64);
                prop_assert_eq!(row.count as usize, alike.len());
                prop_assert!((row.success_rate - good as f64 / alike.len() as f64).abs() < 1e-9);
                prop_assert_eq!(row.best_ms, times().fold(f64::INFINITY, f64::min));
                prop_assert_eq!(row.worst_ms, times().fold(0.0, f64::max));
                prop_assert_eq!(Some(row.last_ms), times().next_back());
            }
            prop_assert_eq!(rows.iter().map(|row| row.count as usize).sum::<usize>(), requests.len());
        }

        #[test]
        fn no_event_makes_it_panic(id in any::<i64>(), text in ".*", nanos in any::<u64>()) {
            let mut top = Top::default();
            for name in ["requestInitEvent", "responseInitEvent", "responseEndEvent"] {
                top.see(&json!({name: {"id": {"base": 1, "stream": id}, "path": text,
                    "sinceRequestInit": {"seconds": nanos, "nanos": nanos}}}));
                top.see(&json!({name: text}));
            }
            top.rows();
        }
    }
}

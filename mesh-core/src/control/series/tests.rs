//! What is kept of scrapes, and what is answered from it.

use std::time::Duration;

use proptest::prelude::*;

use super::arithmetic::{increase, quantile};
use super::*;
use crate::control::query::{Matcher, Query, Row};

const MINUTE: Duration = Duration::from_secs(60);

fn target(pod: &str) -> Labels {
    Labels::from_iter([("namespace", "shop"), ("pod", pod), ("deployment", "web")])
}

fn series() -> Series {
    Series::new(Limits::default())
}

/// Scrapes every 10 s, each with these texts.
fn scraped<'a>(texts: impl IntoIterator<Item = &'a str>) -> Series {
    let mut series = series();
    for (nth, text) in texts.into_iter().enumerate() {
        series.record(&target("web-1"), 10_000 * nth as i64, text).unwrap();
    }
    series
}

fn total(series: &Series, at_ms: i64) -> Vec<(String, f64)> {
    let query = Query::increase("request_total", vec![], &["direction"], MINUTE);
    let rows = series.evaluate(&query, at_ms).into_iter();
    rows.map(|Row { mut labels, value }| (labels.remove(0), value)).collect()
}

#[test]
fn increases_are_summed_over_series_by_label() {
    let series = scraped([
        "request_total{direction=\"inbound\",a=\"1\"} 100\nrequest_total{direction=\"outbound\"} 50",
        "request_total{direction=\"inbound\",a=\"2\"} 100\nrequest_total{direction=\"inbound\",a=\"1\"} 110\nrequest_total{direction=\"outbound\"} 50",
        "request_total{direction=\"inbound\",a=\"2\"} 103\nrequest_total{direction=\"inbound\",a=\"1\"} 120\nrequest_total{direction=\"outbound\"} 50",
    ]);
    // The second begins inside of the window: half a step is extrapolated.
    let inbound = 20.0 * 25.0 / 20.0 + 3.0 * 15.0 / 10.0;
    assert_eq!(total(&series, 20_000), [("inbound".into(), inbound), ("outbound".into(), 0.0)]);
}

#[test]
fn families_that_nobody_asks_about_are_not_kept() {
    let series = scraped(["go_threads 1\nrequest_total 1\nrequest_totals 1"]);
    assert_eq!(series.usage().series, 1);
}

#[test]
fn a_text_with_a_fault_is_not_taken_at_all() {
    let mut series = series();
    let error = series.record(&target("a"), 0, "request_total 1\nrequest_total{a=} 1");
    assert_eq!(error.unwrap_err().line, 2);
    assert_eq!(series.usage(), Usage::default());
}

#[test]
fn what_is_no_more_is_not_the_last_value() {
    let query = Query::last("tcp_open_connections", vec![], &[]);
    let mut series = scraped(["tcp_open_connections 3", "tcp_open_connections 4"]);
    let last = |series: &Series, at| series.evaluate(&query, at).first().map(|row| row.value);
    assert_eq!(last(&series, 9_999), Some(3.0));
    assert_eq!(last(&series, 10_000), Some(4.0));
    assert_eq!(last(&series, 309_999), Some(4.0));
    assert_eq!(last(&series, 310_000), None, "too old");
    series.record_failure(&target("web-1"), 20_000);
    assert_eq!(last(&series, 19_999), Some(4.0));
    assert_eq!(last(&series, 20_000), None, "the target does not answer");
    series.record(&target("web-1"), 30_000, "tcp_open_connections 5").unwrap();
    assert_eq!(last(&series, 30_000), Some(5.0));
    series.end_others(&BTreeSet::new(), 40_000);
    assert_eq!(last(&series, 40_000), None, "there is no such target any more");
}

#[test]
fn labels_of_the_target_win() {
    let series = scraped(["tcp_open_connections{pod=\"x\",peer=\"src\"} 3"]);
    let query = Query::last("tcp_open_connections", vec![Matcher::is("peer", "src")], &["pod"]);
    assert_eq!(series.evaluate(&query, 0)[0].labels, ["web-1"]);
}

#[test]
fn buckets_of_one_histogram_are_one_set_wherever_their_bound_stands() {
    let series = scraped([concat!(
        "response_latency_ms_bucket{direction=\"inbound\",le=\"1\"} 1\n",
        "response_latency_ms_bucket{direction=\"inbound\",le=\"+Inf\"} 1\n",
        "response_latency_ms_bucket{le=\"5\",direction=\"inbound\"} 1\n",
        "response_latency_ms_bucket{direction=\"a,le=\",le=\"1\",x=\"y\"} 1\n",
    )]);
    let found = series.targets.values().next().unwrap();
    let sets: Vec<_> = found.sets_of("response_latency_ms_bucket").collect();
    let bounds = sets.iter().map(|set| set.tracks().map(|(le, _)| le).collect::<Vec<_>>());
    assert_eq!(bounds.collect::<Vec<_>>(), [vec!["1"], vec!["1", "+Inf", "5"]]);
    assert_eq!(sets[0].label("direction"), "a,le=");
}

#[test]
fn series_beyond_the_bound_are_left_out_and_counted() {
    let mut series = Series::new(Limits { series_max: 3, ..Limits::default() });
    let text = |n: usize| -> String {
        (0..n).map(|n| format!("request_total{{n=\"{n}\"}} 1\n")).collect()
    };
    series.record(&target("a"), 0, &text(2)).unwrap();
    series.record(&target("b"), 0, &text(4)).unwrap();
    let usage = series.usage();
    assert_eq!((usage.series, usage.refused), (3, 3));
    // What is known goes on.
    series.record(&target("a"), 10_000, &text(2)).unwrap();
    assert_eq!(series.usage().series, 3);
    let mut series = Series::new(Limits { bytes_max: 1_000, ..Limits::default() });
    series.record(&target("a"), 0, &text(100)).unwrap();
    assert!(series.usage().bytes < 2_000, "{:?}", series.usage());
    assert!(series.usage().refused > 80);
}

#[test]
fn what_is_older_than_the_window_is_forgotten() {
    let limits = Limits { window: MINUTE, ..Limits::default() };
    let mut series = Series::new(limits);
    for nth in 0..100_i64 {
        let text = format!("request_total {nth}\nrequest_total{{old=\"{}\"}} 1", nth / 50);
        series.record(&target("a"), nth * 10_000, &text).unwrap();
    }
    let usage = series.usage();
    assert_eq!(usage.series, 2);
    assert!(usage.bytes < 1_000, "{usage:?}");
    series.sweep(990_000 + 60_001);
    assert_eq!(series.usage(), Usage::default());
    assert!(series.texts.is_empty());
}

#[test]
fn no_target_keeps_more_scrapes_than_it_may() {
    let mut series = Series::new(Limits { scrapes_max: 5, ..Limits::default() });
    for nth in 0..50 {
        series.record(&target("a"), nth, &format!("request_total {nth}")).unwrap();
    }
    assert!(series.usage().bytes < 400, "{:?}", series.usage());
}

#[test]
fn a_clock_that_goes_back_does_no_harm() {
    let mut series = scraped(["request_total 1", "request_total 2"]);
    series.record(&target("web-1"), 0, "request_total 3").unwrap();
    let query = Query::last("request_total", vec![], &[]);
    assert_eq!(series.evaluate(&query, 10_001)[0].value, 3.0);
}

#[test]
fn ranges_have_a_point_for_each_step() {
    let texts: Vec<_> = (0..7).map(|n| format!("request_total{{a=\"b\"}} {}", 10 * n)).collect();
    let series = scraped(texts.iter().map(String::as_str));
    let query = Query::increase("request_total", vec![], &["a"], Duration::from_secs(20));
    let rows = series.evaluate_range(&query, 20_000, 60_000, 20_000);
    let values: Vec<_> = rows[0].points.iter().map(|(at, value)| (*at, value.round())).collect();
    assert_eq!(values, [(20_000, 20.0), (40_000, 20.0), (60_000, 20.0)]);
}

/// What a target says in one scrape: nothing at all, or values of some of four series.
fn any_scrapes() -> impl Strategy<Value = Vec<Option<[Option<u8>; 4]>>> {
    let scrape = prop::option::weighted(0.9, [0; 4].map(|_| prop::option::weighted(0.8, 0_u8..4)));
    prop::collection::vec(scrape, 0..40)
}

proptest! {
    /// The store against samples written down one by one.
    #[test]
    fn what_is_answered_is_what_was_scraped(
        scrapes in any_scrapes(), at in 0_i64..400, window in 1_i64..30,
    ) {
        let limits = Limits { window: Duration::from_secs(300), ..Limits::default() };
        let (mut series, target) = (Series::new(limits), target("a"));
        let mut naive: [Vec<(i64, Option<f64>)>; 4] = Default::default();
        let mut has_begun = false;
        for (nth, scrape) in scrapes.iter().enumerate() {
            let at_ms = nth as i64 * 10_000;
            match scrape {
                None => series.record_failure(&target, at_ms),
                Some(values) => {
                    has_begun = true;
                    let lines = values.iter().enumerate().filter_map(|(i, value)| {
                        Some(format!("request_total{{i=\"{i}\"}} {}\n", (*value)?))
                    });
                    series.record(&target, at_ms, &lines.collect::<String>()).unwrap();
                }
            }
            for (i, samples) in naive.iter_mut().enumerate().filter(|_| has_begun) {
                samples.push((at_ms, scrape.and_then(|values| values[i]).map(f64::from)));
            }
        }
        let newest = (scrapes.len() as i64 - 1) * 10_000;
        let (at_ms, window_ms) = (newest - 300_000 + at * 1_000, window * 10_000 + 1);
        // Only what the window still has can be asked for.
        prop_assume!(at_ms - window_ms >= newest - 300_000);
        for (i, samples) in naive.iter().enumerate() {
            let matchers = vec![Matcher::is("i", i.to_string())];
            let window = Duration::from_millis(window_ms as u64);
            let query = Query::increase("request_total", matchers.clone(), &[], window);
            let in_window = samples.iter().filter(|(t, _)| (at_ms - window_ms + 1..=at_ms).contains(t));
            let points: Vec<_> = in_window.filter_map(|(t, value)| Some((*t, (*value)?))).collect();
            let expected = increase(points, at_ms, window_ms);
            let found = series.evaluate(&query, at_ms).first().map(|row| row.value);
            prop_assert_eq!(found, expected);
            let last = samples.iter().rfind(|(t, _)| *t <= at_ms && at_ms - t < 300_000);
            let query = Query::last("request_total", matchers, &[]);
            let found = series.evaluate(&query, at_ms).first().map(|row| row.value);
            prop_assert_eq!(found, last.and_then(|(_, value)| *value));
        }
    }

    #[test]
    fn usage_is_what_is_kept(scrapes in any_scrapes()) {
        let mut series = series();
        for (nth, scrape) in scrapes.iter().enumerate() {
            let lines = scrape.iter().flatten().enumerate().filter_map(|(i, value)| {
                Some(format!("request_total{{i=\"{i}\"}} {}\n", (*value)?))
            });
            let target = target(["a", "b"][nth % 2]);
            series.record(&target, nth as i64 * 10_000, &lines.collect::<String>()).unwrap();
        }
        let before = series.usage();
        series.sweep(scrapes.len() as i64 * 10_000 - 10_000);
        prop_assert_eq!(before, series.usage());
    }

    #[test]
    fn no_text_makes_it_panic(text in "(request_total|response_latency_ms_bucket)?[a-z{}\"\\\\=,# \n0-9.]*") {
        let mut series = series();
        let _ = series.record(&target("a"), 0, &text);
        let _ = series.record(&target("a"), 10_000, &text);
        series.evaluate(&Query::quantile(0.5, "response_latency_ms_bucket", vec![], &[], MINUTE), 10_000);
        let _ = quantile(0.5, Vec::new());
    }
}

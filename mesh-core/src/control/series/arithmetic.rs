//! Prometheus' arithmetic: what a window of samples says of a counter, and cumulative buckets of a
//! quantile. Pure; held against a real Prometheus by `runtime-real/tests/prometheus.rs`.

/// A sample: milliseconds since 1970, and a value.
pub type Point = (i64, f64);

/// By how much a counter grew in the window that ends at `end_ms`, as Prometheus' `increase()` has
/// it: a fall is a restart from zero, and what was seen is extrapolated to the window's ends, but not
/// to before the counter was zero. None below two samples. Of a series that begins inside of the
/// window with less than it grows by in a step, Prometheus 2.42 estimates a little more; later ones
/// do not.
///
/// `points`: those in the window, in order of time.
pub fn increase(
    points: impl IntoIterator<Item = Point>,
    end_ms: i64,
    window_ms: i64,
) -> Option<f64> {
    let mut points = points.into_iter();
    let first = points.next()?;
    let (mut last, mut count, mut lost) = (first, 1_u32, 0.0);
    for point in points {
        if point.1 < last.1 {
            lost += last.1;
        }
        last = point;
        count += 1;
    }
    if count < 2 || last.0 <= first.0 {
        return None;
    }
    let grown = last.1 - first.1 + lost;
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let sampled = seconds(last.0 - first.0);
    let between = sampled / f64::from(count - 1);
    // A gap much longer than that between samples: the series began or ended inside the window.
    let threshold = between * 1.1;
    let mut to_start = seconds(first.0 - (end_ms - window_ms));
    if to_start >= threshold {
        to_start = between / 2.0;
    }
    if grown > 0.0 && first.1 >= 0.0 {
        to_start = to_start.min(sampled * (first.1 / grown));
    }
    let mut to_end = seconds(end_ms - last.0);
    if to_end >= threshold {
        to_end = between / 2.0;
    }
    Some(grown * ((sampled + to_start + to_end) / sampled))
}

/// A quantile of a histogram, as Prometheus' `histogram_quantile()` has it: linear inside a bucket,
/// from zero in the first, and the last finite bound in the last. None where it says NaN.
///
/// `buckets`: bounds with cumulative counts, in any order.
pub fn quantile(share: f64, mut buckets: Vec<(f64, f64)>) -> Option<f64> {
    buckets.retain(|(bound, _)| !bound.is_nan());
    buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    buckets.dedup_by(|next, kept| {
        let is_same = next.0 == kept.0;
        if is_same {
            kept.1 += next.1;
        }
        is_same
    });
    let (highest, _) = *buckets.last()?;
    if highest != f64::INFINITY || buckets.len() < 2 {
        return None;
    }
    // Scrapes of several targets are not of one moment.
    let mut most = buckets[0].1;
    for (_, count) in &mut buckets {
        most = count.max(most);
        *count = most;
    }
    if most == 0.0 || most.is_nan() {
        return None;
    }
    let rank = share * most;
    let finite = &buckets[..buckets.len() - 1];
    let Some(found) = finite.iter().position(|(_, count)| *count >= rank) else {
        return finite.last().map(|(bound, _)| *bound);
    };
    let (end, count) = finite[found];
    if found == 0 && end <= 0.0 {
        return Some(end);
    }
    let (start, below) = if found == 0 { (0.0, 0.0) } else { finite[found - 1] };
    let value = start + (end - start) * ((rank - below) / (count - below));
    (!value.is_nan()).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
    }

    #[test]
    fn growth_is_extrapolated_to_the_ends_of_the_window() {
        // Every 10 s by 10, from 5 s to 55 s: 50 seen in 50 s of 60.
        let points = (0..6).map(|n| (5_000 + 10_000 * n, 1000.0 + 10.0 * n as f64));
        assert!(close(increase(points, 60_000, 60_000).unwrap(), 60.0));
    }

    #[test]
    fn a_fall_is_a_restart_from_zero() {
        let points = [(0, 100.0), (10_000, 110.0), (20_000, 5.0), (30_000, 15.0)];
        assert!(close(increase(points, 30_000, 30_000).unwrap(), 25.0));
    }

    #[test]
    fn growth_is_not_extrapolated_to_before_the_counter_was_zero() {
        let points = [(10_000, 0.0), (20_000, 10.0), (30_000, 20.0)];
        assert!(close(increase(points, 30_000, 30_000).unwrap(), 20.0));
    }

    #[test]
    fn a_series_that_ended_long_ago_is_extrapolated_by_half_a_step() {
        let points = [(0, 100.0), (10_000, 110.0), (20_000, 120.0)];
        assert!(close(increase(points, 60_000, 60_000).unwrap(), 25.0));
    }

    #[test]
    fn one_sample_says_nothing() {
        assert_eq!(increase([(0, 1.0)], 0, 60_000), None);
        assert_eq!(increase([], 0, 60_000), None);
    }

    #[test]
    fn quantiles_are_linear_inside_their_bucket() {
        let buckets = vec![(10.0, 50.0), (1.0, 0.0), (f64::INFINITY, 100.0), (20.0, 90.0)];
        let quantile = |share| quantile(share, buckets.clone()).unwrap();
        assert!(close(quantile(0.25), 5.5));
        assert!(close(quantile(0.5), 10.0));
        assert!(close(quantile(0.7), 15.0));
        assert_eq!(quantile(0.99), 20.0, "the last finite bound");
    }

    #[test]
    fn a_histogram_without_observations_or_without_an_end_has_no_quantile() {
        assert_eq!(quantile(0.5, vec![(1.0, 0.0), (f64::INFINITY, 0.0)]), None);
        assert_eq!(quantile(0.5, vec![(1.0, 1.0), (2.0, 2.0)]), None);
        assert_eq!(quantile(0.5, vec![(f64::INFINITY, 2.0)]), None);
        assert_eq!(quantile(0.5, Vec::new()), None);
    }

    proptest! {
        #[test]
        fn a_steady_counter_grows_by_its_rate(
            start in 1_000_u32..1_000_000, step in 1_u32..100, n in 3_i64..60, offset in 1_i64..9_999,
        ) {
            let window = 10_000 * n;
            let (start, step) = (f64::from(start) * 1e3, f64::from(step));
            let points = (0..n).map(|i| (offset + 10_000 * i, start + step * i as f64));
            let grown = increase(points, window, window).unwrap();
            prop_assert!(close(grown, step * n as f64), "{} of {}", grown, step * n as f64);
        }

        #[test]
        fn growth_is_never_below_zero(values in proptest::collection::vec(0.0..1e6_f64, 2..30)) {
            let points = values.iter().enumerate().map(|(i, value)| (i as i64 * 10_000, *value));
            prop_assert!(increase(points, 300_000, 300_000).unwrap() >= 0.0);
        }

        #[test]
        fn quantiles_grow_with_their_share_and_stay_within_bounds(
            counts in proptest::collection::vec(0.0..100.0_f64, 1..10), a in 0.0..1.0_f64, b in 0.0..1.0_f64,
        ) {
            let mut sum = 0.0;
            let mut buckets: Vec<_> = counts.iter().enumerate().map(|(i, count)| {
                sum += count;
                (f64::from(1_u32 << i), sum)
            }).collect();
            let highest = buckets.last().unwrap().0;
            buckets.push((f64::INFINITY, sum + 1.0));
            let (low, high) = (a.min(b), a.max(b));
            if let (Some(low), Some(high)) = (quantile(low, buckets.clone()), quantile(high, buckets)) {
                prop_assert!(low <= high + 1e-9, "{} {}", low, high);
                prop_assert!((0.0..=highest).contains(&low));
            }
        }
    }
}

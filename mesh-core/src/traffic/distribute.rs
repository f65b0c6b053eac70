//! Chooses the backend of a rule. Knows no balancer: whether a backend could take a request now is
//! asked of the caller.
//!
//! Linkerd's deviation from Gateway API is kept: weights count among the backends that are
//! available, so a split shifts to those that work.
//!
//! Law: a backend of weight 0 is never chosen.

use std::sync::Arc;

use crate::model::client_policy::{Backend, Distribution, RouteBackend};

/// The backend to use, by `random`, which must be uniform over all of `u64`.
///
/// Where none is available the choice is made as if all were: the request then waits in that
/// backend's queue until the backend comes back or fails fast. `None` where there is no backend
/// that may be used at all.
pub fn choose<F>(
    distribution: &Distribution<F>,
    random: u64,
    available: impl Fn(&Arc<Backend>) -> bool,
) -> Option<&RouteBackend<F>> {
    match distribution {
        Distribution::Empty => None,
        // Available or not, it is the one.
        Distribution::FirstAvailable(backends) if backends.len() == 1 => backends.first(),
        Distribution::FirstAvailable(backends) => {
            backends.iter().find(|backend| available(&backend.backend)).or(backends.first())
        }
        Distribution::RandomAvailable(backends) => {
            let weighted = || backends.iter().map(|b| (b.weight, &b.backend));
            if let [only] = backends.as_slice() {
                return (only.weight > 0).then_some(&only.backend);
            }
            by_weight(weighted().filter(|(_, b)| available(&b.backend)), random)
                .or_else(|| by_weight(weighted(), random))
        }
    }
}

/// One of them, in proportion to its weight. `None` where the weights are all 0.
fn by_weight<'d, F>(
    backends: impl Iterator<Item = (u32, &'d RouteBackend<F>)> + Clone,
    random: u64,
) -> Option<&'d RouteBackend<F>> {
    let total: u64 = backends.clone().map(|(weight, _)| u64::from(weight)).sum();
    // Scales `random` to 0..total without the bias of a remainder.
    let mut point = ((u128::from(random) * u128::from(total)) >> 64) as u64;
    let mut last = None;
    for (weight, backend) in backends.filter(|(weight, _)| *weight > 0) {
        if point < u64::from(weight) {
            return Some(backend);
        }
        point -= u64::from(weight);
        // Availability may change between the two passes; the last that is left takes the rest.
        last = Some(backend);
    }
    last
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::model::client_policy::{Dispatcher, Queue, WeightedBackend};
    use crate::model::metadata::Metadata;

    fn backend(name: &str) -> RouteBackend<()> {
        RouteBackend {
            backend: Arc::new(Backend {
                metadata: Metadata::new_default(name),
                queue: Queue { capacity: 1, failfast_timeout: Duration::from_secs(3) },
                dispatcher: Dispatcher::Fail,
            }),
            filters: vec![],
            request_timeout: None,
        }
    }

    fn random(weights: &[u32]) -> Distribution<()> {
        let weighted = |(at, &weight): (usize, &u32)| WeightedBackend {
            backend: backend(&at.to_string()),
            weight,
        };
        Distribution::RandomAvailable(weights.iter().enumerate().map(weighted).collect())
    }

    fn name(chosen: Option<&RouteBackend<()>>) -> Option<usize> {
        chosen.map(|b| b.backend.metadata.name().parse().unwrap())
    }

    #[test]
    fn the_first_available_is_used_or_else_the_first() {
        let backends = Distribution::FirstAvailable(vec![backend("0"), backend("1")]);
        assert_eq!(name(choose(&backends, 0, |_| true)), Some(0));
        assert_eq!(name(choose(&backends, 0, |b| b.metadata.name() == "1")), Some(1));
        assert_eq!(name(choose(&backends, 0, |_| false)), Some(0));
        assert_eq!(name(choose(&Distribution::Empty, 0, |_| true)), None);
    }

    #[test]
    fn weights_are_shares() {
        let backends = random(&[1, 0, 3]);
        let share = |at: u64| name(choose(&backends, at << 62, |_| true)).unwrap();
        assert_eq!([share(0), share(1), share(2), share(3)], [0, 2, 2, 2]);
        assert_eq!(name(choose(&backends, u64::MAX, |_| true)), Some(2));
    }

    #[test]
    fn unavailable_backends_give_their_share_to_the_others() {
        let backends = random(&[90, 10]);
        for at in 0..4 {
            let chosen = choose(&backends, at << 62, |b| b.metadata.name() == "1");
            assert_eq!(name(chosen), Some(1));
        }
    }

    #[test]
    fn where_none_is_available_one_is_chosen_to_wait_for() {
        assert_eq!(name(choose(&random(&[1, 1]), 0, |_| false)), Some(0));
        assert_eq!(name(choose(&random(&[1]), 0, |_| false)), Some(0));
        assert_eq!(name(choose(&random(&[0, 0]), 0, |_| true)), None);
        assert_eq!(name(choose(&random(&[0]), 0, |_| true)), None);
        assert_eq!(name(choose(&random(&[]), 0, |_| true)), None);
    }

    proptest! {
        #[test]
        fn the_chosen_backend_has_weight_and_is_available_if_one_is(
            weights in prop::collection::vec(prop_oneof![Just(0), 0u32..5, any::<u32>()], 0..6),
            up in any::<u8>(),
            draw in any::<u64>(),
        ) {
            let is_up = |at: usize| up >> at & 1 == 1;
            let backends = random(&weights);
            let chosen = choose(&backends, draw, |b| is_up(b.metadata.name().parse().unwrap()));
            let usable = |at: &usize| weights[*at] > 0;
            match name(chosen) {
                None => prop_assert!(weights.iter().all(|w| *w == 0)),
                Some(at) => {
                    prop_assert!(usable(&at));
                    let some_up = (0..weights.len()).any(|at| usable(&at) && is_up(at));
                    prop_assert!(is_up(at) || !some_up);
                }
            }
        }

        /// Of evenly spread draws each backend that is available gets its weight's share, to a draw.
        #[test]
        fn shares_are_weights_among_the_available(
            weights in prop::collection::vec(0u32..100, 2..6),
            up in any::<u8>(),
        ) {
            const DRAWS: u64 = 1_000;
            let is_up = |at: usize| up >> at & 1 == 1;
            let total: u32 =
                weights.iter().enumerate().filter(|(at, _)| is_up(*at)).map(|(_, w)| w).sum();
            prop_assume!(total > 0);
            let backends = random(&weights);
            let mut chosen = vec![0_u32; weights.len()];
            for draw in 0..DRAWS {
                let draw = u64::MAX / DRAWS * draw;
                let available = |b: &Arc<Backend>| is_up(b.metadata.name().parse().unwrap());
                chosen[name(choose(&backends, draw, available)).unwrap()] += 1;
            }
            for (at, count) in chosen.iter().enumerate() {
                let weight = if is_up(at) { f64::from(weights[at]) } else { 0.0 };
                let fair = weight / f64::from(total) * DRAWS as f64;
                prop_assert!((f64::from(*count) - fair).abs() <= 2.0, "{chosen:?} of {weights:?}");
            }
        }

        #[test]
        fn of_an_order_the_first_available_is_chosen_whatever_is_drawn(
            count in 0usize..6,
            up in any::<u8>(),
            draw in any::<u64>(),
        ) {
            let is_up = |at: usize| up >> at & 1 == 1;
            let backends =
                Distribution::FirstAvailable((0..count).map(|at| backend(&at.to_string())).collect());
            let chosen =
                name(choose(&backends, draw, |b| is_up(b.metadata.name().parse().unwrap())));
            let first = (0..count).find(|at| is_up(*at)).or((count > 0).then_some(0));
            prop_assert_eq!(chosen, first);
        }
    }
}

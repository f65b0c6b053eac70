//! Power of two choices: draws two at random and takes the less loaded. Knows only indices.
//!
//! Law: what is excluded is chosen only where everything is.

/// What was drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// The less loaded.
    pub chosen: usize,
    /// The other, where there was one.
    pub passed_over: Option<usize>,
}

/// Picks one of `0..len`, none of `excluded` unless that leaves none. `excluded` is in ascending
/// order, without duplicates, below `len`. `random` is uniform over all of `u64`; of equal loads
/// the first drawn wins. `None` where `len` is 0.
///
/// Calls `load` at most twice and never allocates.
pub fn pick(
    len: usize,
    excluded: &[usize],
    random: u64,
    load: impl Fn(usize) -> f64,
) -> Option<Pick> {
    let excluded = if excluded.len() < len { excluded } else { &[] };
    // Sets are far smaller than the 2^32 values of each draw, so that the bias is negligible.
    let scale = |draw: u64, below: usize| ((draw * below as u64) >> 32) as usize;
    let (first, second) = (random >> 32, random & 0xffff_ffff);
    let count = len - excluded.len();
    if count <= 1 || planted!("draws-ignored") {
        return (count >= 1).then(|| Pick { chosen: nth(0, excluded), passed_over: None });
    }
    let first = scale(first, count);
    let second = scale(second, count - 1);
    let second = second + usize::from(second >= first);
    let (first, second) = (nth(first, excluded), nth(second, excluded));
    let (chosen, other) =
        if load(second) < load(first) { (second, first) } else { (first, second) };
    Some(Pick { chosen, passed_over: Some(other) })
}

/// Picks among the indices that are `eligible`; `None` where none is. For conditions that change
/// by themselves, such as whether an endpoint is reachable; otherwise as [`pick`].
///
/// Asks of few indices where most are eligible, of all where few are.
pub fn pick_where(
    len: usize,
    random: u64,
    eligible: impl Fn(usize) -> bool,
    load: impl Fn(usize) -> f64,
) -> Option<Pick> {
    let drawn = pick(len, &[], random, &load)?;
    if eligible(drawn.chosen) && drawn.passed_over.is_none_or(&eligible) {
        return Some(drawn);
    }
    let ineligible: Vec<usize> = (0..len).filter(|&at| !eligible(at)).collect();
    if ineligible.len() == len {
        return None;
    }
    // Another draw: this one is known to have hit what is not eligible.
    let again = (random ^ random >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    pick(len, &ineligible, again ^ again >> 32, load)
}

/// The index of the `rank`-th that is not excluded.
fn nth(rank: usize, excluded: &[usize]) -> usize {
    excluded.iter().fold(rank, |at, &hole| at + usize::from(hole <= at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_less_loaded_of_two_is_chosen() {
        for random in (0..64).map(|i| i << 58 | (i * 77) << 20) {
            let pick = pick(2, &[], random, |at| [2.0, 1.0][at]).unwrap();
            assert_eq!((pick.chosen, pick.passed_over), (1, Some(0)));
        }
    }

    #[test]
    fn few_endpoints_need_no_drawing() {
        assert_eq!(pick(0, &[], 7, |_| 0.0), None);
        let only = |at| Pick { chosen: at, passed_over: None };
        assert_eq!(pick(1, &[], u64::MAX, |_| 0.0), Some(only(0)));
        assert_eq!(pick(1, &[0], u64::MAX, |_| 0.0), Some(only(0)));
        assert_eq!(pick(3, &[0, 1], u64::MAX, |_| 0.0), Some(only(2)));
    }

    #[test]
    fn the_eligible_are_drawn_alike() {
        let mut chosen = [0; 6];
        let mut random = 1u64;
        for _ in 0..6_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(0x1357_9bdf);
            let mixed = random ^ random >> 32;
            let pick = pick_where(6, mixed, |at| at % 2 == 1, |_| 0.0).unwrap();
            chosen[pick.chosen] += 1;
        }
        for at in [1, 3, 5] {
            assert!((1_800..2_200).contains(&chosen[at]), "{chosen:?}");
        }
    }

    proptest! {
        #[test]
        fn the_excluded_is_chosen_only_where_everything_is(
            len in 1usize..8,
            holes in any::<u8>(),
            random in any::<u64>(),
            loads in prop::collection::vec(0u8..4, 8),
        ) {
            let excluded: Vec<_> = (0..len).filter(|at| holes >> at & 1 == 1).collect();
            let pick = pick(len, &excluded, random, |at| f64::from(loads[at])).unwrap();
            prop_assert!(pick.chosen < len);
            prop_assert!(excluded.len() == len || !excluded.contains(&pick.chosen));
            if let Some(other) = pick.passed_over {
                prop_assert!(other != pick.chosen && other < len);
                prop_assert!(loads[pick.chosen] <= loads[other]);
                prop_assert!(excluded.len() == len || !excluded.contains(&other));
            }
        }

        #[test]
        fn only_the_eligible_are_picked(
            len in 0usize..8,
            up in any::<u8>(),
            random in any::<u64>(),
            loads in prop::collection::vec(0u8..4, 8),
        ) {
            let eligible = |at: usize| up >> at & 1 == 1;
            let pick = pick_where(len, random, eligible, |at| f64::from(loads[at]));
            prop_assert_eq!(pick.is_some(), (0..len).any(eligible));
            if let Some(pick) = pick {
                prop_assert!(pick.chosen < len && eligible(pick.chosen));
                prop_assert!(pick.passed_over.is_none_or(|at| at < len && eligible(at)));
                prop_assert!(pick.passed_over != Some(pick.chosen));
            }
        }

        #[test]
        fn all_are_drawn(len in 2usize..6) {
            let mut chosen = vec![0; len];
            let mut random = 1u64;
            for _ in 0..200 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                chosen[pick(len, &[], random, |_| 0.0).unwrap().chosen] += 1;
            }
            prop_assert!(chosen.iter().all(|n| *n > 10), "{chosen:?}");
        }

        /// The most loaded, where it is alone in that, is never the choice between two.
        #[test]
        fn the_most_loaded_never_wins(
            loads in prop::collection::vec(0u32..1_000, 2..8),
            random in any::<u64>(),
        ) {
            let max = *loads.iter().max().unwrap();
            prop_assume!(loads.iter().filter(|load| **load == max).count() == 1);
            let pick = pick(loads.len(), &[], random, |at| f64::from(loads[at])).unwrap();
            prop_assert!(loads[pick.chosen] < max);
            prop_assert!(pick.passed_over.is_some());
        }
    }
}

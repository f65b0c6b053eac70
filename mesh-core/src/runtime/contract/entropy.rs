//! Facts about randomness.

use std::collections::BTreeSet;

use super::{Bed, declare_cases};

declare_cases! { "entropy";
    draws_differ,
    hosts_draw_differently,
    every_length_is_filled,
}

async fn draws_differ(bed: Bed) {
    let draws: BTreeSet<_> = (0..64).map(|_| bed.near.runtime.entropy.next_u64()).collect();
    assert_eq!(draws.len(), 64);
}

async fn hosts_draw_differently(bed: Bed) {
    let entropy = bed.far.runtime.entropy.clone();
    let far = bed.far.run(async move { entropy.next_u64() }).await;
    assert_ne!(far, bed.near.runtime.entropy.next_u64());
}

async fn every_length_is_filled(bed: Bed) {
    bed.near.runtime.entropy.fill(&mut []);
    for length in [1, 7, 8, 33, 4_096] {
        // A byte that is zero in each of 32 draws was never written.
        let mut union = vec![0u8; length];
        for _ in 0..32 {
            let mut draw = vec![0; length];
            bed.near.runtime.entropy.fill(&mut draw);
            union.iter_mut().zip(draw).for_each(|(all, one)| *all |= one);
        }
        assert!(union.iter().all(|byte| *byte != 0), "of {length} bytes");
    }
}

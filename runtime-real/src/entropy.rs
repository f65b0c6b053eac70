//! The door to randomness: AWS-LC's generator for keys, a fast counter-based one for balancing.

use std::sync::atomic::{AtomicU64, Ordering};

use mesh_core::runtime::Entropy;

/// The system's randomness. Balancing draws from splitmix64, seeded from the system per process.
#[derive(Debug)]
pub struct SystemEntropy {
    /// Splitmix64's state is a counter, so threads share it without a lock.
    counter: AtomicU64,
}

impl SystemEntropy {
    /// Seeds the fast generator.
    ///
    /// # Panics
    /// Where the system gives no randomness: nothing in a mesh is safe without.
    #[allow(clippy::new_without_default)] // Making one asks the system; it is not a default value.
    pub fn new() -> Self {
        let mut seed = [0; 8];
        fill(&mut seed);
        Self { counter: AtomicU64::new(u64::from_le_bytes(seed)) }
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        fill(buffer);
    }

    fn next_u64(&self) -> u64 {
        const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        let state =
            self.counter.fetch_add(GOLDEN_GAMMA, Ordering::Relaxed).wrapping_add(GOLDEN_GAMMA);
        splitmix64(state)
    }
}

fn fill(buffer: &mut [u8]) {
    aws_lc_rs::rand::fill(buffer).expect("the system gives randomness");
}

/// The output function of splitmix64 (Steele, Lea, Flood 2014, with Stafford's mix 13).
fn splitmix64(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_generator_is_splitmix64() {
        // The first outputs of the reference implementation seeded with 1234567.
        let entropy = SystemEntropy { counter: AtomicU64::new(1_234_567) };
        assert_eq!(entropy.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(entropy.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn two_processes_draw_different_numbers() {
        assert_ne!(SystemEntropy::new().next_u64(), SystemEntropy::new().next_u64());
    }
}

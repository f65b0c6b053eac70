//! Streams of random numbers: one per seed, host and purpose, so that a draw for one never shifts
//! another.

use std::sync::Mutex;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

use mesh_core::runtime::Entropy;

use crate::lock;

/// A stream that is owned.
#[derive(Clone, Debug)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// The stream of a seed, host and purpose: keyed with `SHA-256(seed/host/purpose)`.
    pub fn new(seed: u64, host: &str, purpose: &str) -> Self {
        let key = Sha256::digest(format!("{seed}/{host}/{purpose}"));
        Self(ChaCha8Rng::from_seed(key.into()))
    }

    /// Fills `buffer`.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        self.0.fill_bytes(buffer);
    }

    /// A number from the whole range.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`, which is not zero. The bias of the remainder is below 2^-32 for
    /// the bounds in use.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next_u64() % bound as u64) as usize
    }

    /// A number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number of the standard normal distribution, to within 6 sigma: twelve uniform numbers'
    /// sum, which needs no function whose last digit differs between machines.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

/// A stream that is shared.
#[derive(Debug)]
pub struct SharedRandom(Mutex<Random>);

impl SharedRandom {
    /// The stream of a seed, host and purpose.
    pub fn new(seed: u64, host: &str, purpose: &str) -> Self {
        Self(Mutex::new(Random::new(seed, host, purpose)))
    }
}

impl Entropy for SharedRandom {
    fn fill(&self, buffer: &mut [u8]) {
        lock(&self.0).fill(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_functions_of_seed_host_and_purpose() {
        let draw = |seed, host, purpose| Random::new(seed, host, purpose).next_u64();
        assert_eq!(draw(1, "a", "x"), draw(1, "a", "x"));
        let others = [draw(2, "a", "x"), draw(1, "b", "x"), draw(1, "a", "y")];
        assert!(!others.contains(&draw(1, "a", "x")));
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_variance_one() {
        let mut random = Random::new(7, "", "");
        let draws: Vec<_> = (0..20_000).map(|_| random.normal()).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / draws.len() as f64;
        assert!(mean.abs() < 0.03, "{mean}");
        assert!((variance - 1.0).abs() < 0.03, "{variance}");
    }
}

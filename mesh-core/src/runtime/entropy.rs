//! The door to randomness.

/// Random numbers: unpredictable in production, a function of the seed in a simulation.
pub trait Entropy: Send + Sync {
    /// Fills `buffer` with uniformly random bytes fit for keys and nonces.
    fn fill(&self, buffer: &mut [u8]);

    /// A uniformly random number for balancing and jitter; need not be fit for secrets.
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

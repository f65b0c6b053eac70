//! What a simulated host has beside clock, tasks and network. It outlives the host's processes.

use std::sync::Arc;

use crate::crypto::SeededCrypto;
use crate::files::MemoryFiles;
use crate::random::SharedRandom;

pub(crate) struct Outfit {
    pub(crate) entropy: Arc<SharedRandom>,
    pub(crate) crypto: Arc<SeededCrypto>,
    pub(crate) files: MemoryFiles,
}

impl Outfit {
    pub(crate) fn new(seed: u64, host: &str) -> Self {
        Self {
            entropy: Arc::new(SharedRandom::new(seed, host, "entropy")),
            crypto: Arc::new(SeededCrypto::new(seed, host)),
            files: MemoryFiles::default(),
        }
    }
}

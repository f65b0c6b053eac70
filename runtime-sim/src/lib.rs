//! The doors on simulated networks: a discrete-event engine and turmoil.

//! See `fuzz::control::csr`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::control::csr(input));

//! See `fuzz::detect::tls`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::detect::tls(input));

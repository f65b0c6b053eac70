//! See `fuzz::api::profile`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::api::profile(input));

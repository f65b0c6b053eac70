//! See `fuzz::scrape::record`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::scrape::record(input));

//! See `fuzz::scenario::read`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::scenario::read(input));

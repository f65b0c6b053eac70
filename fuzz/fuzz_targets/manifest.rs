//! See `fuzz::manifest::read`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::manifest::read(input));

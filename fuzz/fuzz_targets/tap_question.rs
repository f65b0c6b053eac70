//! See `fuzz::tap::question`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::tap::question(input));

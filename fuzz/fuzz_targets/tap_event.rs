//! See `fuzz::tap::event`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::tap::event(input));

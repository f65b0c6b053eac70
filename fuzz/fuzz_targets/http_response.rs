//! See `fuzz::pipeline::response`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::pipeline::response(input));

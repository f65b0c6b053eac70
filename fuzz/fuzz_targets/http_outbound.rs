//! See `fuzz::pipeline::outbound`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::pipeline::outbound(input));

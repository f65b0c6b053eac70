//! See `fuzz::pipeline::http2_client`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::pipeline::http2_client(input));

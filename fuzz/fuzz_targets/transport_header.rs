//! See `fuzz::transport_header::read`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::transport_header::read(input));

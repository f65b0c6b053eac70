//! See `fuzz::tls::certificate`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::tls::certificate(input));

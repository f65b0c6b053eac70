//! See `fuzz::api::server_policy`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::api::server_policy(input));

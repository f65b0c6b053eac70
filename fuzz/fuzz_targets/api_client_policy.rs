//! See `fuzz::api::client_policy`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::api::client_policy(input));

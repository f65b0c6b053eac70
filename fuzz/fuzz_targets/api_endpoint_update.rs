//! See `fuzz::api::endpoint_update`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::api::endpoint_update(input));

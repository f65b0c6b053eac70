//! See `fuzz::trace_context::read`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::trace_context::read(input));

//! Feeds libFuzzer's inputs to `routes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ringfence_fuzz::run("routes", input));

//! Feeds libFuzzer's inputs to `scim`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ringfence_fuzz::run("scim", input));

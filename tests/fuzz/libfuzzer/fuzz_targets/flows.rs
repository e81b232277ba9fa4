//! Feeds libFuzzer's inputs to `flows`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ringfence_fuzz::run("flows", input));

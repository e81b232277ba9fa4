//! Feeds libFuzzer's inputs to `enrollment`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ringfence_fuzz::run("enrollment", input));

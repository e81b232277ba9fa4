//! Feeds libFuzzer's inputs to `rest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ringfence_fuzz::run("rest", input));

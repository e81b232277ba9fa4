//! Feeds libFuzzer's inputs to `saved`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ringfence_fuzz::run("saved", input));

//! Feeds libFuzzer's inputs to `rogue`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ringfence_fuzz::run("rogue", input));

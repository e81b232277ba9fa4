//! Feeds libFuzzer's inputs to `policy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ringfence_fuzz::run("policy", input));

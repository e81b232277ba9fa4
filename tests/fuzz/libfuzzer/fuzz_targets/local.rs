//! Feeds libFuzzer's inputs to `local`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ringfence_fuzz::run("local", input));

//! Feeds libFuzzer's inputs to `token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ringfence_fuzz::run("token", input));

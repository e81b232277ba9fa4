//! Feeds libFuzzer's inputs to `log`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ringfence_fuzz::run("log", input));

//! Feeds libFuzzer's inputs to `uapi`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ringfence_fuzz::run("uapi", input));

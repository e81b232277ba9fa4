//! Feeds libFuzzer's inputs to `netmap`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ringfence_fuzz::run("netmap", input));

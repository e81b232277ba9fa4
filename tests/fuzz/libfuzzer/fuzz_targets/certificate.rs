//! Feeds libFuzzer's inputs to `certificate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ringfence_fuzz::run("certificate", input));

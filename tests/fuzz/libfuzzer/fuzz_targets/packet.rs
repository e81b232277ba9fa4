//! Feeds libFuzzer's inputs to `packet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ringfence_fuzz::run("packet", input));

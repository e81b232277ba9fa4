//! Feeds libFuzzer's inputs to `to_node`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ringfence_fuzz::run("to_node", input));

//! Feeds libFuzzer's inputs to `to_controller`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ringfence_fuzz::run("to_controller", input));

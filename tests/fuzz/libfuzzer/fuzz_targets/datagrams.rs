//! Feeds libFuzzer's inputs to `datagrams`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ringfence_fuzz::run("datagrams", input));

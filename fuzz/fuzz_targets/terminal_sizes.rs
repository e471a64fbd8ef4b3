#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| cricket_fuzz_targets::terminal_sizes::run(data));

#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| cricket_fuzz_targets::shim_start::run(data));

#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| cricket_fuzz_targets::nri_messages::run(data));

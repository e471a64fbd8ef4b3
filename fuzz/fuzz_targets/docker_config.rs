#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| cricket_fuzz_targets::docker_config::run(data));

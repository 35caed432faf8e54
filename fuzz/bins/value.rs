#![no_main]

#[path = "../targets/value.rs"]
mod value;

libfuzzer_sys::fuzz_target!(|data: &[u8]| value::run(data));

#![no_main]

#[path = "../targets/exit.rs"]
mod exit;

libfuzzer_sys::fuzz_target!(|data: &[u8]| exit::run(data));

//! The example with both languages in one proc, run as a user would run it.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::process::Command;

#[test]
fn the_example_has_actors_in_rust_and_in_python_work_together_in_one_proc() {
    let tests = std::env::current_exe().unwrap();
    // Cargo builds examples for the tests of their package, beside them.
    let example = tests.parent().unwrap().parent().unwrap().join("examples/mixed");
    assert!(example.exists(), "{example:?} is missing: cargo build -p procession-py --example mixed");
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python");
    let output = Command::new(example).env("PYTHONPATH", python).output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    assert_eq!(
        out,
        "nine readings: mean 2.000, deviation 1.369\n\
         two of our own: Dict([(Str(\"mean\"), Float(2.0)), (Str(\"deviation\"), Float(1.4142135623730951))])\n\
         mixed: stopped by us (stop: the work is done): exit code 0\n"
    );
}

//! The example for Rust programs, run as a user would run it.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Command;

/// Cargo builds examples for the tests of their package, beside them.
fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let built = tests.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(built.exists(), "{built:?} is missing: cargo build -p procession --example {name}");
    built
}

#[test]
fn the_example_estimates_pi_on_four_procs_that_all_end_cleanly() {
    let output = Command::new(example("pi")).output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);

    let mut lines = out.lines();
    let pi: f64 = lines.next().and_then(|line| line.strip_prefix("pi is about ")).unwrap().parse().unwrap();
    assert!((3.1..3.2).contains(&pi), "{pi}");

    let heading: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(heading, ["proc", "pid", "exit", "verdict"]);
    let mut pids = HashSet::new();
    for (rank, line) in lines.by_ref().take(4).enumerate() {
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some(format!("sampler-{rank}").as_str()), "{out}");
        pids.insert(words.next().unwrap().parse::<u32>().unwrap());
        assert!(line.ends_with("stopped by us (stop: the work is done): exit code 0"), "{out}");
    }
    assert_eq!(pids.len(), 4, "{out}");
    assert_eq!(lines.next(), None, "{out}");
}

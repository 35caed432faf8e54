//! Output in files: all of it, whatever the disk says, and never in the way of an exit.

use std::fs;
use std::path::Path;
use std::time::Duration;

use procession_host::{LogSpec, SpawnSpec, Stream};

use crate::common::{Record, host, script, shut_down, soon, spawn, within};

fn logged(directory: &Path, text: &str) -> SpawnSpec {
    let mut spec = script("p", text);
    spec.log = Some(LogSpec::new(directory));
    spec.tail_lines = 3;
    spec
}

#[tokio::test]
async fn all_output_is_in_the_files_and_its_end_in_the_exit() {
    let host = host().await;
    let base = tempfile::tempdir().unwrap();
    let directory = base.path().join("logs");
    for incarnation in 1..=2 {
        let text = "seq 1 20000; printf 'a\\377\\000\\r\\n' >&2; printf end >&2; exit 2";
        let proc_ = spawn(&host, logged(&directory, text));
        let exit = soon(proc_.ended()).await;
        let path = |ending| directory.join(format!("p.{incarnation}.{ending}"));
        assert_eq!(
            (exit.stdout_path.as_deref(), exit.stderr_path.as_deref()),
            (Some(&*path("out")), Some(&*path("err")))
        );
        assert_eq!((proc_.status().stdout_path, exit.log_dropped_bytes), (exit.stdout_path.clone(), 0));
        let numbers: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
        assert!(fs::read_to_string(path("out")).unwrap() == numbers);
        assert_eq!(fs::read(path("err")).unwrap(), b"a\xff\0\r\nend");
        assert_eq!(exit.stdout_tail, ["19998", "19999", "20000"]);
        assert_eq!(exit.stderr_tail, ["a\u{fffd}\0", "end"]);
        // Further back than memory has it.
        assert_eq!(proc_.last_lines(Stream::Stdout, 2), ["19999", "20000"]);
        let back = proc_.last_lines(Stream::Stdout, 15_000);
        assert!(back.iter().map(|line| line.parse::<usize>().unwrap()).eq(5001..=20_000));
        assert_eq!(proc_.last_lines(Stream::Stderr, 10), exit.stderr_tail);
    }
    shut_down(host).await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_to_costs_its_bytes_and_nothing_else_and_is_told_once() {
    let host = host().await;
    let base = tempfile::tempdir().unwrap();
    let (blocked, gate) = (base.path().join("blocked"), base.path().join("gate"));
    fs::write(&blocked, "in the way").unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&gate).status().unwrap().success());
    let record = Record::default();
    let mut spec =
        logged(&blocked, "seq 1 10000; echo fault >&2; read go < $GATE; echo more; echo again >&2; exit 5");
    spec.command.env.insert("GATE".into(), gate.to_string_lossy().into_owned());
    let proc_ = host.spawn_watched(spec, host.native_launcher(), Some(record.observer())).unwrap();
    let both = || {
        proc_.output_tail(Stream::Stdout).last().is_some_and(|line| line == "10000")
            && proc_.output_tail(Stream::Stderr) == ["fault"]
    };
    within(Duration::from_secs(20), "what it wrote before", both).await;
    fs::remove_file(&blocked).unwrap();
    tokio::task::spawn_blocking(move || fs::write(gate, "go\n").unwrap()).await.unwrap();
    let exit = soon(proc_.ended()).await;
    assert_eq!(exit.verdict, "app error: exit code 5");
    assert_eq!(exit.log_dropped_bytes, 48_894 + 6, "the numbers, and a word");
    assert_eq!(fs::read_to_string(exit.stdout_path.as_ref().unwrap()).unwrap(), "more\n");
    assert_eq!(fs::read_to_string(exit.stderr_path.as_ref().unwrap()).unwrap(), "again\n");
    assert_eq!(exit.stderr_tail, ["fault", "again"]);
    let notes = record.notes();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(
        notes.iter().all(|note| note.contains("blocked/p.1.") && note.contains("Not a directory")),
        "{notes:?}"
    );
    // What is missing is missing in the middle; memory has the end.
    assert_eq!(proc_.last_lines(Stream::Stdout, 10), ["9999", "10000", "more"]);
    shut_down(host).await;
}

#[tokio::test]
async fn a_grandchild_that_never_stops_to_write_does_not_delay_the_exit() {
    let host = host().await;
    let base = tempfile::tempdir().unwrap();
    let mut spec = logged(base.path(), "yes & exit 3");
    spec.log = Some(LogSpec { max_bytes: Some(1 << 20), ..LogSpec::new(base.path()) });
    let proc_ = spawn(&host, spec);
    assert_eq!(soon(proc_.ended()).await.verdict, "app error: exit code 3");
    let sizes: Vec<u64> =
        fs::read_dir(base.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
    assert!(sizes.len() <= 5 && sizes.iter().all(|&size| size <= 1 << 20), "{sizes:?}");
    shut_down(host).await;
}

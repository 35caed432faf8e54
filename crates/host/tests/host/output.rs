//! What a proc writes: seen line by line, kept to the last, and never in the way of its exit.

use std::time::{Duration, Instant};

use procession_host::{ProcEvent, Stream};
use procession_model::ProcExitKind;

use crate::common::{Record, host, lives, script, shut_down, soon, spawn, within};

fn lines(record: &Record, wanted: Stream) -> Vec<String> {
    let line = |event| match event {
        ProcEvent::Output { stream, line, .. } if stream == wanted => Some(line),
        _ => None,
    };
    record.events().into_iter().filter_map(line).collect()
}

#[tokio::test]
async fn the_last_lines_of_both_streams_are_in_the_exit_and_all_are_seen() {
    let host = host().await;
    let record = Record::default();
    let mut spec = script("p", "seq 1 500; seq 1001 1500 >&2; printf 'no end'; printf fault >&2; exit 2");
    spec.tail_lines = 3;
    let proc_ = host.spawn_watched(spec, host.native_launcher(), Some(record.observer())).unwrap();
    let exit = soon(proc_.ended()).await;
    assert_eq!(exit.stdout_tail, ["499", "500", "no end"]);
    assert_eq!(exit.stderr_tail, ["1499", "1500", "fault"]);
    assert_eq!(proc_.output_tail(Stream::Stdout), exit.stdout_tail);
    let seen = [lines(&record, Stream::Stdout), lines(&record, Stream::Stderr)];
    assert_eq!(seen.each_ref().map(Vec::len), [501, 501]);
    assert!(seen[0].iter().take(500).enumerate().all(|(n, line)| *line == (n + 1).to_string()));
    shut_down(host).await;
}

#[tokio::test]
async fn last_words_are_kept_however_the_proc_dies() {
    let host = host().await;
    for round in 0..50 {
        let text =
            format!("echo the last word of {round} >&2; kill -{} $$", if round % 2 == 0 { 9 } else { 15 });
        let exit = soon(spawn(&host, script("p", &text)).ended()).await;
        assert_eq!(exit.stderr_tail, [format!("the last word of {round}")]);
    }
    shut_down(host).await;
}

#[tokio::test]
async fn a_line_of_a_megabyte_is_cut_and_marked() {
    let host = host().await;
    let spec = script("p", "head -c 1048576 /dev/zero | tr '\\0' x >&2; echo >&2; echo after >&2");
    let exit = soon(spawn(&host, spec).ended()).await;
    assert_eq!(exit.verdict, "clean exit");
    assert_eq!(exit.stderr_tail.len(), 2);
    assert!(exit.stderr_tail[0].len() < 5000 && exit.stderr_tail[0].ends_with("[…cut]"));
    assert_eq!(exit.stderr_tail[1], "after");
    shut_down(host).await;
}

#[tokio::test]
async fn a_proc_whose_output_is_held_up_waits_and_its_end_is_seen_all_the_same() {
    let host = host().await;
    for opens in [true, false] {
        let record = Record::default();
        let spec = script("p", "yes | head -c 4000000; echo last >&2");
        let gate = spec.gate.clone();
        gate.set_open(false);
        let proc_ = host.spawn_watched(spec, host.native_launcher(), Some(record.observer())).unwrap();
        // Two buffers full, and two pipes, are all that can have left the program.
        within(Duration::from_secs(20), "its first words", || !lines(&record, Stream::Stdout).is_empty())
            .await;
        let seen = lines(&record, Stream::Stdout).len();
        assert!(seen < 500_000, "{seen}");
        assert!(proc_.exit().is_none());
        if opens {
            gate.set_open(true);
            assert_eq!(soon(proc_.ended()).await.verdict, "clean exit");
            assert_eq!(lines(&record, Stream::Stdout).len(), 2_000_000);
        } else {
            proc_.kill("it waits").await.unwrap();
            let exit = soon(proc_.ended()).await;
            assert_eq!(exit.kind, ProcExitKind::Signaled { signal: 9, core_dumped: false });
            assert!(!exit.stdout_tail.is_empty());
        }
    }
    shut_down(host).await;
}

#[tokio::test]
async fn a_tail_of_no_lines_keeps_none_and_shows_all() {
    let host = host().await;
    let record = Record::default();
    let mut spec = script("p", "echo seen");
    spec.tail_lines = 0;
    let proc_ = host.spawn_watched(spec, host.native_launcher(), Some(record.observer())).unwrap();
    assert!(soon(proc_.ended()).await.stdout_tail.is_empty());
    assert_eq!(lines(&record, Stream::Stdout), ["seen"]);
    shut_down(host).await;
}

#[tokio::test]
async fn a_grandchild_that_holds_the_pipe_does_not_delay_the_exit_and_does_not_stay() {
    let host = host().await;
    // One that is silent, and one that never stops to write.
    for grandchild in ["sleep 300", "yes"] {
        let text = format!("{grandchild} & echo $! >&2; exit 3");
        let proc_ = spawn(&host, script("p", &text));
        let start = Instant::now();
        let exit = soon(proc_.ended()).await;
        assert!(start.elapsed() < Duration::from_secs(3), "{grandchild}: {:?}", start.elapsed());
        assert_eq!(exit.verdict, "app error: exit code 3");
        let grandchild = exit.stderr_tail[0].parse().unwrap();
        within(Duration::from_secs(5), "the grandchild is killed", || !lives(grandchild)).await;
    }
    shut_down(host).await;
}

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use procession_model::{
    BootTiming, BootstrapCommand, HostId, ProcExit, ProcExitKind, ProcId, Secret, StopRequest,
};
use procession_supervise::{Fate, RestartPolicy};
use procession_wire::{decode_journal, encode_record, journal_header};

use super::file::{DAMAGED, NAME, VERSION};
use super::writer::{SMALL, Writer};
use super::{Asked, At, Entry, Launch, Ledger, Past};
use crate::spec::SpawnSpec;

fn exit(asked: &Asked) -> Box<ProcExit> {
    Box::new(ProcExit {
        proc_id: asked.proc_id.clone(),
        rank: 0,
        incarnation: asked.incarnation,
        launcher: "native".to_owned(),
        kind: ProcExitKind::Exited { code: 7 },
        reported: None,
        stderr_tail: vec!["last".to_owned()],
        stdout_tail: Vec::new(),
        stdout_path: None,
        stderr_path: None,
        log_dropped_bytes: 0,
        certificate: procession_model::Certificate::bare(procession_model::Verdict::AppError { code: 7 }),
        oom: None,
        pid: Some(1234),
        requested: None,
        started_at: SystemTime::now(),
        ready_at: None,
        ended_at: SystemTime::now(),
        verdict: "app error: exit code 7".to_owned(),
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

const ID: u64 = 5;

fn at(slot: usize) -> At {
    At { group: ID, slot }
}

/// A group of so many slots, the launches of which are asked for.
fn group(names: &[&str]) -> (Vec<Entry>, Vec<Asked>) {
    let host = HostId::fresh("machine");
    let spec = |name: &&str| SpawnSpec::new(*name, BootstrapCommand::new("/bin/true"));
    let asked = |name: &&str| Asked {
        proc_id: ProcId::fresh(name, &host).unwrap(),
        incarnation: 1,
        since: SystemTime::UNIX_EPOCH,
        token: Secret::random(),
    };
    let all: Vec<Asked> = names.iter().map(asked).collect();
    let restart = RestartPolicy::on_failure();
    let mut entries = vec![Entry::Group { id: ID, slots: names.len(), restart, launcher: None }];
    let specs = names.iter().map(spec).enumerate();
    entries.extend(specs.map(|(slot, spec)| Entry::Slot { at: at(slot), spec: Box::new(spec) }));
    let asked = all.iter().cloned().enumerate();
    entries.extend(asked.map(|(slot, asked)| Entry::Asked { at: at(slot), asked }));
    (entries, all)
}

fn write(directory: &Path, entries: Vec<Entry>) -> Past {
    let (ledger, past) = Ledger::open(directory).unwrap();
    for entry in entries {
        block_on(ledger.write(entry)).unwrap();
    }
    past
}

#[test]
fn the_next_host_learns_what_still_runs_what_becomes_of_the_rest_and_how_it_ended() {
    let directory = tempfile::tempdir().unwrap();
    let (mut entries, asked) = group(&["lives", "ends", "due"]);
    let request = StopRequest { by: "stop".to_owned(), at: SystemTime::now(), why: "the test".to_owned() };
    let boot = BootTiming { exec: Some(Duration::from_millis(7)), ..BootTiming::default() };
    let since = SystemTime::UNIX_EPOCH;
    entries.extend([
        Entry::Started { at: at(0), pid: 4711, started: 99, boot: "b".to_owned() },
        Entry::Ready { at: at(0), since, boot: boot.clone() },
        Entry::StopAsked { at: at(0), request: request.clone() },
        Entry::Ended { at: at(1), exit: exit(&asked[1]) },
        Entry::Fate { at: at(2), fate: Fate::Due },
        Entry::Ended { at: at(2), exit: exit(&asked[2]) },
    ]);
    let nothing = write(directory.path(), entries);
    assert!(nothing.groups.is_empty() && nothing.ended.is_empty());
    // Twice, because what is written anew has to say the same.
    for _ in 0..2 {
        let (_, past) = Ledger::open(directory.path()).unwrap();
        let group = &past.groups[&ID];
        assert_eq!(group.restart, RestartPolicy::on_failure());
        let [Launch::Open(open), Launch::Ended(_), Launch::Ended(due)] =
            [0, 1, 2].map(|slot| &group.slots[slot].launch)
        else {
            panic!("{group:?}")
        };
        assert_eq!(open.asked, asked[0]);
        assert_eq!(open.leader, Some((4711, 99, "b".to_owned())));
        assert_eq!((open.ready_at, &open.boot), (Some(since), &boot));
        assert_eq!(open.stop, Some(request.clone()));
        assert_eq!(due.proc_id, asked[2].proc_id);
        assert_eq!([0, 1, 2].map(|slot| group.slots[slot].fate), [Fate::Free, Fate::Free, Fate::Due]);
        let ended: Vec<_> = past.ended.iter().map(|exit| &exit.proc_id).collect();
        assert_eq!(ended, [&asked[1].proc_id, &asked[2].proc_id]);
    }
}

#[test]
fn of_a_group_that_is_over_only_its_exits_are_known_to_the_next_host() {
    let directory = tempfile::tempdir().unwrap();
    let (mut entries, asked) = group(&["one", "two"]);
    entries.extend([0, 1].map(|slot| Entry::Ended { at: at(slot), exit: exit(&asked[slot]) }));
    write(directory.path(), entries);
    let (_, past) = Ledger::open(directory.path()).unwrap();
    assert_eq!((past.groups.len(), past.ended.len()), (0, 2));
}

#[test]
fn a_journal_that_gets_long_is_written_anew_and_says_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let (entries, asked) = group(&["again"]);
    write(directory.path(), entries);
    let (ledger, _) = Ledger::open(directory.path()).unwrap();
    let length = || fs::metadata(directory.path().join(NAME)).unwrap().len();
    let mut longest = 0;
    for incarnation in 1..4000 {
        let asked = Asked { incarnation, ..asked[0].clone() };
        let end = Entry::Ended { at: at(0), exit: exit(&asked) };
        ledger.note(Entry::Asked { at: at(0), asked });
        block_on(ledger.write(end)).unwrap();
        longest = longest.max(length());
    }
    assert!(longest < SMALL + 4096 && length() < longest, "{longest}, then {}", length());
    let asked = Asked { incarnation: 4000, ..asked[0].clone() };
    block_on(ledger.write(Entry::Asked { at: at(0), asked: asked.clone() })).unwrap();
    let (_, past) = Ledger::open(directory.path()).unwrap();
    let going_on: Vec<_> = past.going_on().map(|open| &open.asked).collect();
    assert_eq!(going_on, [&asked]);
}

#[test]
fn a_journal_that_is_cut_anywhere_says_what_was_true_then() {
    let directory = tempfile::tempdir().unwrap();
    let (mut entries, asked) = group(&["a", "b"]);
    entries.extend([
        Entry::Started { at: at(0), pid: 4711, started: 99, boot: "b".to_owned() },
        Entry::Ended { at: at(0), exit: exit(&asked[0]) },
        Entry::Ended { at: at(1), exit: exit(&asked[1]) },
    ]);
    let mut whole = vec![journal_header(VERSION).len()];
    let mut bytes = journal_header(VERSION).to_vec();
    for entry in &entries {
        bytes.extend(encode_record(entry).unwrap());
        whole.push(bytes.len());
    }
    for length in 0..=bytes.len() {
        let past = if length % 97 == 0 {
            fs::write(directory.path().join(NAME), &bytes[..length]).unwrap();
            Ledger::open(directory.path()).unwrap().1
        } else {
            let journal = decode_journal(&bytes[..length], VERSION).unwrap();
            let mut past = Past::replay(journal.records);
            past.groups.retain(|_, group| !group.is_over());
            past
        };
        let known = whole.iter().filter(|end| **end <= length).count().saturating_sub(1);
        let mut then = Past::replay(entries[..known].to_vec());
        then.groups.retain(|_, group| !group.is_over());
        assert_eq!(format!("{past:?}"), format!("{then:?}"), "cut at {length}");
    }
}

#[test]
fn what_a_full_disk_did_not_take_is_made_up_for_by_the_next_entry() {
    let directory = tempfile::tempdir().unwrap();
    let (mut entries, asked) = group(&["p"]);
    let last = entries.pop().unwrap();
    let mut writer = Writer::begin(directory.path(), Past::default()).unwrap();
    writer.file = File::open("/dev/null").unwrap();
    writer.write(entries.remove(0)).unwrap_err();
    for entry in entries.into_iter().chain([last]) {
        writer.write(entry).unwrap();
    }
    let (_, past) = Ledger::open(directory.path()).unwrap();
    assert_eq!(past.going_on().map(|open| &open.asked).collect::<Vec<_>>(), [&asked[0]]);
}

#[test]
fn bytes_that_are_not_whole_are_moved_aside_and_the_rest_is_used() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), group(&["p"]).0);
    let path = directory.path().join(NAME);
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_slice(b"torn");
    fs::write(&path, bytes).unwrap();
    let (_, past) = Ledger::open(directory.path()).unwrap();
    assert_eq!(past.going_on().count(), 1);
    assert_eq!(fs::read(directory.path().join(DAMAGED)).unwrap(), b"torn");
}

#[test]
fn a_journal_of_another_release_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(NAME);
    fs::write(&path, journal_header(VERSION + 1)).unwrap();
    let error = Ledger::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("version 3") && error.contains("journal"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), journal_header(VERSION + 1));
}

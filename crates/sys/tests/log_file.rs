//! Files that take a stream: whole, within their limits, and whatever becomes of who fills them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use procession_sys::*;

const FOREVER: Rotation = Rotation { max_bytes: None, keep: 0 };

fn full(pieces: u32) -> Vec<u8> {
    (0..pieces).flat_map(|number| format!("{number:07}\n").into_bytes()).collect()
}

/// What the files hold, oldest first.
fn held(path: &Path, keep: u32) -> Vec<u8> {
    let numbered = |n| if n == 0 { path.to_owned() } else { format!("{}.{n}", path.display()).into() };
    (0..=keep).rev().filter_map(|n| fs::read(numbered(n)).ok()).flatten().collect()
}

/// Everything that comes through a pipe, moved to its end.
fn take_all(log: &mut LogFile, pipe: &OwnedFd, size: usize) -> Vec<u8> {
    let (mut seen, mut buffer) = (Vec::new(), vec![0; size]);
    loop {
        match log.take(pipe.as_fd(), &mut buffer) {
            Ok(Taken { bytes: 0, .. }) => return seen,
            Ok(taken) => {
                assert_eq!(taken.bytes, taken.shown);
                seen.extend_from_slice(&buffer[..taken.shown]);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn what_goes_through_a_pipe_is_in_the_file_and_shown_byte_for_byte() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("made/by it/p.1.out");
    let mut log = LogFile::new(path.clone(), FOREVER);
    let (read, write) = pipe().unwrap();
    let text = full(100_000);
    let writer = std::thread::spawn({
        let text = text.clone();
        move || File::from(write).write_all(&text).unwrap()
    });
    assert!(take_all(&mut log, &read, 1 << 16) == text);
    writer.join().unwrap();
    assert!(fs::read(&path).unwrap() == text);
    assert_eq!(log.counts(), (text.len() as u64, 0));
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
}

#[test]
fn a_full_file_is_put_aside_and_only_so_many_are_kept() {
    for keep in [0, 1, 3] {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("p.1.out");
        let rotation = Rotation { max_bytes: Some(1000), keep };
        let mut log = LogFile::new(path.clone(), rotation);
        let text = full(700);
        // Through both ways in, in pieces that fit no limit.
        let (read, write) = pipe().unwrap();
        log.append(&text[..1777]);
        File::from(write).write_all(&text[1777..]).unwrap();
        take_all(&mut log, &read, 333);
        assert_eq!(fs::metadata(&path).unwrap().len(), 600);
        let kept = held(&path, keep);
        assert_eq!(kept, text[text.len() - kept.len()..]);
        assert_eq!(kept.len(), 600 + 1000 * keep as usize);
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1 + keep as usize);
        let (begin, back) = log.read_back(text.len() as u64, u64::MAX).unwrap().unwrap();
        assert_eq!((begin, &back), ((text.len() - kept.len()) as u64, &kept));
        let (begin, back) = log.read_back(text.len() as u64 - 50, 70).unwrap().unwrap();
        assert_eq!((begin, &back[..]), (text.len() as u64 - 120, &text[text.len() - 120..text.len() - 50]));
    }
}

#[test]
fn what_a_file_holds_already_stays_and_is_not_taken_for_the_stream() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("p.1.out");
    fs::write(&path, "of another run\n").unwrap();
    let mut log = LogFile::new(path.clone(), Rotation { max_bytes: Some(20), keep: 2 });
    assert!(log.append(b"one\ntwo\nthree\n").is_none());
    assert_eq!(held(&path, 2), b"of another run\none\ntwo\nthree\n");
    assert_eq!(log.read_back(14, 100).unwrap().unwrap(), (0, b"one\ntwo\nthree\n".to_vec()));
    assert!(log.read_back(15, 100).unwrap().is_none());
}

#[test]
fn no_link_and_nothing_but_a_file_is_written_to_and_what_is_dropped_is_counted_until_it_can_be_written() {
    let base = tempfile::tempdir().unwrap();
    let (path, target) = (base.path().join("p.1.out"), base.path().join("precious"));
    fs::write(&target, "untouched").unwrap();
    symlink(&target, &path).unwrap();
    let mut log = LogFile::new(path.clone(), FOREVER);
    assert!(log.make().unwrap_err().to_string().contains("symbolic link"));
    assert!(log.append(b"12345").is_some());
    let (read, write) = pipe().unwrap();
    File::from(write.try_clone().unwrap()).write_all(b"678").unwrap();
    let taken = log.take(read.as_fd(), &mut [0; 10]).unwrap();
    assert_eq!((taken.bytes, taken.shown), (3, 3));
    assert!(taken.failure.unwrap().to_string().contains("symbolic link"));
    assert_eq!(log.counts(), (0, 8));
    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert!(log.append(b"9").unwrap().to_string().contains("no regular file"));
    fs::remove_file(&path).unwrap();
    assert!(log.append(b"again").is_none());
    assert_eq!(log.counts(), (5, 9));
    assert_eq!(fs::read(&path).unwrap(), b"again");
    assert_eq!(fs::read(&target).unwrap(), b"untouched");

    let linked = base.path().join("linked");
    symlink(base.path(), &linked).unwrap();
    let error = LogFile::new(linked.join("x"), FOREVER).make().unwrap_err();
    assert!(error.to_string().contains("linked is a symbolic link"), "{error}");
}

#[test]
fn a_directory_that_vanishes_is_made_again_and_one_that_cannot_be_is_told() {
    let base = tempfile::tempdir().unwrap();
    let directory = base.path().join("logs");
    let mut log = LogFile::new(directory.join("p.1.err"), FOREVER);
    log.append(b"before");
    fs::remove_dir_all(&directory).unwrap();
    assert!(log.append(b"after").is_none());
    assert_eq!(fs::read(log.path()).unwrap(), b"after");
    fs::remove_dir_all(&directory).unwrap();
    fs::write(&directory, "in the way").unwrap();
    assert!(log.append(b"lost").is_some());
    fs::remove_file(&directory).unwrap();
    assert!(log.append(b"found").is_none());
    assert_eq!((fs::read(log.path()).unwrap(), log.counts()), (b"found".to_vec(), (16, 4)));
}

#[test]
#[ignore = "the program that fills a file until it is killed"]
fn filler() {
    let mut log = LogFile::new(std::env::var_os("LOG_FILE").unwrap().into(), FOREVER);
    let stdin = io::stdin().as_fd().try_clone_to_owned().unwrap();
    take_all(&mut log, &stdin, 5000);
}

#[test]
fn nothing_is_lost_when_who_fills_the_file_is_killed() {
    let base = tempfile::tempdir().unwrap();
    for round in 0..20_u64 {
        let path = base.path().join(format!("{round}.out"));
        let (read, write) = pipe().unwrap();
        let mut filler = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "filler", "--nocapture", "--test-threads=1"])
            .env("LOG_FILE", &path)
            .stdin(Stdio::from(read.try_clone().unwrap()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let stop = AtomicBool::new(false);
        let (written, taken) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let (mut write, mut text) = (File::from(write), Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let piece = format!("{:07}\n", text.len());
                    write.write_all(piece.as_bytes()).unwrap();
                    text.extend_from_slice(piece.as_bytes());
                }
                text
            });
            while fs::metadata(&path).map_or(0, |meta| meta.len()) < 1000 + 40_000 * round {
                assert!(filler.try_wait().unwrap().is_none());
            }
            filler.kill().unwrap();
            filler.wait().unwrap();
            stop.store(true, Ordering::Relaxed);
            // A writer that waits for room gets it from this.
            let mut taken = fs::read(&path).unwrap();
            File::from(read).read_to_end(&mut taken).unwrap();
            (writer.join().unwrap(), taken)
        });
        assert!(written == taken, "round {round}: {} bytes of {}", taken.len(), written.len());
    }
}

#[test]
fn a_pipe_that_is_empty_is_told_from_one_that_has_ended() {
    let base = tempfile::tempdir().unwrap();
    let mut log = LogFile::new(base.path().join("f"), FOREVER);
    let (read, write) = pipe().unwrap();
    let error = log.take(read.as_fd(), &mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    drop(write);
    assert_eq!(log.take(read.as_fd(), &mut [0; 10]).unwrap().bytes, 0);
}

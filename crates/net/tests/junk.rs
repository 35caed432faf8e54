//! What strangers cost; alone in its process, whose memory and descriptors it measures.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod common;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::{Host, soon};
use procession_net::{Address, dial};

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Resident memory in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Processor time that this process has used, in clock ticks of 10 ms; `stat` is its own file in
/// /proc, opened while that was still possible.
fn ticks(stat: &mut File) -> u64 {
    let mut text = String::new();
    stat.rewind().unwrap();
    stat.read_to_string(&mut text).unwrap();
    let fields: Vec<_> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

trait Talk: Read + Write {}
impl<S: Read + Write> Talk for S {}

/// Has `count` strangers say something, eight at a time, each until the host closes.
async fn junk(host: &Host, count: usize) {
    const THREADS: usize = 8;
    const WORDS: [&[u8]; 4] = [b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", &[255; 8], &[0; 5000]];
    let address = host.serving.local_address();
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let address = address.clone();
            tokio::task::spawn_blocking(move || {
                for index in 0..count / THREADS {
                    let mut stream: Box<dyn Talk> = match &address {
                        Address::Unix(path) => Box::new(UnixStream::connect(path).unwrap()),
                        Address::Tcp { host, port } => {
                            Box::new(TcpStream::connect((host.as_str(), *port)).unwrap())
                        }
                        other => panic!("{other}"),
                    };
                    // The host may be faster than the stranger.
                    let _ = stream.write_all(WORDS[index % WORDS.len()]);
                    let _ = stream.read_to_end(&mut Vec::new());
                }
            })
        })
        .collect();
    for thread in threads {
        thread.await.unwrap();
    }
}

/// Runs in a process that may have 64 descriptors, see below.
#[tokio::test]
#[ignore = "it is run by the test that limits its descriptors"]
async fn inner_without_descriptors() {
    let host = Host::unix();
    let (how, _call_back) = host.expect();
    let path = host.path();
    let mut stat = File::open("/proc/self/stat").unwrap();
    // Nothing is accepted meanwhile: this thread is the host's too.
    let mut strangers: Vec<_> = std::iter::from_fn(|| UnixStream::connect(&path).ok()).collect();
    assert!(strangers.len() > 10, "{}", strangers.len());
    let before = ticks(&mut stat);
    // What is measured is this time, in which nothing else happens.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let used = ticks(&mut stat) - before;
    assert!(used < 30, "{used} ticks of 150 were used to accept what cannot be accepted");
    strangers.clear();
    assert!(soon(dial(&how)).await.is_ok(), "it accepts again");
}

#[test]
fn a_host_without_descriptors_waits_without_spinning_and_recovers() {
    let this = std::env::current_exe().unwrap();
    let status = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 64; exec \"$0\" --ignored --exact inner_without_descriptors"])
        .arg(this)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

mod f86 {
    use super::*;

    #[tokio::test]
    async fn ten_thousand_strangers_leave_memory_and_descriptors_as_they_were() {
        for host in Host::both().await {
            soon(junk(&host, 1000)).await;
            let before = (descriptors(), resident());
            soon(junk(&host, 5000)).await;
            let after = (descriptors(), resident());
            let grown = after.1.saturating_sub(before.1);
            println!("{}: {grown} bytes more after 5,000 strangers", host.serving.local_address());
            assert!(after.0 <= before.0 + 2, "descriptors: {} before, {} after", before.0, after.0);
            assert!(grown <= 2 << 20, "{grown} bytes more");
            let (how, _call_back) = host.expect();
            assert!(soon(dial(&how)).await.is_ok());
        }
        // As much as a stranger may say in a TLS message that goes on.
        let mut much = vec![0x16, 3, 1, 0x1f, 0x00, 1, 0, 0xff, 0xf0];
        much.resize(7000, 7);
        let hosts = [Host::unix(), Host::tcp().await, Host::tcp().await];
        for (host, words) in hosts.into_iter().zip([&b"\xf5"[..], &[0x16, 3, 1, 0x3f, 0xff, 1], &much]) {
            let before = resident();
            let mut crowd: Vec<Box<dyn Talk>> = Vec::new();
            for _ in 0..256 {
                crowd.push(match host.serving.local_address() {
                    Address::Unix(path) => Box::new(UnixStream::connect(path).unwrap()),
                    Address::Tcp { host, port } => {
                        Box::new(TcpStream::connect((host.as_str(), *port)).unwrap())
                    }
                    other => panic!("{other}"),
                });
                crowd.last_mut().unwrap().write_all(words).unwrap();
                tokio::task::yield_now().await;
            }
            // Nothing shows that the host has read what there is, and that it keeps waiting.
            tokio::time::sleep(Duration::from_millis(100)).await;
            let each = resident().saturating_sub(before) / 256;
            println!("{}: {each} bytes for each of 256 who wait", host.serving.local_address());
            assert!(each <= if host.ca.is_some() { 24 << 10 } else { 4 << 10 }, "{each} bytes");
        }
    }
}

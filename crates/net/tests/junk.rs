//! What strangers cost; alone in its process, whose memory and descriptors it measures.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use common::{Host, soon};
use procession_net::dial;
use tokio::sync::Semaphore;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Resident memory in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Processor time that this process has used, in clock ticks of 10 ms.
fn ticks() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Says `words` from a thread that may block, and waits until the host closes.
fn say(host: &Host, words: &'static [u8]) -> impl FnOnce() + Send + 'static {
    let address = host.serving.local_address().clone();
    move || {
        let talk = |mut stream: Box<dyn Talk>| {
            // The host may be faster than the stranger.
            let _ = stream.write_all(words);
            let _ = stream.read_to_end(&mut Vec::new());
        };
        match address {
            procession_net::Address::Unix(path) => talk(Box::new(UnixStream::connect(path).unwrap())),
            procession_net::Address::Tcp { host, port } => {
                talk(Box::new(std::net::TcpStream::connect((host, port)).unwrap()));
            }
            other => panic!("{other}"),
        }
    }
}

trait Talk: Read + Write {}
impl<S: Read + Write> Talk for S {}

async fn junk(host: &Host, count: usize) {
    const WORDS: [&[u8]; 5] =
        [b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", &[255; 8], &[0x16, 3, 1, 0, 1, 9], b"\n"];
    let room = Arc::new(Semaphore::new(64));
    for index in 0..count {
        let permit = room.clone().acquire_owned().await.unwrap();
        let say = say(host, WORDS[index % WORDS.len()]);
        tokio::task::spawn_blocking(move || {
            say();
            drop(permit);
        });
    }
    let _all = room.acquire_many(64).await.unwrap();
}

#[tokio::test]
async fn ten_thousand_strangers_leave_memory_and_descriptors_as_they_were() {
    for host in Host::both().await {
        soon(junk(&host, 500)).await;
        let before = (descriptors(), resident());
        soon(junk(&host, 5000)).await;
        let after = (descriptors(), resident());
        let grown = after.1.saturating_sub(before.1);
        println!("{}: {grown} bytes more after 5,000 strangers", host.serving.local_address());
        assert!(after.0 <= before.0 + 2, "descriptors: {} before, {} after", before.0, after.0);
        assert!(grown <= 4 << 20, "{grown} bytes more");
        let (how, _call_back) = host.expect();
        assert!(soon(dial(&how)).await.is_ok());
    }
    let host = Host::tcp().await;
    let before = resident();
    let mut crowd: Vec<_> = Vec::new();
    for _ in 0..256 {
        let mut stranger = tokio::net::TcpStream::connect(("127.0.0.1", host.port())).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stranger, &[0x16, 3, 1, 0x3f, 0xff, 1]).await.unwrap();
        crowd.push(stranger);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    println!("{} bytes each for 256 who began with TLS", resident().saturating_sub(before) / 256);
    assert!(resident().saturating_sub(before) <= 8 << 20);
}

/// Runs in a process that may have 64 descriptors, see below.
#[tokio::test]
#[ignore = "it is run by the test that limits its descriptors"]
async fn inner_without_descriptors() {
    let host = Host::unix();
    let (how, _call_back) = host.expect();
    let path = host.path();
    // Nothing is accepted meanwhile: this thread is the host's too.
    let mut strangers: Vec<_> = std::iter::from_fn(|| UnixStream::connect(&path).ok()).collect();
    assert!(strangers.len() > 10, "{}", strangers.len());
    let before = ticks();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let used = ticks() - before;
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

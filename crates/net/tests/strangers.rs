//! Peers that do not prove themselves: what they get, how long they stay and what they cost.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Host, soon};
use procession_net::{Crowd, dial};
use procession_wire::ClientHandshake;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn connect(host: &Host) -> std::io::Result<Box<dyn Stream>> {
    Ok(match host.ca {
        Some(_) => Box::new(TcpStream::connect(("127.0.0.1", host.port())).await?),
        None => Box::new(UnixStream::connect(host.path()).await?),
    })
}

/// Says `words` and returns what is answered until the host closes.
async fn say(host: &Host, words: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    // A host that closes early may refuse the connection's bytes, or reset it.
    if let Ok(mut stream) = connect(host).await
        && stream.write_all(words).await.is_ok()
    {
        let _ = soon(stream.read_to_end(&mut answer)).await;
    }
    answer
}

/// A TLS client hello's record, cut off before its end.
const TLS_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

fn strangers() -> Vec<Vec<u8>> {
    vec![
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(),
        u64::MAX.to_be_bytes().to_vec(),
        (1_u64 << 56).to_le_bytes().to_vec(),
        vec![0; 100_000],
        TLS_HELLO.iter().chain(&[7; 600]).copied().collect(),
    ]
}

#[tokio::test]
async fn many_real_diallers_at_once_all_get_in() {
    for host in Host::both().await {
        let mut all = Vec::new();
        // In a debug build, TLS with that many takes longer than a handshake may.
        for _ in 0..if host.ca.is_some() { 50 } else { 500 } {
            let (how, call_back) = host.expect();
            all.push((tokio::spawn(async move { dial(&how).await }), call_back));
        }
        for (dialled, mut call_back) in all {
            soon(dialled).await.unwrap().unwrap();
            assert!(soon(call_back.link()).await.is_some());
        }
    }
}

#[tokio::test]
async fn ending_the_listening_cuts_off_strangers_and_keeps_links() {
    for host in Host::both().await {
        let (proc_end, mut host_end) = soon(host.link()).await;
        let mut stranger = connect(&host).await.unwrap();
        tokio::task::yield_now().await;
        let file = host.ca.is_none().then(|| host.path());
        let start = Instant::now();
        let address = host.serving.local_address().clone();
        soon(host.serving.stop()).await;
        let _ = soon(stranger.read_to_end(&mut Vec::new())).await;
        assert!(start.elapsed() < Duration::from_secs(1));
        assert!(file.is_none_or(|file| !file.exists()), "the socket's file went with it");
        let nobody = procession_net::Dial {
            addresses: vec![address],
            launch: procession_model::LaunchId::fresh(),
            token: procession_model::Secret::random(),
            tls: host.ca.as_ref().map(|ca| ca.issue(procession_model::LaunchId::fresh()).unwrap()),
            lease: Duration::ZERO,
        };
        assert!(soon(dial(&nobody)).await.unwrap_err().to_string().contains("cannot connect"));
        proc_end.sender.post(common::packet(1, "still here")).unwrap();
        assert!(soon(host_end.receiver.recv()).await.unwrap().is_ok());
    }
}

/// Counts what is written to the log.
#[derive(Clone, Default)]
struct Log {
    warnings: Arc<AtomicUsize>,
    text: Arc<Mutex<String>>,
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Text<'a>(&'a mut String);
        impl tracing::field::Visit for Text<'_> {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{field}={value:?} "));
            }
        }
        self.warnings.fetch_add(1, Ordering::SeqCst);
        event.record(&mut Text(&mut self.text.lock().unwrap()));
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

mod f86 {
    use super::*;

    #[tokio::test]
    async fn what_is_plainly_no_hello_gets_no_answer_and_is_cut_off_at_once() {
        for host in Host::both().await {
            for words in strangers() {
                let start = Instant::now();
                let answer = say(&host, &words).await;
                // Over TCP the host speaks TLS, whose alert is seven bytes and says nothing of us.
                assert!(answer.len() <= if host.ca.is_some() { 7 } else { 0 }, "{words:?}: {answer:?}");
                assert!(start.elapsed() < Duration::from_millis(1500), "{words:?}: {:?}", start.elapsed());
            }
            let (how, _call_back) = host.expect();
            assert!(soon(dial(&how)).await.is_ok());
        }
    }

    #[tokio::test]
    async fn who_says_too_little_is_cut_off_after_two_seconds() {
        for host in Host::both().await {
            let (how, _call_back) = host.expect();
            let (_, hello) = ClientHandshake::new(how.launch, &how.token);
            let start = Instant::now();
            let answers = tokio::join!(
                say(&host, b""),
                say(&host, if host.ca.is_some() { TLS_HELLO } else { &hello[..1] }),
                say(&host, if host.ca.is_some() { &TLS_HELLO[..1] } else { &hello[..59] }),
            );
            assert_eq!(answers, (vec![], vec![], vec![]));
            let took = start.elapsed();
            assert!(took >= Duration::from_millis(1900) && took < Duration::from_secs(4), "{took:?}");
        }
    }

    #[tokio::test]
    async fn dripping_bytes_buys_no_time() {
        let host = Host::unix();
        let (how, _call_back) = host.expect();
        let (_, hello) = ClientHandshake::new(how.launch, &how.token);
        let start = Instant::now();
        let mut stream = UnixStream::connect(host.path()).await.unwrap();
        let mut dripped = 0;
        for byte in hello.iter().cycle() {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            dripped += 1;
            // That it takes its time is the fault.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(dripped < 40, "{dripped} bytes in {:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_stranger_who_talks_on_and_on_is_cut_off_before_its_words_fill_memory() {
        let host = Host::tcp().await;
        // One TLS message of 64 KiB, in records of 1 KiB: each is well-formed, and all is to be kept.
        let mut words = b"\x16\x03\x01\x04\x00\x01\x00\xff\xf0".to_vec();
        words.resize(5 + 1024, 7);
        for _ in 0..12 {
            words.extend_from_slice(b"\x16\x03\x01\x04\x00");
            words.extend_from_slice(&[7; 1024]);
        }
        let start = Instant::now();
        say(&host, &words).await;
        assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn strangers_at_all_listeners_that_share_a_crowd_are_counted_together() {
        let crowd = Crowd::default();
        let hosts = Host::both_in(&crowd).await;
        let mut strangers = Vec::new();
        for host in hosts.iter().cycle().take(10) {
            strangers.push(connect(host).await.unwrap());
        }
        let shows = async |count: usize| {
            while format!("{crowd:?}") != format!("Crowd({count})") {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        soon(shows(10)).await;
        drop(strangers);
        soon(shows(0)).await;
    }

    #[tokio::test]
    async fn a_crowd_that_says_nothing_or_one_byte_does_not_keep_a_real_dialler_out() {
        let hosts = Host::both().await.into_iter().chain(Host::both().await);
        for (host, words) in hosts.zip([&b""[..], &b""[..], &b"\xf5"[..], &TLS_HELLO[..1]]) {
            let mut crowd = Vec::new();
            for _ in 0..400 {
                let mut stream = connect(&host).await.unwrap();
                stream.write_all(words).await.unwrap();
                crowd.push(stream);
            }
            let (how, _call_back) = host.expect();
            let start = Instant::now();
            assert!(soon(dial(&how)).await.is_ok());
            assert!(start.elapsed() < Duration::from_millis(1500), "{words:x?}: {:?}", start.elapsed());
            for mut stream in crowd {
                let _ = soon(stream.read_to_end(&mut Vec::new())).await;
            }
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "the last of the crowd went after {:?}",
                start.elapsed()
            );
        }
    }

    #[tokio::test]
    async fn a_source_of_many_strangers_is_written_about_once_and_in_plain_letters() {
        let log = Log::default();
        let _guard = tracing::subscriber::set_default(log.clone());
        for (lines, host) in Host::both().await.into_iter().enumerate() {
            for _ in 0..50 {
                say(&host, b"\x1b[31mGET / HTTP/1.1\r\n").await;
            }
            assert_eq!(log.warnings.load(Ordering::SeqCst), lines + 1);
        }
        let text = log.text.lock().unwrap().clone();
        assert!(text.contains("refused a connection") && text.contains("127.0.0.1"), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }
}

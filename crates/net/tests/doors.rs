//! Who gets in, and who does not.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Host, number, packet, soon};
use procession_model::{LaunchId, Secret};
use procession_net::{Crowd, Dial, DialCause, DialError, Doorkeeper, Link, Listener, SessionCa, dial};
use procession_wire::{
    CLIENT_HELLO_LEN, CONFIRMATION, ClientHandshake, HandshakeError, MAC_LEN, SERVER_HELLO_LEN, VERSION,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

fn cause(result: Result<Link, DialError>) -> DialCause {
    let mut error = result.expect_err("it got in");
    assert_eq!(error.attempts.len(), 1, "{error}");
    error.attempts.remove(0).cause
}

#[tokio::test]
async fn the_first_address_that_leads_to_the_host_is_taken() {
    let host = Host::unix();
    let (mut how, _call_back) = host.expect();
    how.addresses.insert(0, "unix:/nowhere/at/all".parse().unwrap());
    how.addresses.insert(1, "tcp:127.0.0.1:1".parse().unwrap());
    assert!(soon(dial(&how)).await.is_ok());
    how.addresses.truncate(2);
    let error = soon(dial(&how)).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("unix:/nowhere/at/all: cannot connect") && text.contains("no certificates"),
        "{text}"
    );
    assert!(error.is_temporary());
}

#[tokio::test]
async fn how_to_dial_travels_and_shows_no_secret() {
    let host = Host::tcp().await;
    let (how, _call_back) = host.expect();
    let bytes = rmp_serde::to_vec_named(&how).unwrap();
    assert!(bytes.len() < 2048, "{} bytes have to fit into an environment variable", bytes.len());
    let back: Dial = rmp_serde::from_slice(&bytes).unwrap();
    assert_eq!(back, how);
    let shown = format!("{how:?}");
    assert!(shown.contains("Secret(…)") && shown.contains("ClientTls") && !shown.contains("key"), "{shown}");
    assert!(soon(dial(&back)).await.is_ok());
}

/// Connects to a host's socket without this crate.
async fn raw(host: &Host) -> UnixStream {
    UnixStream::connect(host.path()).await.unwrap()
}

/// Goes through the handshake by hand, and returns the connection and the bytes that went out.
async fn enter(host: &Host, how: &Dial) -> (UnixStream, Vec<u8>) {
    let (mut stream, sent) = be_accepted(host, how).await;
    stream.write_all(&CONFIRMATION).await.unwrap();
    (stream, [&sent[..], &CONFIRMATION].concat())
}

/// The same without the last word.
async fn be_accepted(host: &Host, how: &Dial) -> (UnixStream, Vec<u8>) {
    let mut stream = raw(host).await;
    let (handshake, hello) = ClientHandshake::new(how.launch, &how.token);
    stream.write_all(&hello).await.unwrap();
    let mut answer = [0; SERVER_HELLO_LEN];
    stream.read_exact(&mut answer).await.unwrap();
    let (waiting, proof) = handshake.server_hello(&answer).unwrap();
    stream.write_all(&proof).await.unwrap();
    let mut acceptance = [0; MAC_LEN];
    stream.read_exact(&mut acceptance).await.unwrap();
    waiting.accepted(&acceptance).unwrap();
    (stream, [&hello[..], &proof[..]].concat())
}

/// What comes back until the host closes.
async fn all_that_comes(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A host that closes with bytes unread resets the connection, which ends it just as well.
    let _ = soon(stream.read_to_end(&mut bytes)).await;
    bytes
}

/// A doorkeeper whose one token never wears out.
struct Forgetful(LaunchId, Secret, Mutex<Vec<Link>>);

impl Doorkeeper for Forgetful {
    fn token(&self, launch: LaunchId) -> Option<Secret> {
        (launch == self.0).then(|| self.1.clone())
    }
    fn claim(&self, launch: LaunchId) -> bool {
        launch == self.0
    }
    fn lease(&self, _: LaunchId) -> Duration {
        Duration::ZERO
    }
    fn admit(&self, _: LaunchId, link: Link) {
        self.2.lock().unwrap().push(link);
    }
}

/// Answers the first dialler with `answer(its hello)` and says how the dial went.
async fn dial_somebody_who_says(answer: impl FnOnce(Vec<u8>) -> Vec<u8>) -> DialCause {
    let directory = common::private_directory();
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let how = Dial {
        addresses: vec![procession_net::Address::unix(path).unwrap()],
        launch: LaunchId::fresh(),
        token: Secret::random(),
        tls: None,
        lease: Duration::ZERO,
    };
    let (result, _stream) = soon(async {
        tokio::join!(dial(&how), async {
            let mut stream = listener.accept().await.unwrap().0;
            let mut hello = vec![0; CLIENT_HELLO_LEN];
            stream.read_exact(&mut hello).await.unwrap();
            stream.write_all(&answer(hello)).await.unwrap();
            stream
        })
    })
    .await;
    cause(result)
}

#[tokio::test]
async fn a_dialler_gives_up_on_a_host_that_says_nothing() {
    let refused = dial_somebody_who_says(|_| Vec::new()).await;
    assert!(matches!(refused, DialCause::HandshakeDeadline), "{refused}");
}

#[tokio::test]
async fn a_host_that_is_too_busy_to_take_the_call_is_worth_another_one() {
    let directory = common::private_directory();
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = UnixStream::connect(&path).await {
        waiting.push(stream);
    }
    let how = Dial {
        addresses: vec![procession_net::Address::unix(path).unwrap()],
        launch: LaunchId::fresh(),
        token: Secret::random(),
        tls: None,
        lease: Duration::ZERO,
    };
    let refused = cause(soon(dial(&how)).await);
    assert!(
        matches!(&refused, DialCause::Connect(error) if error.kind() == std::io::ErrorKind::WouldBlock),
        "{refused}"
    );
    assert!(refused.is_temporary());
}

#[test]
fn a_host_id_that_cannot_stand_in_a_certificate_is_refused() {
    for id in ["", "a b", "127.0.0.1", "x\0", &"a".repeat(64)] {
        assert!(SessionCa::new(id).is_err(), "{id:?}");
    }
    assert!(SessionCa::new(procession_model::HostId::fresh("My Machine").as_str()).is_ok());
}

#[tokio::test]
async fn a_peer_that_leaves_in_the_middle_of_a_packet_is_an_error_and_then_the_end() {
    let host = Host::unix();
    let (how, mut call_back) = host.expect();
    let (mut stream, _) = enter(&host, &how).await;
    let mut host_end = soon(call_back.link()).await.unwrap();
    let sent = packet(5, vec![1; 100]);
    let mut whole = bytes::BytesMut::new();
    procession_wire::encode_prefix(&sent, &Default::default(), &mut whole).unwrap();
    whole.extend_from_slice(&sent.parts[0]);
    stream.write_all(&whole).await.unwrap();
    stream.write_all(&whole[..whole.len() - 1]).await.unwrap();
    drop(stream);
    assert_eq!(number(&soon(host_end.receiver.recv()).await.unwrap().unwrap()), 5);
    let error = soon(host_end.receiver.recv()).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("in the middle of a packet"), "{error}");
    assert!(soon(host_end.receiver.recv()).await.is_none());
}

#[tokio::test]
async fn the_token_of_one_who_left_before_it_came_in_is_still_good() {
    let host = Host::unix();
    let (how, mut call_back) = host.expect();
    for last_word in [&b""[..], b"?"] {
        let (mut stream, _) = be_accepted(&host, &how).await;
        stream.write_all(last_word).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(all_that_comes(&mut stream).await, b"");
    }
    assert!(soon(dial(&how)).await.is_ok());
    assert!(soon(call_back.link()).await.is_some());
}

mod f90 {
    use super::*;

    #[tokio::test]
    async fn a_wrong_token_is_refused_and_the_right_one_still_gets_in() {
        for host in Host::both().await {
            let (right, mut call_back) = host.expect();
            let wrong = Dial { token: Secret::random(), ..right.clone() };
            let refused = cause(soon(dial(&wrong)).await);
            assert!(
                matches!(refused, DialCause::Handshake(HandshakeError::Proof(launch)) if launch == right.launch)
            );
            assert!(soon(dial(&right)).await.is_ok());
            assert!(soon(call_back.link()).await.is_some());
        }
    }

    #[tokio::test]
    async fn a_flipped_bit_anywhere_in_what_is_sent_keeps_the_door_shut() {
        let host = Host::unix();
        let (how, _call_back) = host.expect();
        for byte in 0..CLIENT_HELLO_LEN + MAC_LEN {
            let mut stream = raw(&host).await;
            let (handshake, mut hello) = ClientHandshake::new(how.launch, &how.token);
            if byte < CLIENT_HELLO_LEN {
                hello[byte] ^= 1;
            }
            stream.write_all(&hello).await.unwrap();
            let mut answer = [0; SERVER_HELLO_LEN];
            if stream.read_exact(&mut answer).await.is_err() {
                continue;
            }
            let Ok((_, mut proof)) = handshake.server_hello(&answer) else { continue };
            proof[byte
                .checked_sub(CLIENT_HELLO_LEN)
                .unwrap_or_else(|| panic!("byte {byte} is proved by nobody"))] ^= 1;
            stream.write_all(&proof).await.unwrap();
            assert_eq!(all_that_comes(&mut stream).await, b"");
        }
        assert!(soon(dial(&how)).await.is_ok(), "none of them has used the token up");
    }

    #[tokio::test]
    async fn a_dialler_does_not_take_its_own_echo_for_the_host() {
        let refused = dial_somebody_who_says(|hello| hello).await;
        assert!(matches!(refused, DialCause::Handshake(HandshakeError::Role { .. })), "{refused}");
    }

    #[tokio::test]
    async fn a_dialler_is_not_fooled_by_a_host_without_the_token() {
        let refused = dial_somebody_who_says(|mut hello| {
            hello[10] = 2;
            hello.resize(SERVER_HELLO_LEN, 7);
            hello
        })
        .await;
        assert!(matches!(refused, DialCause::Handshake(HandshakeError::Proof(_))), "{refused}");
    }
}

mod f93 {
    use super::*;

    #[tokio::test]
    async fn a_launch_that_nobody_expects_is_refused() {
        for host in Host::both().await {
            let (how, call_back) = host.expect();
            drop(call_back);
            assert!(matches!(cause(soon(dial(&how)).await), DialCause::Refused));
        }
    }

    #[tokio::test]
    async fn of_many_who_dial_with_one_token_exactly_one_gets_in() {
        for host in Host::both().await {
            let (how, mut call_back) = host.expect();
            let dials: Vec<_> = (0..8)
                .map(|_| {
                    tokio::spawn({
                        let how = how.clone();
                        async move { dial(&how).await }
                    })
                })
                .collect();
            let host_end = soon(call_back.link()).await.unwrap();
            host_end.sender.post(packet(3, "to the one who is in")).unwrap();
            let mut inside = Vec::new();
            for task in dials {
                let mut link = match soon(task).await.unwrap() {
                    Ok(link) => link,
                    refused => {
                        assert!(matches!(cause(refused), DialCause::Refused));
                        continue;
                    }
                };
                // All may be accepted; those who confirmed too late see the end of their link at once.
                if let Some(Ok(received)) = soon(link.receiver.recv()).await {
                    inside.push((number(&received), link));
                }
            }
            assert!(matches!(inside[..], [(3, _)]), "{} got in", inside.len());
            assert!(matches!(cause(soon(dial(&how)).await), DialCause::Refused), "and later neither");
        }
    }
}

mod f92 {
    use super::*;

    #[tokio::test]
    async fn bytes_that_got_one_in_are_worth_nothing_in_another_connection() {
        let directory = common::private_directory();
        let doors = Arc::new(Forgetful(LaunchId::fresh(), Secret::random(), Mutex::default()));
        let serving =
            Listener::unix(directory.path().join("s")).unwrap().serve(doors.clone(), &Crowd::default());
        let host = Host { call_backs: Arc::default(), serving, ca: None, directory: Some(directory) };
        let how = Dial {
            addresses: vec![],
            launch: doors.0,
            token: doors.1.clone(),
            tls: None,
            lease: Duration::ZERO,
        };
        let (_stream, sent) = enter(&host, &how).await;
        let inside = |count| {
            let doors = Arc::clone(&doors);
            soon(async move {
                while doors.2.lock().unwrap().len() != count {
                    tokio::task::yield_now().await;
                }
            })
        };
        inside(1).await;
        let mut replay = raw(&host).await;
        replay.write_all(&sent).await.unwrap();
        assert_eq!(all_that_comes(&mut replay).await.len(), SERVER_HELLO_LEN, "a hello and no acceptance");
        assert_eq!(doors.2.lock().unwrap().len(), 1);
        enter(&host, &how).await;
        inside(2).await; // the doorkeeper was willing all the time
    }
}

mod f97 {
    use super::*;

    #[tokio::test]
    async fn a_peer_of_another_version_learns_which_one_is_spoken_here() {
        let host = Host::unix();
        let (how, _call_back) = host.expect();
        let (_, mut hello) = ClientHandshake::new(how.launch, &how.token);
        hello[8..10].copy_from_slice(&77_u16.to_le_bytes());
        let mut stream = raw(&host).await;
        // Its hello may be shorter than ours: what tells the version has to do.
        stream.write_all(&hello[..12]).await.unwrap();
        let answer = all_that_comes(&mut stream).await;
        assert_eq!(answer.len(), SERVER_HELLO_LEN);
        assert_eq!(answer[8..10], VERSION.to_le_bytes());
        assert!(answer[12..].iter().all(|&byte| byte == 0), "and proves nothing");
    }

    #[tokio::test]
    async fn a_dialler_tells_its_user_both_versions() {
        let refused = dial_somebody_who_says(|mut hello| {
            hello[8..10].copy_from_slice(&9_u16.to_le_bytes());
            hello.truncate(12);
            hello
        })
        .await;
        assert!(!refused.is_temporary());
        let text = refused.to_string();
        assert!(text.contains("version 9") && text.contains(&format!("version {VERSION}")), "{text}");
    }
}

mod f104 {
    use super::*;

    #[tokio::test]
    async fn somebody_elses_certificates_do_not_get_in() {
        let host = Host::tcp().await;
        let ca = host.ca.as_ref().unwrap();
        let (how, _call_back) = host.expect();
        let good = how.tls.clone().unwrap();
        let other_ca = SessionCa::new(&good.server_name).unwrap();

        let stranger = Dial { tls: Some(other_ca.issue(how.launch).unwrap()), ..how.clone() };
        assert!(
            matches!(cause(soon(dial(&stranger)).await), DialCause::Tls(_)),
            "the host is none of this authority"
        );

        let mut forged = other_ca.issue(how.launch).unwrap();
        forged.ca = good.ca.clone();
        let refused = cause(soon(dial(&Dial { tls: Some(forged), ..how.clone() })).await);
        assert!(matches!(refused, DialCause::Tls(_) | DialCause::Refused), "{refused}");

        let neighbour = Dial { tls: Some(ca.issue(LaunchId::fresh()).unwrap()), ..how.clone() };
        assert!(
            matches!(cause(soon(dial(&neighbour)).await), DialCause::Refused),
            "another launch's certificate"
        );

        let mut elsewhere = good.clone();
        elsewhere.server_name = "other-host".into();
        let refused = cause(soon(dial(&Dial { tls: Some(elsewhere), ..how.clone() })).await);
        assert!(matches!(refused, DialCause::Tls(_)) && !refused.is_temporary(), "{refused}");

        let plain = Dial { tls: None, ..how.clone() };
        assert!(matches!(cause(soon(dial(&plain)).await), DialCause::NoTls));

        assert!(soon(dial(&how)).await.is_ok(), "none of them has used the token up");
    }

    #[tokio::test]
    async fn the_host_is_known_by_its_id_at_whatever_address() {
        let host = Host::tcp().await;
        for name in ["127.0.0.1", "localhost"] {
            let (mut how, _call_back) = host.expect();
            how.addresses = vec![format!("tcp:{name}:{}", host.port()).parse().unwrap()];
            assert!(soon(dial(&how)).await.is_ok(), "{name}");
        }
    }
}

mod f89 {
    use super::*;

    #[tokio::test]
    async fn a_frame_that_promises_too_much_ends_the_link_before_memory_is_taken() {
        let host = Host::unix();
        for (length, needle) in
            [(1_u64 << 56, "over the limit"), (u64::MAX, "over the limit"), (0, "pieces make")]
        {
            let (how, mut call_back) = host.expect();
            let (mut stream, _) = enter(&host, &how).await;
            let mut host_end = soon(call_back.link()).await.unwrap();
            let mut frame = vec![0xf5, 0x50, 0, 0, 10, 0, 0, 0];
            frame.extend_from_slice(&length.to_le_bytes());
            stream.write_all(&frame).await.unwrap();
            let error = soon(host_end.receiver.recv()).await.unwrap().unwrap_err().to_string();
            assert!(error.contains(needle), "{error}");
            assert!(soon(host_end.receiver.recv()).await.is_none());
            assert!(host_end.sender.is_closed());
        }
    }
}

mod f88 {
    use super::*;

    /// The next number of a sequence that looks like chance.
    fn roll(dice: &mut u64) -> usize {
        *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*dice >> 33) as usize
    }

    #[tokio::test]
    async fn frames_that_were_changed_end_their_link_and_no_other() {
        let host = Host::unix();
        let (other_proc, mut other_host) = soon(host.link()).await;
        let mut good = bytes::BytesMut::new();
        for index in 0..3 {
            let sent = packet(index, vec![index as u8; 20]);
            procession_wire::encode_prefix(&sent, &Default::default(), &mut good).unwrap();
            good.extend_from_slice(&sent.parts[0]);
        }
        let (mut dice, mut refused) = (1, 0);
        for round in 0..1000 {
            let mut frames = good.to_vec();
            for _ in 0..=roll(&mut dice) % 4 {
                let at = roll(&mut dice) % frames.len();
                frames[at] = roll(&mut dice) as u8;
            }
            let (how, mut call_back) = host.expect();
            let (mut stream, _) = enter(&host, &how).await;
            let mut host_end = soon(call_back.link()).await.unwrap();
            // A host that has had enough may close before all is written.
            let _ = stream.write_all(&frames).await;
            drop(stream);
            let mut last = None;
            while let Some(received) = soon(host_end.receiver.recv()).await {
                assert!(last.is_none_or(|ok| ok), "round {round}: something follows an error");
                last = Some(received.is_ok());
            }
            refused += usize::from(last == Some(false));
            assert!(host_end.sender.is_closed());
        }
        assert!(refused > 300, "{refused} of 1,000 were refused");
        other_proc.sender.post(packet(4, "untouched")).unwrap();
        assert_eq!(number(&soon(other_host.receiver.recv()).await.unwrap().unwrap()), 4);
    }
}

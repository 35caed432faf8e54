//! Both ends prove that they have the token, or neither is let in.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use procession_model::{LaunchId, Secret};
use procession_wire::{
    CLIENT_HELLO_LEN, ClientHandshake, HandshakeError, MAC_LEN, SERVER_HELLO_LEN, ServerHandshake, VERSION,
};
use proptest::prelude::*;

/// All four messages of one handshake, one after the other.
const ALL: usize = CLIENT_HELLO_LEN + SERVER_HELLO_LEN + MAC_LEN + MAC_LEN;

/// Runs a handshake in which `change` sees each message, with its place in the whole, on its way.
/// Says how it went for the server, if it came so far, and for the client.
fn run(
    launch: LaunchId,
    client_token: &Secret,
    server_token: &Secret,
    mut change: impl FnMut(usize, &mut [u8]),
) -> (Option<Result<LaunchId, HandshakeError>>, Result<(), HandshakeError>) {
    let (client, mut hello) = ClientHandshake::new(launch, client_token);
    change(0, &mut hello);
    let gone = || Err(HandshakeError::UnknownLaunch(launch));
    let server = match ServerHandshake::client_hello(&hello) {
        Ok(server) => server,
        Err(error) => return (Some(Err(error)), gone()),
    };
    let named = server.launch();
    let (server, mut hello) = server.answer(server_token);
    change(CLIENT_HELLO_LEN, &mut hello);
    let (client, mut proof) = match client.server_hello(&hello) {
        Ok(next) => next,
        Err(error) => return (None, Err(error)),
    };
    change(CLIENT_HELLO_LEN + SERVER_HELLO_LEN, &mut proof);
    match server.proof(&proof) {
        Ok((mut acceptance, _)) => {
            change(ALL - MAC_LEN, &mut acceptance);
            (Some(Ok(named)), client.accepted(&acceptance).map(drop))
        }
        Err(error) => (Some(Err(error)), gone()),
    }
}

#[test]
fn two_ends_with_one_token_trust_each_other() {
    let (launch, token) = (LaunchId::fresh(), Secret::random());
    assert_eq!(run(launch, &token, &token, |_, _| {}), (Some(Ok(launch)), Ok(())));
}

#[test]
fn hellos_are_small_and_of_fixed_size() {
    const { assert!(CLIENT_HELLO_LEN <= 128 && SERVER_HELLO_LEN <= 128 && MAC_LEN <= 128) };
}

/// Has both ends agree, and gives the secret of each.
fn agree(start: (ClientHandshake, [u8; CLIENT_HELLO_LEN]), secret: &Secret) -> (Secret, Secret) {
    let (server, hello) = ServerHandshake::client_hello(&start.1).unwrap().answer(secret);
    let (client, proof) = start.0.server_hello(&hello).unwrap();
    let (acceptance, theirs) = server.proof(&proof).unwrap();
    (client.accepted(&acceptance).unwrap(), theirs)
}

#[test]
fn two_ends_that_trust_each_other_share_a_secret_with_which_one_can_come_back() {
    let (launch, token) = (LaunchId::fresh(), Secret::random());
    let (ours, theirs) = agree(ClientHandshake::new(launch, &token), &token);
    assert!(ours == theirs && ours != token);
    let (again, _) = agree(ClientHandshake::new(launch, &token), &token);
    assert!(again != ours, "another session has another one");

    let (client, hello) = ClientHandshake::resume(launch, &ours);
    let server = ServerHandshake::client_hello(&hello).unwrap();
    assert!(server.resumes() && server.launch() == launch);
    assert!(!ServerHandshake::client_hello(&ClientHandshake::new(launch, &token).1).unwrap().resumes());
    agree((client, hello), &theirs);
    let (client, _) = ClientHandshake::resume(launch, &token);
    let refused = client.server_hello(&server.answer(&theirs).1).err();
    assert_eq!(refused, Some(HandshakeError::Proof(launch)), "the token is of no use for that");
}

#[test]
fn no_two_handshakes_share_a_byte_that_matters() {
    let (launch, token) = (LaunchId::fresh(), Secret::random());
    let mut seen = [Vec::new(), Vec::new()];
    for messages in &mut seen {
        run(launch, &token, &token, |_, message| messages.push(message.to_vec())).1.unwrap();
    }
    for (a, b) in seen[0].iter().zip(&seen[1]) {
        assert_ne!(a[a.len() - 32..], b[b.len() - 32..]);
    }
}

mod f90 {
    use super::*;

    #[test]
    fn an_end_with_another_token_proves_nothing() {
        let launch = LaunchId::fresh();
        let (server, client) = run(launch, &Secret::random(), &Secret::random(), |_, _| {});
        assert_eq!(server, None, "the client has not even answered");
        assert_eq!(client, Err(HandshakeError::Proof(launch)));
    }

    #[test]
    fn proofs_of_one_handshake_are_worth_nothing_in_another() {
        let (launch, token) = (LaunchId::fresh(), Secret::random());
        for place in [CLIENT_HELLO_LEN, CLIENT_HELLO_LEN + SERVER_HELLO_LEN, ALL - MAC_LEN] {
            let mut recorded = Vec::new();
            run(launch, &token, &token, |at, message| {
                if at == place {
                    recorded = message.to_vec();
                }
            })
            .1
            .unwrap();
            let (server, client) = run(launch, &token, &token, |at, message| {
                if at == place {
                    message.copy_from_slice(&recorded);
                }
            });
            assert!(client.is_err(), "at {place}");
            assert_eq!(server.is_some_and(|result| result.is_ok()), place == ALL - MAC_LEN);
        }
    }

    #[test]
    fn an_end_is_not_fooled_by_its_own_words() {
        let (launch, token) = (LaunchId::fresh(), Secret::random());
        let (client, hello) = ClientHandshake::new(launch, &token);
        let mut echo = [0; SERVER_HELLO_LEN];
        echo[..CLIENT_HELLO_LEN].copy_from_slice(&hello);
        assert_eq!(client.server_hello(&echo).err(), Some(HandshakeError::Role { found: 1, expected: 2 }));
        let (_, hello) = ServerHandshake::client_hello(&hello).unwrap().answer(&token);
        let mut echo = [0; CLIENT_HELLO_LEN];
        echo.copy_from_slice(&hello[..CLIENT_HELLO_LEN]);
        assert_eq!(
            ServerHandshake::client_hello(&echo).err(),
            Some(HandshakeError::Role { found: 2, expected: 1 })
        );
        let (server, hello) =
            ServerHandshake::client_hello(&ClientHandshake::new(launch, &token).1).unwrap().answer(&token);
        let mut proof = [0; MAC_LEN];
        proof.copy_from_slice(&hello[SERVER_HELLO_LEN - MAC_LEN..]);
        assert_eq!(
            server.proof(&proof).err(),
            Some(HandshakeError::Proof(launch)),
            "its own proof comes back"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_byte_that_is_changed_anywhere_keeps_one_end_from_trusting(at in 0..ALL, flip in 1..=255_u8) {
            let (launch, token) = (LaunchId::fresh(), Secret::random());
            let (server, client) = run(launch, &token, &token, |start, message| {
                if let Some(byte) = at.checked_sub(start).and_then(|index| message.get_mut(index)) {
                    *byte ^= flip;
                }
            });
            prop_assert!(client.is_err());
            // Only the last message may be lost on a client whose server trusts it, and rightly.
            prop_assert_eq!(server.is_some_and(|result| result.is_ok()), at >= ALL - MAC_LEN);
        }
    }
}

mod f97 {
    use super::*;

    #[test]
    fn ends_of_two_versions_each_learn_both() {
        let (launch, token) = (LaunchId::fresh(), Secret::random());
        let error = HandshakeError::Version { ours: VERSION, theirs: 300 };
        let theirs = 300_u16.to_le_bytes();
        let (server, _) = run(launch, &token, &token, |at, message| {
            if at == 0 {
                message[8..10].copy_from_slice(&theirs);
            }
        });
        assert_eq!(server, Some(Err(error.clone())));
        let mut notice = ServerHandshake::version_notice();
        notice[8..10].copy_from_slice(&theirs);
        for length in 10..SERVER_HELLO_LEN {
            assert_eq!(ClientHandshake::check(&notice[..length]), Err(error.clone()), "however short it is");
        }
        let text = error.to_string();
        assert!(text.contains("300") && text.contains(&VERSION.to_string()), "{text}");
    }
}

mod f86 {
    use super::*;

    #[test]
    fn a_stranger_is_known_by_its_first_byte() {
        for words in [&b"GET / HTTP/1.1"[..], b"SSH-2.0-x", &[0x16, 3, 1], &[0], &[255; 8]] {
            for length in 1..=words.len() {
                assert!(ServerHandshake::check(&words[..length]).is_err(), "{words:?}");
                assert!(ClientHandshake::check(&words[..length]).is_err(), "{words:?}");
            }
        }
        let (_, hello) = ClientHandshake::new(LaunchId::fresh(), &Secret::random());
        for length in 0..=hello.len() {
            assert_eq!(ServerHandshake::check(&hello[..length]), Ok(()));
        }
    }
}

//! Five messages, after which both ends know that the other has the launch's token:
//!
//! ```text
//! dials                                      listens
//! client hello: launch, nonce          →
//!                                      ←     server hello: nonce, proof
//! proof                                →
//!                                      ←     acceptance
//! confirmation                         →
//! ```
//!
//! Each proof is an HMAC-SHA256 with the token over the sender's role and all bytes so far, so
//! none is of use in another connection, in the other direction or at another step. The acceptance
//! tells the dialler that it can come in, and the confirmation the listener that it has: only that uses the
//! token up, so a dialler who did not wait long enough for the acceptance can dial again. Both ends then share the secret of their
//! session, with which the dialler proves itself when it comes back after a lost connection.

use procession_model::{LaunchId, Secret};
use ring::hmac;

use crate::HandshakeError;
use crate::hello::{
    CLIENT_HELLO_LEN, DIALLERS, MAC_LEN, NONCE_LEN, Role, SERVER_HELLO_LEN, check_front, read_client,
    read_server, split_server, write_client, write_server,
};

const SERVER_LABEL: &[u8] = b"procession 1 server proof";
const CLIENT_LABEL: &[u8] = b"procession 1 client proof";
const ACCEPT_LABEL: &[u8] = b"procession 1 acceptance";
const SESSION_LABEL: &[u8] = b"procession 1 session";

/// What a dialler who was accepted sends; it proves nothing, as the proofs have all been given.
pub const CONFIRMATION: [u8; 1] = [b'!'];

/// All bytes that went over the connection, and the key that proves them.
struct Transcript {
    key: hmac::Key,
    launch: LaunchId,
    bytes: Vec<u8>,
}

impl Transcript {
    fn new(token: &Secret, launch: LaunchId, hello: &[u8; CLIENT_HELLO_LEN]) -> Self {
        let mut bytes = Vec::with_capacity(CLIENT_HELLO_LEN + SERVER_HELLO_LEN + MAC_LEN);
        bytes.extend_from_slice(hello);
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, token.expose()), launch, bytes }
    }

    fn labelled(&self, label: &[u8]) -> Vec<u8> {
        [label, &self.bytes].concat()
    }

    /// The proof of everything so far, which then becomes part of it.
    fn prove(&mut self, label: &[u8]) -> [u8; MAC_LEN] {
        let tag = hmac::sign(&self.key, &self.labelled(label));
        let mut proof = [0; MAC_LEN];
        proof.copy_from_slice(tag.as_ref());
        self.bytes.extend_from_slice(&proof);
        proof
    }

    /// What only the two ends can know, once both have proved themselves.
    fn session(&self) -> Secret {
        let tag = hmac::sign(&self.key, &self.labelled(SESSION_LABEL));
        let mut secret = [0; MAC_LEN];
        secret.copy_from_slice(tag.as_ref());
        Secret::from_bytes(secret)
    }

    /// Checks the peer's proof of everything so far, in constant time.
    fn verify(&mut self, label: &[u8], proof: &[u8]) -> Result<(), HandshakeError> {
        hmac::verify(&self.key, &self.labelled(label), proof)
            .map_err(|_| HandshakeError::Proof(self.launch))?;
        self.bytes.extend_from_slice(proof);
        Ok(())
    }
}

/// The dialling end, which has said hello.
pub struct ClientHandshake(Transcript);

/// The dialling end, which has proved itself and waits to be accepted.
pub struct ClientWaiting(Transcript);

impl ClientHandshake {
    /// Starts a handshake for `launch`; the bytes are the first message.
    pub fn new(launch: LaunchId, token: &Secret) -> (Self, [u8; CLIENT_HELLO_LEN]) {
        Self::start(Role::Dials, launch, token)
    }

    /// Starts a handshake for a session that has lost its connection; it is proved with the session's
    /// secret, not with the token, which is used up.
    pub fn resume(launch: LaunchId, session: &Secret) -> (Self, [u8; CLIENT_HELLO_LEN]) {
        Self::start(Role::Resumes, launch, session)
    }

    fn start(role: Role, launch: LaunchId, secret: &Secret) -> (Self, [u8; CLIENT_HELLO_LEN]) {
        let hello = write_client(role, launch, &nonce());
        (Self(Transcript::new(secret, launch, &hello)), hello)
    }

    /// Judges as much of the server's hello as has arrived, so that an end of another kind or
    /// version is recognised by its first bytes.
    ///
    /// # Errors
    /// These bytes cannot become a hello.
    pub fn check(front: &[u8]) -> Result<(), HandshakeError> {
        check_front(front, &[Role::Listens])
    }

    /// Takes the server's hello; the bytes are the next message.
    ///
    /// # Errors
    /// The server is none of ours, speaks another version, or does not have the token.
    pub fn server_hello(
        self,
        hello: &[u8; SERVER_HELLO_LEN],
    ) -> Result<(ClientWaiting, [u8; MAC_LEN]), HandshakeError> {
        let Self(mut transcript) = self;
        read_server(hello)?;
        let (front, proof) = split_server(hello);
        transcript.bytes.extend_from_slice(front);
        transcript.verify(SERVER_LABEL, proof)?;
        let proof = transcript.prove(CLIENT_LABEL);
        Ok((ClientWaiting(transcript), proof))
    }
}

impl ClientWaiting {
    /// Takes the server's acceptance, which ends the handshake; gives the secret of the session.
    ///
    /// # Errors
    /// It was not made by the holder of the token.
    pub fn accepted(self, proof: &[u8; MAC_LEN]) -> Result<Secret, HandshakeError> {
        let Self(mut transcript) = self;
        transcript.verify(ACCEPT_LABEL, proof)?;
        Ok(transcript.session())
    }
}

/// The listening end, which has heard a plausible hello.
pub struct ServerHandshake {
    launch: LaunchId,
    resumes: bool,
    hello: [u8; CLIENT_HELLO_LEN],
}

/// The listening end, which has answered and waits for the dialler's proof.
pub struct ServerWaiting(Transcript);

impl ServerHandshake {
    /// Judges as much of a dialler's hello as has arrived; see [`ClientHandshake::check`].
    ///
    /// # Errors
    /// These bytes cannot become a hello.
    pub fn check(front: &[u8]) -> Result<(), HandshakeError> {
        check_front(front, DIALLERS)
    }

    /// Takes a dialler's hello.
    ///
    /// # Errors
    /// The dialler is none of ours or speaks another version. It gets [`Self::version_notice`] in
    /// the latter case, and nothing in the former.
    pub fn client_hello(hello: &[u8; CLIENT_HELLO_LEN]) -> Result<Self, HandshakeError> {
        let (launch, resumes) = read_client(hello)?;
        Ok(Self { launch, resumes, hello: *hello })
    }

    /// A server hello that proves nothing and tells a dialler of another version which one this
    /// end speaks.
    pub fn version_notice() -> [u8; SERVER_HELLO_LEN] {
        write_server(&[0; NONCE_LEN])
    }

    /// The launch that the dialler says it is.
    pub fn launch(&self) -> LaunchId {
        self.launch
    }

    /// Whether a session of that launch shall go on; then its secret takes the token's place.
    pub fn resumes(&self) -> bool {
        self.resumes
    }

    /// Answers with the proof that this end has the launch's token; the bytes are the next message.
    pub fn answer(self, token: &Secret) -> (ServerWaiting, [u8; SERVER_HELLO_LEN]) {
        let mut transcript = Transcript::new(token, self.launch, &self.hello);
        let mut hello = write_server(&nonce());
        let front = SERVER_HELLO_LEN - MAC_LEN;
        transcript.bytes.extend_from_slice(&hello[..front]);
        let proof = transcript.prove(SERVER_LABEL);
        hello[front..].copy_from_slice(&proof);
        (ServerWaiting(transcript), hello)
    }
}

impl ServerWaiting {
    /// Takes the dialler's proof; gives the acceptance, to be sent once the token has been taken out of
    /// use, and the secret of the session.
    ///
    /// # Errors
    /// The dialler does not have the token, or repeats bytes of another connection.
    pub fn proof(self, proof: &[u8; MAC_LEN]) -> Result<([u8; MAC_LEN], Secret), HandshakeError> {
        let Self(mut transcript) = self;
        transcript.verify(CLIENT_LABEL, proof)?;
        let acceptance = transcript.prove(ACCEPT_LABEL);
        Ok((acceptance, transcript.session()))
    }
}

/// 256 bits that were never used before.
fn nonce() -> [u8; NONCE_LEN] {
    *Secret::random().expose()
}

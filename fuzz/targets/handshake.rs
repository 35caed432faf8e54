//! What strangers say at either end of a connection.

use procession_model::{LaunchId, Secret};
use procession_wire::{CLIENT_HELLO_LEN, ClientHandshake, MAC_LEN, SERVER_HELLO_LEN, ServerHandshake};

/// Whatever is said, who does not have the token is not trusted; and what is refused is refused at its first bytes,
/// or when it is whole.
pub(crate) fn run(data: &[u8]) {
    if let (Some((hello, rest)), token) = (data.split_first_chunk::<CLIENT_HELLO_LEN>(), Secret::random()) {
        let front_is_good = (0..=CLIENT_HELLO_LEN).all(|end| ServerHandshake::check(&hello[..end]).is_ok());
        let server = ServerHandshake::client_hello(hello);
        assert_eq!(front_is_good, server.is_ok());
        if let (Ok(server), Some((proof, _))) = (server, rest.split_first_chunk::<MAC_LEN>()) {
            let (waiting, _) = server.answer(&token);
            assert!(waiting.proof(proof).is_err(), "a proof without the token");
        }
    }
    if let Some((hello, _)) = data.split_first_chunk::<SERVER_HELLO_LEN>() {
        let (client, _) = ClientHandshake::new(LaunchId::fresh(), &Secret::random());
        (0..=SERVER_HELLO_LEN).for_each(|end| drop(ClientHandshake::check(&hello[..end])));
        assert!(client.server_hello(hello).is_err(), "a host without the token");
    }
}

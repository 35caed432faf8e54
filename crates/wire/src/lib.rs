//! Bytes on a connection: frames, packets and the handshake, without input or output.

//! Connections between processes over unix sockets and over TCP with TLS.

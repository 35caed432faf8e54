use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use procession_net::{Address, InvalidAddress};
use tokio::net::{UdpSocket, lookup_host};

/// The host and the port in `HOST:PORT`, `tcp:HOST:PORT` or `tcp://HOST:PORT`.
pub(super) fn parse(text: &str) -> Result<(String, u16), InvalidAddress> {
    let rest = text.strip_prefix("tcp:").unwrap_or(text);
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let shift = text.len() - rest.len();
    let moved = |error: InvalidAddress| InvalidAddress {
        text: text.to_owned(),
        position: error.position + shift,
        rule: error.rule,
    };
    match Address::tcp(rest).map_err(moved)? {
        Address::Tcp { host, port } => Ok((host, port)),
        _ => unreachable!("only this variant is parsed"),
    }
}

/// As it is bound, and as it is shown.
pub(super) fn shown(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// All that `host` stands for, so that it is known later which of them has answered.
pub(super) async fn resolved(host: &str, port: u16) -> io::Result<Vec<Address>> {
    let found = lookup_host((host, port)).await?;
    Ok(found.map(|found| Address::Tcp { host: found.ip().to_string(), port: found.port() }).collect())
}

/// The address of this machine from which `address` is reached, and which leads back from there. Sends nothing.
pub(super) async fn this_side_of(address: &str) -> io::Result<IpAddr> {
    let (host, port) = parse(address).map_err(io::Error::other)?;
    let there = SocketAddr::new(host.parse().map_err(io::Error::other)?, port);
    let any: IpAddr =
        if there.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(there).await?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_in_each_of_its_forms_and_a_bad_one_refused_as_it_was_given() {
        for text in ["10.0.0.2:7000", "tcp:10.0.0.2:7000", "tcp://10.0.0.2:7000"] {
            assert_eq!(parse(text).unwrap(), ("10.0.0.2".to_owned(), 7000));
        }
        assert_eq!(parse("tcp://[::1]:7").unwrap(), ("::1".to_owned(), 7));
        assert_eq!(shown("::1", 7), "[::1]:7");
        for (text, position) in
            [("", 0), ("host", 4), ("tcp://host:x", 11), ("tcp://:1", 6), ("udp://h:1", 0)]
        {
            let error = parse(text).unwrap_err();
            assert_eq!((error.text.as_str(), error.position), (text, position), "{error}");
        }
    }

    #[tokio::test]
    async fn the_loopback_is_reached_from_the_loopback() {
        assert_eq!(this_side_of("tcp:127.0.0.1:9").await.unwrap(), Ipv4Addr::LOCALHOST);
        if let Ok(found) = this_side_of("tcp:[::1]:9").await {
            assert_eq!(found, Ipv6Addr::LOCALHOST);
        }
    }
}

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest path that fits into a unix socket's address.
const MAX_PATH: usize = 107;

/// Where a host can be dialled: `unix:/run/x.sock`, `tcp:127.0.0.1:80`, `tcp:[::1]:80`.
///
/// It travels as this text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A port of a host, which is a name or an IP address (without brackets).
    Tcp {
        /// The name or the address.
        host: String,
        /// The port; 0 only where any free one shall be bound.
        port: u16,
    },
}

/// A text that is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address: at byte {position}, {rule}")]
pub struct InvalidAddress {
    /// What was given.
    pub text: String,
    /// Where it goes wrong.
    pub position: usize,
    /// What should stand there.
    pub rule: &'static str,
}

impl Address {
    /// A socket at `path`.
    ///
    /// # Errors
    /// The path is relative, has a NUL, or is longer than the 107 bytes that the kernel takes.
    pub fn unix(path: impl Into<PathBuf>) -> Result<Self, InvalidAddress> {
        let path = path.into();
        check_path(&path).map_err(|(position, rule)| InvalidAddress {
            text: path.display().to_string(),
            position,
            rule,
        })?;
        Ok(Self::Unix(path))
    }

    /// A port at `text`, which is `host:port` or `[ipv6]:port`.
    ///
    /// # Errors
    /// The host is empty or not in brackets where it must be, or the port is not in 0..=65535.
    pub fn tcp(text: &str) -> Result<Self, InvalidAddress> {
        parse_tcp(text).map_err(|(position, rule)| InvalidAddress { text: text.to_owned(), position, rule })
    }
}

fn check_path(path: &Path) -> Result<(), (usize, &'static str)> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.first() == Some(&b'@') {
        return Err((0, "an abstract socket is open to every user of the machine; give a path"));
    }
    if bytes.first() != Some(&b'/') {
        return Err((0, "a socket needs an absolute path, which starts with /"));
    }
    if let Some(position) = bytes.iter().position(|&byte| byte == 0) {
        return Err((position, "a path cannot have a NUL byte"));
    }
    if bytes.len() > MAX_PATH {
        return Err((MAX_PATH, "the path of a socket ends after 107 bytes at most; use a shorter directory"));
    }
    Ok(())
}

fn parse_tcp(text: &str) -> Result<Address, (usize, &'static str)> {
    const PORT: &str = "a port is a number in 0..=65535";
    let (host, rest, at) = if let Some(inner) = text.strip_prefix('[') {
        let end = inner.find(']').ok_or((text.len(), "the bracket around an IPv6 address is not closed"))?;
        if inner[..end].parse::<std::net::Ipv6Addr>().is_err() {
            return Err((1, "only an IPv6 address stands in brackets"));
        }
        (&inner[..end], &inner[end + 1..], end + 2)
    } else {
        let end = text.find(':').unwrap_or(text.len());
        (&text[..end], &text[end..], end)
    };
    if rest.matches(':').count() > 1 && !text.starts_with('[') {
        return Err((0, "an IPv6 address stands in brackets, as in [::1]:80"));
    }
    if host.is_empty() {
        return Err((0, "the host is missing; 127.0.0.1 is this machine"));
    }
    let digits = rest.strip_prefix(':').ok_or((at, "`:` and a port follow the host"))?;
    if let Some(position) = host.find(|c: char| !(c.is_ascii_alphanumeric() || ".-_:".contains(c))) {
        return Err((position, "a host is a name or an IP address"));
    }
    let port_at = at + 1;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err((port_at, PORT));
    }
    let port = digits.parse().map_err(|_| (port_at, PORT))?;
    Ok(Address::Tcp { host: host.to_owned(), port })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
        }
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let (scheme, parsed) = if let Some(path) = text.strip_prefix("unix:") {
            ("unix:", check_path(Path::new(path)).map(|()| Self::Unix(path.into())))
        } else if let Some(rest) = text.strip_prefix("tcp:") {
            ("tcp:", parse_tcp(rest))
        } else {
            ("", Err((0, "an address starts with unix: or tcp:")))
        };
        parsed.map_err(|(position, rule)| InvalidAddress {
            text: text.to_owned(),
            position: scheme.len() + position,
            rule,
        })
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Self::Unix(path) = self
            && path.to_str().is_none()
        {
            return Err(serde::ser::Error::custom("the path of a socket must be valid UTF-8 to be sent"));
        }
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip_through_their_text() {
        for text in
            ["unix:/run/x.sock", "tcp:127.0.0.1:80", "tcp:[::1]:80", "tcp:node-1.lan:65535", "tcp:h:0"]
        {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("tcp:[::1]:80".parse(), Ok(Address::Tcp { host: "::1".into(), port: 80 }));
    }

    #[test]
    fn a_bad_address_is_refused_with_the_place_and_the_rule() {
        let long = format!("unix:/{}", "x".repeat(107));
        for (text, position, needle) in [
            ("", 0, "unix: or tcp:"),
            ("udp:x:1", 0, "unix: or tcp:"),
            ("unix:", 5, "absolute path"),
            ("unix:x.sock", 5, "absolute path"),
            ("unix:@abstract", 5, "abstract"),
            ("unix:/a\0b", 7, "NUL"),
            (long.as_str(), 5 + 107, "107 bytes"),
            ("tcp:", 4, "host is missing"),
            ("tcp::80", 4, "host is missing"),
            ("tcp:host", 8, "a port follow"),
            ("tcp:host:", 9, "0..=65535"),
            ("tcp:host:-1", 9, "0..=65535"),
            ("tcp:host:+1", 9, "0..=65535"),
            ("tcp:host:65536", 9, "0..=65535"),
            ("tcp:host:x", 9, "0..=65535"),
            ("tcp:::1:80", 4, "brackets"),
            ("tcp:::1", 4, "brackets"),
            ("tcp:fe80::1:80", 4, "brackets"),
            ("tcp:[::1:80", 11, "not closed"),
            ("tcp:[::1]80", 9, "a port follow"),
            ("tcp:[host]:80", 5, "only an IPv6"),
            ("tcp:ho st:80", 6, "name or an IP"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert_eq!(error.position, position, "{error}");
            assert!(error.rule.contains(needle), "{error}");
        }
        assert!(format!("unix:/{}", "x".repeat(106)).parse::<Address>().is_ok());
    }
}

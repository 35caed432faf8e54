//! Over netlink, in the few messages that an address needs.

use std::io;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, socket};

use crate::at;

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
/// Of the flags of a request: it is one, is to be answered, and makes what is not there.
const REQUEST: u16 = 0x1 | 0x4 | 0x400;
const IPV4: u8 = 2;
/// The loopback is always the first.
const LOOPBACK: u32 = 1;
/// What QEMU gives to the one machine of its user network: the address, the way out, and who answers for names.
const OWN: [u8; 4] = [10, 0, 2, 15];
const GATEWAY: [u8; 4] = [10, 0, 2, 2];
const NAMES: &str = "nameserver 10.0.2.3\n";

/// Brings the loopback up, and the first card where there is to be a network.
pub(crate) fn up(outside: bool) -> Result<(), String> {
    at("the loopback", ask(NEW_LINK, &link(LOOPBACK)))?;
    if !outside {
        return Ok(());
    }
    let card = crate::agent::appears("the network card", || {
        std::fs::read_to_string("/sys/class/net/eth0/ifindex").ok()?.trim().parse::<u32>().ok()
    })?;
    at("the address of the network card", ask(NEW_ADDRESS, &address(card)))?;
    at("the network card", ask(NEW_LINK, &link(card)))?;
    at("the default route", ask(NEW_ROUTE, &default_route(card)))?;
    at(
        "/etc/resolv.conf",
        std::fs::create_dir_all("/etc").and_then(|()| std::fs::write("/etc/resolv.conf", NAMES)),
    )
}

/// An `ifinfomsg` that sets IFF_UP.
fn link(index: u32) -> Vec<u8> {
    [[0; 4], index.to_ne_bytes(), 1u32.to_ne_bytes(), 1u32.to_ne_bytes()].concat()
}

/// An `ifaddrmsg` for a network of 24 bits.
fn address(index: u32) -> Vec<u8> {
    let head = [&[IPV4, 24, 0, 0][..], &index.to_ne_bytes()].concat();
    [head, attribute(1, OWN), attribute(2, OWN)].concat()
}

/// An `rtmsg` of the main table: static, of all the world, to one neighbour.
fn default_route(index: u32) -> Vec<u8> {
    let head = vec![IPV4, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
    [head, attribute(5, GATEWAY), attribute(4, index.to_ne_bytes())].concat()
}

fn attribute(kind: u16, value: [u8; 4]) -> Vec<u8> {
    [&8u16.to_ne_bytes()[..], &kind.to_ne_bytes(), &value].concat()
}

fn ask(kind: u16, body: &[u8]) -> io::Result<()> {
    let netlink = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    let length = u32::try_from(16 + body.len()).map_err(io::Error::other)?;
    let (kind, flags) = (kind.to_ne_bytes(), REQUEST.to_ne_bytes());
    let message = [&length.to_ne_bytes()[..], &kind, &flags, &[0; 8], body].concat();
    send(&netlink, &message, SendFlags::empty())?;
    let mut answer = [0u8; 256];
    let (_, received) = recv(&netlink, &mut answer[..], RecvFlags::empty())?;
    // After the head of the answer comes the number of an error, or 0.
    match answer[..received.min(answer.len())].get(16..20) {
        Some(&[a, b, c, d]) if [a, b, c, d] == [0; 4] => Ok(()),
        Some(&[a, b, c, d]) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes([a, b, c, d]).abs())),
        _ => Err(io::Error::other("the kernel's answer is too short")),
    }
}

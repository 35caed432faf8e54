//! Memory that several processes map.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]
#![expect(unsafe_code, reason = "views are read by pointer, and limits set for a moment")]

use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

use procession_sys::{
    Came, RefusedRegion, Region, SeenRegion, SharedPages, Slot, receive_stream, sealed_memfd, send_stream,
};

const MIB: usize = 1 << 20;

fn filled(region: &std::sync::Arc<Region>, length: usize, byte: u8) -> Slot {
    let mut slot = region.take(length).unwrap().unwrap();
    slot.bytes().fill(byte);
    slot.filled()
}

fn seen(region: &Region) -> SeenRegion {
    SeenRegion::open(region.as_fd().try_clone_to_owned().unwrap(), region.len() as u64).unwrap()
}

#[test]
fn what_is_written_into_a_slot_is_seen_where_its_region_is_mapped_too() {
    let region = Region::create(c"test", 4 * MIB).unwrap();
    let seen = seen(&region);
    let slots = [filled(&region, MIB, 1), filled(&region, MIB + 1, 2), filled(&region, 1, 3)];
    let mut places = Vec::new();
    for (slot, byte) in slots.iter().zip(1..) {
        let offset = slot.as_ref().as_ptr() as usize - region.address();
        let bytes = seen.bytes(offset as u64, slot.as_ref().len() as u64).unwrap();
        assert!(bytes == slot.as_ref() && bytes.iter().all(|&found| found == byte));
        assert_ne!(bytes.as_ptr(), slot.as_ref().as_ptr());
        places.push(offset);
    }
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), 3);
}

#[test]
fn nothing_outside_of_a_region_is_seen() {
    let region = Region::create(c"test", MIB).unwrap();
    let seen = seen(&region);
    let size = region.len() as u64;
    assert_eq!(seen.bytes(0, size).unwrap().len(), MIB);
    for (offset, length) in
        [(0, size + 1), (1, size), (size, 1), (size, 0), (u64::MAX, 1), (1, u64::MAX), (0, 0)]
    {
        assert!(seen.bytes(offset, length).is_none(), "{length} from {offset}");
        assert!(seen.private_view(offset as usize, length as usize).is_err(), "{length} from {offset}");
    }
}

#[test]
fn slots_are_given_out_as_long_as_there_is_room_and_again_when_they_are_dropped() {
    let region = Region::create(c"test", 2 * MIB).unwrap();
    let first = filled(&region, MIB, 1);
    let second = filled(&region, MIB, 2);
    assert!(region.take(1).unwrap().is_none());
    assert!(!region.is_vacant());
    let address = first.as_ref().as_ptr();
    drop(first);
    let again = filled(&region, MIB, 3);
    assert_eq!(again.as_ref().as_ptr(), address);
    assert!(second.as_ref().iter().all(|&byte| byte == 2));
    drop((second, again));
    assert!(region.is_vacant());
}

#[test]
fn the_room_of_an_abandoned_slot_is_never_used_again() {
    let region = Region::create(c"test", 2 * MIB).unwrap();
    filled(&region, MIB, 7).abandon();
    let other = filled(&region, MIB, 1);
    assert!(region.take(1).unwrap().is_none());
    drop(other);
    assert!(!region.is_vacant());
    assert!(seen(&region).bytes(0, MIB as u64).unwrap().iter().all(|&byte| byte == 7));
}

#[test]
fn nobody_else_writes_to_a_region_or_changes_its_size() {
    let region = Region::create(c"test", MIB).unwrap();
    let file = File::from(region.as_fd().try_clone_to_owned().unwrap());
    for size in [0, MIB as u64 - 4096, 2 * MIB as u64] {
        assert_eq!(file.set_len(size).unwrap_err().raw_os_error(), Some(libc::EPERM), "{size}");
    }
    assert_eq!(file.write_at(b"x", 0).unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert_eq!(SharedPages::map(&file, MIB).unwrap_err().raw_os_error(), Some(libc::EPERM));
}

#[test]
fn a_private_view_is_written_to_without_anybody_seeing_it() {
    let region = Region::create(c"test", 2 * MIB).unwrap();
    let slot = filled(&region, MIB, 5);
    let seen = seen(&region);
    for offset in [0, 1, 4095, 4096, 100_000] {
        let view = seen.private_view(offset, MIB - offset).unwrap();
        assert_eq!(view.len(), MIB - offset);
        // SAFETY: the view has as many bytes, and this is their only user.
        let bytes = unsafe { std::slice::from_raw_parts_mut(view.pointer(), view.len()) };
        assert!(bytes.iter().all(|&byte| byte == 5));
        bytes.fill(6);
    }
    assert!(slot.as_ref().iter().all(|&byte| byte == 5));
}

#[test]
fn a_detached_view_stays_as_it_is_when_its_slot_is_written_over() {
    let region = Region::create(c"test", MIB).unwrap();
    let slot = filled(&region, MIB, 5);
    let view = seen(&region).private_view(0, MIB).unwrap();
    assert!(view.detach());
    drop(slot);
    let _other = filled(&region, MIB, 6);
    // SAFETY: as above.
    let bytes = unsafe { std::slice::from_raw_parts(view.pointer(), view.len()) };
    assert!(bytes.iter().all(|&byte| byte == 5));
}

#[test]
fn what_could_be_cut_or_is_of_another_size_or_no_memory_is_refused() {
    // SAFETY: the name ends in NUL; the kernel makes the descriptor for us.
    let unsealed = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC)) };
    let mut file = File::from(unsealed);
    file.write_all(&[0; 8192]).unwrap();
    assert!(matches!(SeenRegion::open(file.into(), 8192), Err(RefusedRegion::Seals)));

    let sealed = || sealed_memfd(c"test", &[0; 8192]).unwrap();
    assert_eq!(SeenRegion::open(sealed(), 8192).unwrap().len(), 8192);
    for said in [0, 8191, 8193, u64::MAX] {
        let refused = SeenRegion::open(sealed(), said).unwrap_err();
        assert!(matches!(refused, RefusedRegion::Size { found: 8192, said: s } if s == said), "{refused}");
    }
    let empty = sealed_memfd(c"test", &[]).unwrap();
    assert!(matches!(SeenRegion::open(empty, 0), Err(RefusedRegion::Size { found: 0, said: 0 })));

    let (socket, _other) = UnixStream::pair().unwrap();
    assert!(matches!(SeenRegion::open(socket.into(), 1), Err(RefusedRegion::Kind)));
    let device = File::open("/dev/null").unwrap();
    assert!(matches!(SeenRegion::open(device.into(), 0), Err(RefusedRegion::Kind)));
}

#[test]
fn a_descriptor_arrives_with_the_bytes_that_it_was_sent_with() {
    let (here, there) = UnixStream::pair().unwrap();
    let region = Region::create(c"test", MIB).unwrap();
    let _slot = filled(&region, MIB, 9);
    send_stream(here.as_fd(), &[IoSlice::new(b"be"), IoSlice::new(b"fore")], None).unwrap();
    send_stream(here.as_fd(), &[IoSlice::new(b"with")], Some(region.as_fd())).unwrap();
    send_stream(here.as_fd(), &[IoSlice::new(b"after")], None).unwrap();
    drop(here);
    let (mut text, mut descriptors) = (Vec::new(), Vec::new());
    loop {
        let (length, came) = receive_stream(there.as_fd(), &mut text).unwrap();
        if length == 0 {
            break;
        }
        if let Came::Descriptor(descriptor) = came {
            descriptors.push((text.len(), descriptor));
        }
    }
    assert_eq!(text, b"beforewithafter");
    let (at, descriptor) = descriptors.pop().unwrap();
    assert!(descriptors.is_empty() && (7..=10).contains(&at), "after {at} bytes");
    let seen = SeenRegion::open(descriptor, region.len() as u64).unwrap();
    assert!(seen.bytes(0, MIB as u64).unwrap().iter().all(|&byte| byte == 9));
}

#[test]
fn a_descriptor_that_this_process_may_not_have_is_said_to_be_lost_and_the_bytes_come() {
    let (here, there) = UnixStream::pair().unwrap();
    send_stream(here.as_fd(), &[IoSlice::new(b"with")], Some(here.as_fd())).unwrap();
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel reads and writes one structure.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    let before = limit.rlim_cur;
    limit.rlim_cur = there.as_raw_fd() as libc::rlim_t;
    // SAFETY: as above.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    let mut text = Vec::new();
    let received = receive_stream(there.as_fd(), &mut text);
    limit.rlim_cur = before;
    // SAFETY: as above.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    let (length, came) = received.unwrap();
    assert!(length == 4 && text == b"with" && matches!(came, Came::LostDescriptor), "{came:?}");
}

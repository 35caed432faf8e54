use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use procession_sys as sys;

use crate::protocol::{Reply, Request, SIZE};

/// The read ends of a proc's output: the host gets duplicates, these stay until its exit is told.
pub(crate) type Pipes = Rc<[OwnedFd; 2]>;

/// The conversation with the host; it never blocks, whatever the host does.
pub(crate) struct Control {
    socket: OwnedFd,
    unsent: VecDeque<(Reply, Option<Pipes>)>,
    closed: bool,
}

impl Control {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, unsent: VecDeque::new(), closed: false }
    }

    /// Whether the host has closed its end.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the host has been sent everything, or will never be.
    pub(crate) fn is_done(&self) -> bool {
        self.closed || self.unsent.is_empty()
    }

    pub(crate) fn watch(&self) -> Option<sys::Watch<'_>> {
        let watch = sys::Watch::readable(self.socket.as_fd());
        (!self.closed).then(|| if self.unsent.is_empty() { watch } else { watch.or_writable() })
    }

    pub(crate) fn receive(&mut self) -> Option<(Request, Vec<OwnedFd>)> {
        if self.closed {
            return None;
        }
        let mut bytes = [0; SIZE];
        match sys::receive(self.socket.as_fd(), &mut bytes) {
            Ok(received) => {
                let request = Request::decode(&bytes[..received.length]);
                self.closed = request.is_none();
                Some((request?, received.fds))
            }
            Err(error) => {
                self.closed = error.kind() != io::ErrorKind::WouldBlock;
                None
            }
        }
    }

    pub(crate) fn send(&mut self, reply: Reply) {
        self.unsent.push_back((reply, None));
    }

    pub(crate) fn send_with(&mut self, reply: Reply, pipes: Option<Pipes>) {
        self.unsent.push_back((reply, pipes));
    }

    /// Sends what the socket takes.
    pub(crate) fn flush(&mut self) {
        while let Some((reply, pipes)) = self.unsent.front() {
            let fds: Vec<BorrowedFd<'_>> = pipes.iter().flat_map(|p| p.iter().map(AsFd::as_fd)).collect();
            match sys::send(self.socket.as_fd(), &reply.encode(), &fds) {
                Ok(()) => drop(self.unsent.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.closed = true;
                    self.unsent.clear();
                }
            }
        }
    }
}

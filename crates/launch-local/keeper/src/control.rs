use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

use procession_sys as sys;

use crate::protocol::{Reply, Request, SEND_AGAIN, SIZE};

/// The read ends of a proc's output, and for a detached one the strings of its launch: the other side gets
/// duplicates, these stay until its exit is told.
pub(crate) type Pipes = Rc<Vec<OwnedFd>>;

/// The conversation with the host; it never blocks, whatever the host does.
pub(crate) struct Control {
    socket: OwnedFd,
    unsent: VecDeque<(Reply, Option<Pipes>)>,
    closed: bool,
    /// The kernel was short of something; until then it is not asked again.
    pause: Option<Instant>,
}

impl Control {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, unsent: VecDeque::new(), closed: false, pause: None }
    }

    /// Nobody is to be told anything here any more.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.unsent.clear();
    }

    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// When [`Self::flush`] is to be tried again, whatever [`Self::watch`] says.
    pub(crate) fn next_try(&self) -> Option<Instant> {
        self.pause
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
        let wants_room = !self.unsent.is_empty() && self.pause.is_none();
        (!self.closed).then(|| if wants_room { watch.or_writable() } else { watch })
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
        self.send_with(reply, None);
    }

    pub(crate) fn send_with(&mut self, reply: Reply, pipes: Option<Pipes>) {
        if !self.closed {
            self.unsent.push_back((reply, pipes));
        }
    }

    /// Sends what the socket takes.
    pub(crate) fn flush(&mut self) {
        if self.pause.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.pause = None;
        while let Some((reply, pipes)) = self.unsent.front() {
            let fds: Vec<BorrowedFd<'_>> = pipes.iter().flat_map(|p| p.iter().map(AsFd::as_fd)).collect();
            match sys::send(self.socket.as_fd(), &reply.encode(), &fds) {
                Ok(()) => drop(self.unsent.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if sys::is_gone(&error) => {
                    self.closed = true;
                    self.unsent.clear();
                }
                // Such as too many descriptors on their way to somebody: no reason to end anything.
                Err(_) => {
                    self.pause = Some(Instant::now() + SEND_AGAIN);
                    return;
                }
            }
        }
    }
}

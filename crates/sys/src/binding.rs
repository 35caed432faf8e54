use std::io;
use std::thread;

use crate::call::check;

/// The number of `MPOL_BIND`.
const BIND: libc::c_int = 2;
const BITS: u32 = u64::BITS;

/// A set of small numbers, as the kernel takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask(Vec<u64>);

impl Mask {
    /// As many processors, or nodes, as any kernel knows.
    pub const MOST: u32 = 8192;

    /// Whether no number is in it.
    pub fn is_empty(&self) -> bool {
        self.numbers().next().is_none()
    }

    /// Whether `number` is in it.
    pub fn contains(&self, number: u32) -> bool {
        self.0.get((number / BITS) as usize).is_some_and(|word| word & (1 << (number % BITS)) != 0)
    }

    /// What is in it, in order.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        (0..self.0.len() as u32 * BITS).filter(|&number| self.contains(number))
    }

    fn all() -> Self {
        Self(vec![u64::MAX; (Self::MOST / BITS) as usize])
    }
}

impl FromIterator<u32> for Mask {
    fn from_iter<T: IntoIterator<Item = u32>>(numbers: T) -> Self {
        let mut words = Vec::new();
        for number in numbers {
            let place = (number / BITS) as usize;
            if words.len() <= place {
                words.resize(place + 1, 0);
            }
            words[place] |= 1 << (number % BITS);
        }
        Self(words)
    }
}

/// Where a process runs, with all that it starts; an empty set is no bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// The processors that it may run on.
    pub processors: Mask,
    /// The nodes that its memory comes from.
    pub nodes: Mask,
}

impl Binding {
    /// Binds the calling thread.
    pub(crate) unsafe fn apply(&self) -> io::Result<()> {
        // SAFETY: the kernel reads as many bits as are said.
        unsafe {
            let Self { processors: Mask(processors), nodes: Mask(nodes) } = self;
            if !processors.is_empty() {
                let bytes = size_of_val(processors.as_slice());
                let set = libc::syscall(libc::SYS_sched_setaffinity, 0, bytes, processors.as_ptr());
                check(set as libc::c_int)?;
            }
            if !nodes.is_empty() {
                // It counts one bit more than it reads.
                let bits = nodes.len() * u64::BITS as usize + 1;
                check(libc::syscall(libc::SYS_set_mempolicy, BIND, nodes.as_ptr(), bits) as libc::c_int)?;
            }
        }
        Ok(())
    }

    /// Whether a child of this process could be bound so; tried on a thread that is gone afterwards.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn try_out(&self) -> io::Result<()> {
        // SAFETY: a thread of our own, which does nothing else.
        on_a_thread(|| unsafe { self.apply() })
    }
}

/// The processors that a child of this process can be bound to, whatever this one is bound to itself.
///
/// # Errors
/// The kernel does not say, or there can be no thread to find it out.
pub fn available_processors() -> io::Result<Mask> {
    on_a_thread(|| {
        let all = Binding { processors: Mask::all(), nodes: Mask::default() };
        // Where it may not be widened, what there is counts.
        // SAFETY: a thread of our own.
        let _as_it_is = unsafe { all.apply() };
        let mut mask = Mask(vec![0; (Mask::MOST / BITS) as usize]);
        let bytes = size_of_val(mask.0.as_slice());
        // SAFETY: the kernel writes that many bytes at most.
        let got = unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, bytes, mask.0.as_mut_ptr()) };
        check(got as libc::c_int)?;
        Ok(mask)
    })
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread =
            thread::Builder::new().name("procession-binding".to_owned()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that tried it has panicked")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_holds_the_numbers_that_were_put_in() {
        let mask: Mask = [0, 63, 64, 200].into_iter().collect();
        assert_eq!(mask.numbers().collect::<Vec<_>>(), [0, 63, 64, 200]);
        assert!(mask.contains(64) && !mask.contains(65) && !mask.contains(100_000));
        assert!(Mask::default().is_empty() && !mask.is_empty());
    }

    #[test]
    fn a_binding_is_tried_without_binding_this_process() {
        let available = available_processors().expect("there is one at least");
        let first = available.numbers().next().expect("there is one at least");
        let one = |number| Binding { processors: [number].into_iter().collect(), nodes: Mask::default() };
        one(first).try_out().expect("it is available");
        one(Mask::MOST - 1).try_out().expect_err("no machine has as many");
        assert_eq!(available_processors().expect("as before"), available);
    }
}

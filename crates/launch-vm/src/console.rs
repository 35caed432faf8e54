use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procession_launch::Tail;

/// How many of a guest's last lines are shown.
const SHOWN: usize = 8;
/// How many are kept: a kernel that panics says why, and then more than that.
const KEPT: usize = 100;
/// What its line of the cause begins with, behind the time.
const PANIC: &str = "Kernel panic - ";

/// What a guest's kernel and its PID 1 have said last, and QEMU itself.
#[derive(Clone, Debug)]
pub(crate) struct Console(Arc<Mutex<[Tail; 2]>>);

impl Console {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new([Tail::new(KEPT), Tail::new(SHOWN)])))
    }

    fn tails(&self) -> MutexGuard<'_, [Tail; 2]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn guest_says(&self, bytes: &[u8]) {
        self.tails()[0].push(bytes);
    }

    pub(crate) fn qemu_says(&self, bytes: &[u8]) {
        self.tails()[1].push(bytes);
    }

    /// For people: the guest's lines, then those of QEMU.
    pub(crate) fn lines(&self) -> Vec<String> {
        let tails = self.tails();
        let lines = tails.iter().flat_map(|tail| {
            let lines: Vec<_> =
                tail.lines().iter().map(|line| shown(line)).filter(|line| !line.is_empty()).collect();
            let before = lines.len().saturating_sub(SHOWN);
            lines.into_iter().skip(before)
        });
        lines.collect()
    }

    /// Why the guest's kernel has panicked.
    pub(crate) fn panic(&self) -> Option<String> {
        let lines = self.tails()[0].lines();
        lines.iter().find_map(|line| Some(shown(line).split_once(PANIC)?.1.to_owned()))
    }

    pub(crate) fn last_line(&self) -> Option<String> {
        let lines = self.tails()[0].ended_lines();
        lines.iter().rev().map(|line| shown(line)).find(|line| !line.is_empty())
    }
}

/// Without what firmware sends to move a cursor.
fn shown(line: &str) -> String {
    let mut text = String::new();
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            // To the letter that ends it.
            '\u{1b}' => drop(characters.find(char::is_ascii_alphabetic)),
            c if c.is_control() => {}
            c => text.push(c),
        }
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_a_guest_are_kept_as_text() {
        let console = Console::new();
        assert_eq!(console.last_line(), None);
        console.guest_says(b"\x1bc\x1b[?7l\x1b[2J\r\n\x1b[0mprocession-init: it ");
        console.guest_says(b"boots\r\nhalf");
        console.qemu_says(b"qemu: a warning\n");
        assert_eq!(console.last_line().as_deref(), Some("procession-init: it boots"));
        assert_eq!(console.lines(), ["procession-init: it boots", "half", "qemu: a warning"]);
        assert_eq!(console.panic(), None);
        console.guest_says(b"\r\n[    9.1] Kernel panic - not syncing: a test\r\n");
        (0..50).for_each(|n| console.guest_says(format!("RSP: {n}\r\n").as_bytes()));
        assert_eq!(console.panic().as_deref(), Some("not syncing: a test"));
        assert_eq!(console.lines().len(), SHOWN + 1);
        assert_eq!(console.lines()[SHOWN - 1], "RSP: 49");
    }
}

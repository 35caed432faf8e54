use tokio::sync::watch;

/// What holds up the reading of procs' output while whoever wants it has more than it can take.
///
/// Shared by its clones. While it is closed, a proc that writes more than its pipe holds waits, as it
/// would for any slow reader of a pipe. Nothing else waits: a proc that ends is seen to end, and what
/// is left in its pipes then is read whatever the gate says.
#[derive(Clone, Debug)]
pub struct Gate(watch::Sender<bool>);

impl Default for Gate {
    /// One that is open.
    fn default() -> Self {
        Self(watch::channel(true).0)
    }
}

impl Gate {
    /// Lets the output be read, or holds it up. From any thread; never blocks.
    pub fn set_open(&self, open: bool) {
        self.0.send_if_modified(|is_open| std::mem::replace(is_open, open) != open);
    }

    /// Whether output is read.
    pub fn is_open(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is open. Cancel safe.
    pub(crate) async fn opened(&self) {
        let mut open = self.0.subscribe();
        let _never_closed = open.wait_for(|open| *open).await;
    }
}

use procession_host::Stream;

/// One thing that a program of a check does; a program is a list of them, done in order. After the last it ends with
/// code 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Writes these bytes, as they are, and no end of line.
    Write(Stream, Vec<u8>),
    /// Writes this many `x`, and no end of line.
    Fill(Stream, usize),
    /// Writes lines `0 xxx…`, `1 xxx…`, …: so many, each with so many `x`.
    Lines(Stream, usize, usize),
    /// Writes both streams in turn, as often as told, 64 bytes at a time.
    Alternate(usize),
    /// Writes lines to stdout for ever, as fast as it can.
    Flood,
    /// Closes stdout and stderr.
    CloseOutput,
    /// Writes the line `<label> <pid>`.
    PrintPid(&'static str),
    /// Writes the line `<label> <pid>` of the child that it has started last.
    PrintChild(&'static str),
    /// Writes the line `<name>=<value>` of a variable of its environment, or `<name> is not set`.
    PrintVariable(String),
    /// Writes the line `name <name>` of each variable of its environment, then `no more names`.
    PrintNames,
    /// Writes the line `cwd <path>`, without symbolic links.
    PrintDirectory,
    /// Is started with these arguments; writes the line `argc <count>`, and each in a line of its own between `<` and `>`.
    PrintArguments(Vec<String>),
    /// Writes the line `uid <uid> gid <gid>`.
    PrintUser,
    /// Writes the line `<field> <value>` of `/proc/self/status`.
    PrintStatus(&'static str),
    /// Writes the line `nofile <limit>`: how many files it may open.
    PrintOpenFiles,
    /// Ends with this code.
    Exit(u8),
    /// Sends itself this signal, and leaves no core. If it goes on after that it writes the line `unharmed <pid>`.
    SignalSelf(i32),
    /// Ignores SIGTERM from now on, and so does what it starts.
    IgnoreTerm,
    /// Writes the line `got TERM` at each SIGTERM from now on; with a code it then ends with that.
    OnTerm(Option<u8>),
    /// Starts a program of its own, which inherits its output.
    Start(Apart, Vec<Deed>),
    /// Fills so many bytes of memory, and writes the line `ate <bytes>`.
    Eat(usize),
    /// Starts so many processes that sleep for a minute; writes the line `forked <n>` after each.
    Fork(usize),
    /// Writes the line `there <pid>`, or `not there <pid>`, of each; then waits for the end of each, and writes
    /// `gone <pid>`.
    Look(Vec<u32>),
    /// Sends another process a signal, and writes the line `sent` or `not sent`.
    Signal(u32, i32),
    /// Goes on after so many seconds.
    Pause(u32),
    /// Writes the line `tick` several times a second, for ever.
    Tick,
    /// Sleeps for ever.
    Forever,
}

/// How far a process leaves behind who starts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apart {
    /// Not at all: a plain child.
    Child,
    /// In a session of its own; its parent lives.
    Session,
    /// In a session of its own, and its parent is gone.
    Daemon,
    /// As a daemon, with an empty environment but for `PATH`.
    Stranger,
}

impl Deed {
    /// Writes `text` as a line to stdout.
    pub fn say(text: &str) -> Self {
        Self::Write(Stream::Stdout, format!("{text}\n").into_bytes())
    }

    /// Writes `text` as a line to stderr.
    pub fn warn(text: &str) -> Self {
        Self::Write(Stream::Stderr, format!("{text}\n").into_bytes())
    }
}

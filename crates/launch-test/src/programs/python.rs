use std::fmt::Write;

use procession_host::Stream;

use crate::deed::{Apart, Deed};

/// What the steps use.
const PRELUDE: &str = r#"import os, signal, sys, time
def w(fd, b):
    while b: b = b[os.write(fd, b):]
def say(text): w(1, (text + "\n").encode("utf-8", "surrogateescape"))
def on_term(code):
    def handle(*_):
        say("got TERM")
        if code is not None: os._exit(code)
    signal.signal(signal.SIGTERM, handle)
def start(session, double, bare, script):
    global child
    child = os.fork()
    if child:
        if double: os.wait()
        return
    if session: os.setsid()
    if double and os.fork(): os._exit(0)
    env = {"PATH": os.environ.get("PATH", os.defpath)} if bare else dict(os.environ)
    os.execve(sys.executable, [sys.executable, "-c", script], env)
def alive(pid):
    try: os.kill(pid, 0)
    except ProcessLookupError: return False
    except PermissionError: pass
    try: state = open("/proc/%d/stat" % pid).read().rpartition(")")[2].split()[0]
    except OSError: return True
    return state not in "ZX"
def status(field):
    for line in open("/proc/self/status"):
        if line.startswith(field + ":"): say(field + " " + line.split(":", 1)[1].strip())
def fork(count):
    for i in range(count):
        try: pid = os.fork()
        except OSError: return
        if not pid:
            time.sleep(60)
            os._exit(0)
        say("forked %d" % (i + 1))
def look(pids):
    # In a namespace of its own another process has that number: this one, or what it was started by.
    own = (os.getpid(), os.getppid())
    for pid in pids: say(("there %d" if alive(pid) and pid not in own else "not there %d") % pid)
    for pid in pids:
        while alive(pid): time.sleep(0.05)
        say("gone %d" % pid)
def send(pid, number):
    try: os.kill(pid, number)
    except OSError: return say("not sent")
    say("sent")
def harm(number):
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    os.kill(os.getpid(), number)
    time.sleep(0.2)
    say("unharmed %d" % os.getpid())
def names():
    for name in os.environ: say("name " + name)
    say("no more names")
def variable(name):
    say(name + "=" + os.environ[name] if name in os.environ else name + " is not set")
def arguments():
    say("argc %d" % (len(sys.argv) - 1))
    for a in sys.argv[1:]: say("<" + a + ">")
"#;

/// The deeds as a program of Python 3.
pub(super) fn script(deeds: &[Deed]) -> String {
    let mut text = PRELUDE.to_owned();
    for deed in deeds {
        text.push_str(&step(deed));
        text.push('\n');
    }
    text
}

fn step(deed: &Deed) -> String {
    match deed {
        Deed::Write(stream, bytes) => format!("w({}, {})", fd(*stream), literal(bytes)),
        Deed::Fill(stream, count) => format!("w({}, b'x' * {count})", fd(*stream)),
        Deed::Lines(stream, count, width) => {
            format!("for i in range({count}): w({}, b'%d ' % i + b'x' * {width} + b'\\n')", fd(*stream))
        }
        Deed::Alternate(times) => {
            format!("for i in range({times}):\n    for fd in (1, 2): w(fd, b'x' * 63 + b'\\n')")
        }
        Deed::Flood => "while True: w(1, b'flood ' * 20 + b'\\n')".to_owned(),
        Deed::CloseOutput => "os.close(1); os.close(2)".to_owned(),
        Deed::PrintPid(label) => format!("say('{label} %d' % os.getpid())"),
        Deed::PrintChild(label) => format!("say('{label} %d' % child)"),
        Deed::PrintVariable(name) => format!("variable('{name}')"),
        Deed::PrintNames => "names()".to_owned(),
        Deed::PrintDirectory => "say('cwd ' + os.path.realpath(os.getcwd()))".to_owned(),
        Deed::PrintArguments(_) => "arguments()".to_owned(),
        Deed::PrintUser => "say('uid %d gid %d' % (os.geteuid(), os.getegid()))".to_owned(),
        Deed::PrintStatus(field) => format!("status('{field}')"),
        Deed::PrintOpenFiles => {
            "import resource; say('nofile %d' % resource.getrlimit(resource.RLIMIT_NOFILE)[0])".to_owned()
        }
        // Whatever closed the output has nothing left to flush.
        Deed::Exit(code) => format!("os._exit({code})"),
        Deed::SignalSelf(signal) => format!("harm({signal})"),
        Deed::IgnoreTerm => "signal.signal(signal.SIGTERM, signal.SIG_IGN)".to_owned(),
        Deed::OnTerm(None) => "on_term(None)".to_owned(),
        Deed::OnTerm(Some(code)) => format!("on_term({code})"),
        Deed::Start(apart, deeds) => {
            let [session, double, bare] = match apart {
                Apart::Child => ["False", "False", "False"],
                Apart::Session => ["True", "False", "False"],
                Apart::Daemon => ["True", "True", "False"],
                Apart::Stranger => ["True", "True", "True"],
            };
            let script = literal(script(deeds).as_bytes());
            format!("start({session}, {double}, {bare}, {script}.decode())")
        }
        Deed::Eat(bytes) => format!("x = bytearray(b'x') * {bytes}; say('ate %d' % len(x))"),
        Deed::Fork(count) => format!("fork({count})"),
        Deed::Look(pids) => format!("look({pids:?})"),
        Deed::Signal(pid, signal) => format!("send({pid}, {signal})"),
        Deed::Pause(seconds) => format!("time.sleep({seconds})"),
        Deed::Tick => "while True: say('tick'); time.sleep(0.1)".to_owned(),
        Deed::Forever => "while True: time.sleep(60)".to_owned(),
    }
}

fn fd(stream: Stream) -> u8 {
    match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    }
}

/// `bytes` as a literal of Python.
fn literal(bytes: &[u8]) -> String {
    let mut text = "b'".to_owned();
    for &byte in bytes {
        match byte {
            b'\\' | b'\'' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            b'\n' => text.push_str("\\n"),
            byte => drop(write!(text, "\\x{byte:02x}")),
        }
    }
    text.push('\'');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_quoted_for_python() {
        assert_eq!(literal(b"a'\\\n\xff"), "b'a\\'\\\\\\n\\xff'");
    }
}

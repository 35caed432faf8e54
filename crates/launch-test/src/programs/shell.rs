use procession_host::Stream;

use crate::deed::{Apart, Deed};

/// The deeds as a script of POSIX sh.
pub(super) fn script(deeds: &[Deed]) -> String {
    deeds.iter().map(step).collect::<Vec<_>>().join("\n")
}

fn step(deed: &Deed) -> String {
    match deed {
        Deed::Write(stream, bytes) => format!("printf '{}'{}", format_of(bytes), to(*stream)),
        Deed::Fill(stream, count) => format!("head -c {count} /dev/zero | tr '\\0' x{}", to(*stream)),
        Deed::Lines(stream, count, width) => {
            let pad = "x".repeat(*width);
            counted(*count, &format!("echo \"$i {pad}\"")) + to(*stream)
        }
        Deed::Alternate(times) => {
            let line = "x".repeat(63);
            counted(*times, &format!("echo {line}; echo {line} >&2"))
        }
        Deed::Flood => format!("while :; do echo {}; done", "flood ".repeat(20).trim_end()),
        Deed::CloseOutput => "exec >&- 2>&-".to_owned(),
        Deed::PrintPid(label) => format!("echo \"{label} $$\""),
        Deed::PrintChild(label) => format!("echo \"{label} $!\""),
        Deed::PrintVariable(name) => {
            format!(
                "if [ \"${{{name}+x}}\" ]; then printf '{name}=%s\\n' \"${name}\"; else echo '{name} is not set'; fi"
            )
        }
        Deed::PrintNames => {
            "env | while IFS= read -r l; do case $l in *=*) echo \"name ${l%%=*}\";; esac; done\n\
             echo 'no more names'"
                .to_owned()
        }
        Deed::PrintDirectory => "printf 'cwd %s\\n' \"$(pwd -P)\"".to_owned(),
        Deed::PrintArguments(_) => {
            "echo \"argc $#\"; for a in \"$@\"; do printf '<%s>\\n' \"$a\"; done".to_owned()
        }
        Deed::PrintUser => "echo \"uid $(id -u) gid $(id -g)\"".to_owned(),
        Deed::PrintStatus(field) => format!(
            "while read -r k v; do if [ \"$k\" = {field}: ]; then echo \"{field} $v\"; fi; done < /proc/self/status"
        ),
        Deed::PrintOpenFiles => "echo \"nofile $(ulimit -n)\"".to_owned(),
        Deed::Exit(code) => format!("exit {code}"),
        Deed::SignalSelf(signal) => format!("ulimit -c 0\nkill -{signal} $$\necho \"unharmed $$\""),
        Deed::IgnoreTerm => "trap '' TERM".to_owned(),
        Deed::OnTerm(None) => "trap 'echo \"got TERM\"' TERM".to_owned(),
        Deed::OnTerm(Some(code)) => format!("trap 'echo \"got TERM\"; exit {code}' TERM"),
        Deed::Start(apart, deeds) => start(*apart, &quoted(&script(deeds))),
        Deed::Eat(bytes) => format!("x=$(head -c {bytes} /dev/zero | tr '\\0' x); echo \"ate ${{#x}}\""),
        // A shell that cannot fork ends; the one outside goes on.
        Deed::Fork(count) => {
            format!("({})", counted(*count, "sleep 60 & echo \"forked $((i+1))\""))
        }
        Deed::Look(pids) => {
            // In a namespace of its own another process has that number: this one, or what it was started by.
            let pids = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
            format!(
                "alive() {{ kill -0 $1 2>/dev/null || return 1; case $(cat /proc/$1/status 2>/dev/null) in \
                 *\"State:\tZ\"*|*\"State:\tX\"*) return 1;; esac; }}\n\
                 for p in {pids}; do if alive $p && [ $p != $$ ] && [ $p != $PPID ]; then echo \"there $p\"; else echo \"not there $p\"; fi; done\n\
                 for p in {pids}; do while alive $p; do sleep 0.1 2>/dev/null || sleep 1; done; echo \"gone $p\"; done"
            )
        }
        Deed::Signal(pid, signal) => {
            format!("if kill -{signal} {pid} 2>/dev/null; then echo sent; else echo 'not sent'; fi")
        }
        // Whoever is killed leaves a sleep of its own behind, and that not for long.
        Deed::Pause(seconds) => counted(*seconds as usize, "sleep 1 & wait $!"),
        Deed::Tick => "while :; do echo tick; sleep 0.1 2>/dev/null || sleep 1; done".to_owned(),
        // In the foreground it would put off traps for as long as it sleeps.
        Deed::Forever => "while :; do sleep 1 & wait $!; done".to_owned(),
    }
}

fn start(apart: Apart, script: &str) -> String {
    let setsid = "command -v setsid >/dev/null || echo 'no setsid'";
    match apart {
        Apart::Child => format!("/bin/sh -c {script} &"),
        Apart::Session => format!("{setsid}\nsetsid /bin/sh -c {script} &"),
        Apart::Daemon => format!("{setsid}\n(setsid /bin/sh -c {script} &)"),
        Apart::Stranger => format!("{setsid}\n(env -i PATH=\"$PATH\" setsid /bin/sh -c {script} &)"),
    }
}

fn counted(count: usize, body: &str) -> String {
    format!("i=0; while [ $i -lt {count} ]; do {body}; i=$((i+1)); done")
}

fn to(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "",
        Stream::Stderr => " >&2",
    }
}

/// `bytes` as a format of printf between single quotes.
fn format_of(bytes: &[u8]) -> String {
    let shown = |&byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b' ' => char::from(byte).to_string(),
        byte => format!("\\{byte:03o}"),
    };
    bytes.iter().map(shown).collect()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_scripts_are_quoted_for_the_shell() {
        assert_eq!(format_of(b"a%\\\n\xff0"), "a\\045\\134\\012\\3770");
        assert_eq!(quoted("a'b"), "'a'\\''b'");
    }
}

"""Defaults and limits, and the names of the environment variables of a launched proc."""

from __future__ import annotations

from typing import Final

BOOTSTRAP_ENV: Final = "PROCESSION_BOOTSTRAP"
"""How a proc reaches back and who it is; opaque, secret, and removed before user code runs."""
PROCESS_NAME_ENV: Final = "PROCESSION_PROCESS_NAME"
"""`<proc> @ <host>`, for people."""
LOG_CHANNEL_ENV: Final = "PROCESSION_LOG_CHANNEL"
"""Where a launcher that reads a proc's output itself sends it."""
LAUNCH_ID_ENV: Final = "PROCESSION_LAUNCH_ID"
"""Marks a proc and all that it starts, so that nothing of it is missed when it ends; no secret."""
FLIGHT_ENV: Final = "PROCESSION_FLIGHT_RECORD"
"""The file in which a proc notes what it is busy with, for its host to read after its end."""
STATE_DIR_ENV: Final = "PROCESSION_STATE_DIR"
"""Where records of ended procs are kept, an absolute path; empty keeps none. Default: `$XDG_STATE_HOME/procession`, else
`~/.local/state/procession`."""
LOG_ENV: Final = "PROCESSION_LOG"
"""How much the runtime of a client tells on stderr: off, error, warn (the default), info, debug, trace."""
CHANGED_SOURCES_ENV: Final = "PROCESSION_CHANGED_SOURCES"
"""`warn` in a client: an actor whose module is another file in its proc is built all the same, and the proc's stderr says so."""
FORK_SERVER_ENV: Final = "PROCESSION_FORK_SERVER"
"""`off` in a client: Python procs are executed, and not forked from an interpreter that has imported what they need."""
PRELOAD_ENV: Final = "PROCESSION_PRELOAD"
"""What an interpreter that procs are forked from is to import, and where from; opaque."""
RESERVED_PREFIX: Final = "PROCESSION_"
"""What every variable of ours starts with; users may not set these."""

READY_TIMEOUT: Final = 30.0
"""Seconds from the acknowledged launch until the proc has to call back."""
STOP_GRACE: Final = 10.0
"""Seconds that each step of a stop gets before the next, harder one."""
ACK_TIMEOUT: Final = 30.0
"""Seconds until a launcher has to acknowledge a launch."""
UNKNOWN_BUDGET: Final = 60.0
"""Seconds that a proc may be unknown, because its launcher cannot ask about it, until it counts as lost."""
LEASE: Final = 10.0
"""Seconds that a proc which is reached over TCP may be without a connection before it has ended."""
TAIL_LINES: Final = 100
"""Last lines of each stream that are kept for the exit."""
MAX_TAIL_LINES: Final = 10_000
"""More than this is cut to it, with a warning."""
SERVED_LOG_BYTES: Final = 64 << 20
"""A file of output of a proc on a host that is served is put aside before it gets longer."""
LOG_KEEP: Final = 3
"""Files of each stream that are kept beside the one that is written, once they are rotated."""
MIN_LOG_BYTES: Final = 4096
"""The least that a file of output may be limited to."""
MAX_LOG_KEEP: Final = 1000
"""The most files that are kept of one stream."""
MAX_PROCS: Final = 100_000
"""Procs of one mesh."""
MAX_SECONDS: Final = 1e9
"""What a longer time is taken as."""
HOST_SECONDS: Final = 30.0
"""Seconds that a proc waits for what its host answers at once: its process may be stopped, or hold its interpreter."""
HOST_ARG: Final = "--host"
"""With it a proc is a host too."""
ZYGOTE_ARG: Final = "--zygote"
"""With it a proc launches for its host."""
FORK_SERVER_ARG: Final = "--fork-server"
"""With it a proc is none: procs are forked from it."""
HOST_STOP_SECONDS: Final = 20.0
"""How long the procs of a host that is stopped have, until they are killed: half of it to end when asked, half when terminated."""
HOST_STOP_GRACE: Final = 30.0
"""What a host that was launched has for that, before it is terminated itself."""
SHUTDOWN_SECONDS: Final = 2.0
"""How long the end of the interpreter waits for everything to stop."""

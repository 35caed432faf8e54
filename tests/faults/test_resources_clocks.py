"""The wall clock jumps; the CPU is starved."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# What the wall clock says beside the truth is in a file, so that a test can let it jump for all processes at once.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset(void) {
    char text[32] = {0};
    int file = open(getenv("WALL_CLOCK_OFFSET"), O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    long got = read(file, text, sizeof text - 1);
    close(file);
    return got > 0 ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += offset();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int (*real)(struct timeval *, void *) = dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(now, zone);
    now->tv_sec += offset();
    return result;
}

time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}
"""


@pytest.fixture(scope="module")
def clock(tmp_path_factory):
    """The environment of processes whose wall clock follows the file WALL_CLOCK_OFFSET, in seconds."""
    folder = tmp_path_factory.mktemp("clock")
    (folder / "shim.c").write_text(SHIM)
    command = ["cc", "-shared", "-fPIC", "-o", str(folder / "shim.so"), str(folder / "shim.c"), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return {"LD_PRELOAD": str(folder / "shim.so"), "WALL_CLOCK_OFFSET": str(folder / "offset")}


@pytest.mark.fault("F77")
@pytest.mark.parametrize("jump", [86_400, -86_400, 70])
def test_no_timer_fires_early_and_nobody_is_taken_for_dead_when_the_wall_clock_jumps(script, clock, tmp_path, jump):
    Path(clock["WALL_CLOCK_OFFSET"]).unlink(missing_ok=True)
    script(
        """
        import os, sys, time
        from pathlib import Path
        from procession.actor import Actor, endpoint, this_host
        from procession.launch import DialBack
        from launching import Supervising

        jump, file, is_deaf = int(sys.argv[1]), Path(os.environ["WALL_CLOCK_OFFSET"]), Path(sys.argv[2])

        class Clock(Actor):
            @endpoint
            def now(self):
                return time.time()

        class OverTheNetwork(Supervising):
            dial_back = DialBack.network(bind="127.0.0.1:0")

        meshes = [this_host().spawn_procs(), this_host().spawn_procs(launcher=OverTheNetwork)]
        clocks = [mesh.spawn("clock", Clock) for mesh in meshes]
        late = this_host().spawn_procs(bootstrap_command=["/bin/sleep", "1000"], ready_timeout=25)
        command = f"trap '' TERM; touch {is_deaf}; while :; do sleep 0.05; done"
        deaf = this_host().spawn_procs(bootstrap_command=["/bin/sh", "-c", command], readiness="none")
        deaf.initialized.get(30)
        while not is_deaf.exists():
            time.sleep(0.01)
        before, began = [clock.now.call_one().get(30) for clock in clocks], time.monotonic()
        stopping = deaf.terminate(20)

        file.write_text(str(jump))
        assert abs(time.time() - before[0] - jump) < 40, "the client's clock has jumped"
        for clock, then in zip(clocks, before):
            assert abs(clock.now.call_one().get(30) - then - jump) < 40, "that of each proc too"
        # Nothing shows that no timer fires but time: longer than any beat, and far from the deadlines of 20 s.
        while time.monotonic() - began < 8:
            for clock in clocks:
                assert abs(clock.now.call_one().get(30) - time.time()) < 5
            time.sleep(0.2)
        statuses = [str(mesh.statuses().item().status) for mesh in (*meshes, late, deaf)]
        assert statuses == ["ready", "ready", "running", "stopping"], statuses
        """,
        str(jump),
        str(tmp_path / "deaf"),
        env={**clock, "PYTHONPATH": os.pathsep.join(sys.path)},
    )

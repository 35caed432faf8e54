#!/usr/bin/env bash
# PID 1 of the place of a private systemd, which it becomes: engines/systemd-init.sh NAME WORK. The system manager has a bus where
# every machine has it, and starts the managers of two users, root and 65534, with a bus each in /run/user.
set -euo pipefail
name=$1 work=$2

if [ "${3:-}" != apart ]; then
    # A manager moves whatever it finds in its own control group, which would be all of this machine: so it gets one of its own in
    # each hierarchy, and then sees nothing above.
    for root in $(awk '/ - cgroup2? / { print $5 }' /proc/self/mountinfo); do
        mkdir -p "$root/$name"
        # A new group has no processors until it is told which.
        for of in cpus mems; do
            [ ! -e "$root/cpuset.$of" ] || cat "$root/cpuset.$of" >"$root/$name/cpuset.$of"
        done
        echo 0 >"$root/$name/cgroup.procs"
    done
    exec unshare --cgroup --uts --ipc "$0" "$name" "$work" apart
fi

ip link set lo up
for root in $(awk '/ - cgroup2? / { print $5 }' /proc/self/mountinfo); do
    mount --bind "$root/$name" "$root"
done
# What it keeps in these folders whatever it is told is ours alone here, and what it says to the console goes to the log.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/etc-upper /run/etc-work /run/dev
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc-upper,workdir=/run/etc-work overlay /etc
mount -t tmpfs -o mode=755 tmpfs /run/dev
cp -a /dev/{null,zero,full,random,urandom,tty,ptmx} /run/dev
mkdir /run/dev/{pts,shm}
mount --bind /dev/pts /run/dev/pts
mount -t tmpfs tmpfs /run/dev/shm
touch /run/dev/console
mount --bind "$work/log" /run/dev/console
ln -s /proc/self/fd /run/dev/fd
mount --move /run/dev /dev

# Of this machine's own units none is started.
units=/run/procession
mkdir -p $units/{system,user}
for kind in system user; do
    for target in sysinit basic shutdown exit; do
        printf '[Unit]\nDefaultDependencies=no\n' >$units/$kind/$target.target
    done
done
socket='[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=%s\n'
# shellcheck disable=SC2059
printf "$socket" /run/dbus/system_bus_socket >$units/system/dbus.socket
# shellcheck disable=SC2059
printf "$socket" %t/bus >$units/user/dbus.socket
for kind in system user; do
    [ $kind = system ] || kind=session
    cat >$units/${kind/session/user}/dbus.service <<UNIT
[Unit]
DefaultDependencies=no
Requires=dbus.socket
[Service]
Type=notify
ExecStart=$(command -v dbus-daemon) --$kind --address=systemd: --nofork --nopidfile --systemd-activation --syslog-only
UNIT
done
printf '[Unit]\nDefaultDependencies=no\nRequires=dbus.socket dbus.service\n' >$units/user/procession.target
cat >$units/system/procession.target <<UNIT
[Unit]
DefaultDependencies=no
Requires=dbus.socket dbus.service manager@0.service manager@65534.service
UNIT
cat >$units/system/manager@.service <<UNIT
[Unit]
DefaultDependencies=no
[Service]
Type=notify
User=%i
Delegate=yes
Environment=XDG_RUNTIME_DIR=/run/user/%i SYSTEMD_UNIT_PATH=/run/user/%i/systemd/transient:$units/user SYSTEMD_GENERATOR_PATH=/nowhere
ExecStart=/lib/systemd/systemd --user --unit=procession.target
UNIT
for uid in 0 65534; do install -d -m 700 -o $uid /run/user/$uid; done
exec env container=procession SYSTEMD_UNIT_PATH=/run/systemd/transient:$units/system SYSTEMD_GENERATOR_PATH=/nowhere \
    /lib/systemd/systemd --system --unit=procession.target --log-target=console --log-color=no --show-status=no

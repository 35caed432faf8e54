#!/usr/bin/env bash
# PID 1 of the place of a private Podman: engines/podman-init.sh NAME WORK. It ends with the service.
set -euo pipefail
name=$1 work=$2

ip link set lo up
# What it keeps in these two folders whatever it is told is ours alone here.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/etc-upper /run/etc-work
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc-upper,workdir=/run/etc-work overlay /etc

# Limits that nobody here may raise; crun would want control groups of the second version.
cat >/run/containers.conf <<TOML
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
init_path = "$(command -v catatonit)"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
TOML
export CONTAINERS_CONF=/run/containers.conf
podman --root "$work/data" --runroot /run/podman --log-level warn system service --time 0 "unix://$work/engine.sock" &
# Not exec: PID 1 has to reap what loses its parent.
wait

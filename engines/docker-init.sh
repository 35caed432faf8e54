#!/usr/bin/env bash
# PID 1 of the place of a private Docker: engines/docker-init.sh NAME WORK. It ends with dockerd.
set -euo pipefail
name=$1 work=$2

ip link set lo up
# Daemons keep sockets and keys in these two folders whatever they are told; here both are ours alone.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/etc-upper /run/etc-work
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc-upper,workdir=/run/etc-work overlay /etc

dockerd --host "unix://$work/engine.sock" --data-root "$work/data" --exec-root /run/docker --pidfile "$work/dockerd.pid" \
    --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$name" --bip 172.17.0.1/16 &
# Not exec: PID 1 has to reap what loses its parent, and dockerd would not.
wait

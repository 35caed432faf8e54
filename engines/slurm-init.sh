#!/usr/bin/env bash
# PID 1 of the place of a private Slurm: engines/slurm-init.sh NAME WORK. A daemon that ends is started again, with what is in
# WORK/DAEMON.options, unless there is WORK/DAEMON.hold: so tests have one end, and come back.
set -euo pipefail
name=$1 work=$2

ip link set lo up
# Daemons listen only where there is an address beside the loopback, and clients where the name of their host leads.
ip link add slurm type bridge
ip address add 192.0.2.1/32 dev slurm
ip link set slurm up
host=$(hostname)
mount -t tmpfs -o mode=755 tmpfs /run
printf '127.0.0.1 localhost\n192.0.2.1 %s\n' "$host" >/run/hosts
mount --bind /run/hosts /etc/hosts

# Groups of our own where Slurm looks for the kernel's, since it makes its own in the topmost.
for controller in freezer memory cpuset devices; do
    mkdir -p "/sys/fs/cgroup/$controller/$name"
    mount --bind "/sys/fs/cgroup/$controller/$name" "/sys/fs/cgroup/$controller"
done
mkdir -p "$work/state" /run/munge
head -c 128 /dev/urandom >"$work/munge.key"
chmod 400 "$work/munge.key"
cat >"$work/slurm.conf" <<CONF
ClusterName=procession
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=17000
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=/run/munge/socket
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool-%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd-%n.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd-%n.log
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
AccountingStorageType=accounting_storage/none
# What takes a minute elsewhere shows here in seconds.
KillWait=2
SlurmdTimeout=5
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
# A job of high takes the place of one of low.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n[1-4] NodeHostname=$host NodeAddr=127.0.0.1 Port=[17001-17004] CPUs=16 RealMemory=24000
PartitionName=all Nodes=n[1-3] Default=YES PreemptMode=OFF
PartitionName=low Nodes=n4 PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes=n4 PriorityTier=10 PreemptMode=OFF
CONF
cat >"$work/cgroup.conf" <<CONF
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
ConstrainRAMSpace=yes
ConstrainSwapSpace=yes
AllowedSwapSpace=0
CONF
# It stands in the work folder of each of them.
export SLURM_CONF=$work/slurm.conf
munged --force --key-file="$work/munge.key" --socket=/run/munge/socket --pid-file=/run/munge/pid \
    --seed-file=/run/munge/seed --log-file="$work/munge.log"
kept() {
    local daemon=$1 options
    shift
    while :; do
        while [ -e "$work/$daemon.hold" ]; do sleep 0.05; done
        options=$(cat "$work/$daemon.options" 2>/dev/null || true)
        # shellcheck disable=SC2086
        "$@" -D -f "$SLURM_CONF" $options || true
    done
}

kept slurmctld slurmctld -i &
for node in n1 n2 n3 n4; do kept "slurmd-$node" slurmd -N "$node" & done
# Not exec: PID 1 has to reap what loses its parent.
wait

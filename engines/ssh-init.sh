#!/usr/bin/env bash
# PID 1 of the place of three machines: engines/ssh-init.sh NAME WORK. It ends with their sshds.
set -euo pipefail
name=$1 work=$2
PATH=$PATH:/usr/sbin:/sbin

ip link set lo up
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/sshd /run/etc-upper /run/etc-work "$work/home/.ssh"
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc-upper,workdir=/run/etc-work overlay /etc
# Who logs in has a plain shell and an empty home.
sed -i "s|^root:.*|root:x:0:0:root:$work/home:/bin/sh|" /etc/passwd

ln -s "$work/ssh.conf" "$work/home/.ssh/config"
ssh-keygen -q -t ed25519 -N '' -f "$work/host"
ssh-keygen -q -t ed25519 -N '' -f "$work/user"
cp "$work/user.pub" "$work/authorized"
ip link add hub type bridge
ip address add 192.0.2.1/24 dev hub
ip link set hub up
for number in 1 2 3; do
    host=n$number address=192.0.2.1$number
    ip netns add "$host"
    ip link add "to-$host" type veth peer name eth0 netns "$host"
    ip link set "to-$host" master hub up
    ip -n "$host" link set lo up
    ip -n "$host" link set eth0 up
    ip -n "$host" address add "$address/24" dev eth0
    cat >"$work/sshd-$host.conf" <<CONF
ListenAddress $address
HostKey $work/host
AuthorizedKeysFile $work/authorized
UsePAM no
StrictModes no
PidFile none
PermitRootLogin yes
PasswordAuthentication no
MaxStartups 200:30:400
MaxSessions 200
CONF
    cat >>"$work/ssh.conf" <<CONF
Host $host
  HostName $address
  IdentityFile $work/user
  IdentitiesOnly yes
  UserKnownHostsFile $work/known
  StrictHostKeyChecking accept-new
CONF
    # shellcheck disable=SC2016
    ip netns exec "$host" unshare --uts sh -c 'hostname "$1" && exec /usr/sbin/sshd -D -e -f "$2"' \
        sh "$host" "$work/sshd-$host.conf" &
done
# Not exec: PID 1 has to reap what loses its parent.
wait

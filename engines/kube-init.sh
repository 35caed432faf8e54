#!/usr/bin/env bash
# PID 1 of the place of a private Kubernetes: engines/kube-init.sh NAME WORK. A daemon that ends is started again, unless there
# is WORK/DAEMON.hold.
set -euo pipefail
name=$1 work=$2
umask 077
cd "$work"

ip link set lo up
# Daemons keep things in these folders whatever they are told; here all of them are ours alone.
mount -t tmpfs -o mode=755 tmpfs /run
for folder in etc var/lib var/log; do
    mkdir -p "/run/upper/$folder" "/run/scratch/$folder"
    chmod 755 "/run/upper/$folder"
    mount -t overlay -o "lowerdir=/$folder,upperdir=/run/upper/$folder,workdir=/run/scratch/$folder" overlay "/$folder"
done
# A kubelet sets what it does not find like this, which would be for the whole machine.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 kernel/keys/root_maxkeys=1000000 \
    kernel/keys/root_maxbytes=25000000; do
    file=/proc/sys/${setting%=*}
    [ -e "$file" ] || continue
    echo "${setting#*=}" >"/run/${file//\//-}"
    mount --bind "/run/${file//\//-}" "$file"
done
for root in $(awk '/ - cgroup2? / { print $5 }' /proc/self/mountinfo); do
    mkdir -p "$root/$name"
    # A new group has no processors until it is told which.
    for of in cpus mems; do
        [ ! -e "$root/cpuset.$of" ] || cat "$root/cpuset.$of" >"$root/$name/cpuset.$of"
    done
done

# kept DAEMON OPTION...
kept() {
    local daemon=$1
    umask 022 # what a kubelet makes for pods is also for those that are not root's
    while :; do
        while [ -e "$daemon.hold" ]; do sleep 0.05; done
        "$@" </dev/null >>"$daemon.log" 2>&1 &
        echo $! >"$daemon.pid"
        wait $! || true
        echo "$daemon ended: $(tail -n 3 "$daemon.log")"
        sleep 0.3
    done
}

# A group, too, that has less memory to fear than others is denied to whoever lacks CAP_SYS_RESOURCE.
cat >runc-here <<'SH'
#!/bin/sh
before=
for word; do
    case $before in
    --bundle | -b) sed -i 's/"oomScoreAdj":-[0-9]*/"oomScoreAdj":0/' "$word/config.json" ;;
    --process | -p) sed -i 's/"oomScoreAdj":-[0-9]*/"oomScoreAdj":0/' "$word" ;;
    esac
    before=$word
done
exec runc "$@"
SH
chmod 755 runc-here
kept dockerd --host "unix://$work/engine.sock" --data-root "$work/data" --exec-root /run/docker --pidfile /run/dockerd.pid \
    --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$name" --bip 172.17.0.1/16 \
    --add-runtime "here=$work/runc-here" --default-runtime here &
kept etcd --data-dir "$work/etcd" --unsafe-no-fsync --listen-peer-urls http://127.0.0.1:2380 \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 &

# certificate NAME SUBJECT [OPTION...]: NAME.crt and NAME.key
certificate() {
    openssl req -x509 -config <(printf '[req]\ndistinguished_name=name\n[name]\n') -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc \
        -days 30 -subj "$2" -keyout "$1.key" -out "$1.crt" "${@:3}" 2>/dev/null
}
certificate ca /CN=procession -addext basicConstraints=critical,CA:TRUE -addext keyUsage=keyCertSign
issued() {
    certificate "$@" -CA ca.crt -CAkey ca.key -addext basicConstraints=critical,CA:FALSE -addext keyUsage=digitalSignature \
        -addext extendedKeyUsage=serverAuth,clientAuth
}
issued kube-apiserver /CN=kube-apiserver \
    -addext subjectAltName=DNS:localhost,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:172.17.0.1,IP:10.96.0.1
issued kubelet /O=system:nodes/CN=system:node:node1 -addext subjectAltName=DNS:node1,IP:172.17.0.1
issued kube-controller-manager /CN=system:kube-controller-manager
issued kube-scheduler /CN=system:kube-scheduler
issued certificate /O=system:masters/CN=certificate

# configuration NAME USER: NAME.conf, for who says with USER who they are
configuration() {
    cat >"$1.conf" <<CONF
apiVersion: v1
kind: Config
clusters: [{name: procession, cluster: {server: "https://127.0.0.1:6443", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: $1, user: {$2}}]
contexts: [{name: procession, context: {cluster: procession, user: $1, namespace: default}}]
current-context: procession
CONF
}
for user in kubelet kube-controller-manager kube-scheduler certificate; do
    configuration $user "client-certificate-data: $(base64 -w0 $user.crt), client-key-data: $(base64 -w0 $user.key)"
done
for user in nobody user; do
    token=$(head -c 24 /dev/urandom | base64)
    configuration $user "token: $token"
    printf '%s,%s,%s,"%s"\n' "$token" $user $user "$([ $user = nobody ] || echo system:masters)" >>tokens
done

kept kube-apiserver --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --advertise-address=172.17.0.1 \
    --tls-cert-file=kube-apiserver.crt --tls-private-key-file=kube-apiserver.key --client-ca-file=ca.crt --token-auth-file=tokens \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged \
    --kubelet-client-certificate=certificate.crt --kubelet-client-key=certificate.key --kubelet-certificate-authority=ca.crt \
    --kubelet-preferred-address-types=InternalIP --service-cluster-ip-range=10.96.0.0/24 \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=kube-apiserver.crt \
    --service-account-signing-key-file=kube-apiserver.key &

# waits_for COMMAND...: until it succeeds; in vain it ends this place, saying what daemons said last
waits_for() {
    until "$@"; do
        [ "$SECONDS" -lt 150 ] || { tail -n 2 -- *.log >&2 && exit 1; }
        sleep 0.1
    done
}
api() { kubectl --kubeconfig user.conf "$@" 2>/dev/null; }
waits_for api get --raw /readyz >/dev/null
# What takes a minute elsewhere shows here in seconds.
kept kube-controller-manager --kubeconfig=kube-controller-manager.conf --use-service-account-credentials --leader-elect=false --port=0 \
    --service-account-private-key-file=kube-apiserver.key --root-ca-file=ca.crt \
    --node-monitor-period=1s --node-monitor-grace-period=16s &
kept kube-scheduler --kubeconfig=kube-scheduler.conf --leader-elect=false --port=0 &
waits_for test -S engine.sock
tar c -C "$(dirname "$(command -v pause)")" pause | docker --host "unix://$work/engine.sock" import --change 'ENTRYPOINT ["/pause"]' - pause:1 >/dev/null
# Pods find the server where they look for it, without a proxy.
iptables -t nat -A PREROUTING -d 10.96.0.1 -p tcp --dport 443 -j DNAT --to-destination 172.17.0.1:6443
cat >kubelet.yaml <<CONF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 172.17.0.1
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $work/ca.crt}}
authorization: {mode: AlwaysAllow}
tlsCertFile: $work/kubelet.crt
tlsPrivateKeyFile: $work/kubelet.key
cgroupDriver: cgroupfs
cgroupRoot: /$name
enforceNodeAllocatable: []
evictionHard: {memory.available: 0%, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%}
imageGCHighThresholdPercent: 100
failSwapOn: false
oomScoreAdj: 0
healthzPort: 0
maxPods: 250
nodeStatusUpdateFrequency: 1s
nodeLeaseDurationSeconds: 8
kubeAPIQPS: 100
kubeAPIBurst: 200
eventRecordQPS: 100
eventBurst: 200
# Nothing answers there, and that at once.
clusterDNS: [172.17.0.1]
clusterDomain: cluster.local
CONF
# Without a cloud's address, which no more than any other leads out of here.
AWS_EC2_METADATA_DISABLED=true kept kubelet --config=kubelet.yaml --kubeconfig=kubelet.conf --root-dir="$work/kubelet" \
    --container-runtime=docker --docker-endpoint="unix://$work/engine.sock" --pod-infra-container-image=pause:1 \
    --node-ip=172.17.0.1 --hostname-override=node1 --volume-plugin-dir=/run/plugins &
node_ready() {
    [ "$(api get node node1 --output 'jsonpath={.status.conditions[?(@.type=="Ready")].status} {.spec.taints}')" = 'True ' ]
}
waits_for node_ready
waits_for api get serviceaccount default --output name
touch ready
# Not exec: PID 1 has to reap what loses its parent.
wait

#!/usr/bin/env bash
# engines/kube-build.sh FOLDER <SOURCES: builds Kubernetes into FOLDER from the source package of Debian 12, the last that is whole;
# packages with its servers there are none. SOURCES is a sources.list. Sources and the compiler's cache, 1.5 GB, are gone afterwards;
# FOLDER appears when it is complete.
set -euo pipefail
folder=$1 version=1.20.2
work=$folder.work
mkdir -p "$(dirname "$folder")"
exec 9>"$folder.lock"
flock 9
[ ! -d "$folder" ] || exit 0
rm -rf "$work"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,cache/archives/partial,go/src/k8s.io}
cd "$work"

cat >sources.list
# The machine's own lists stay as they are.
ours=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache"
    -o APT::Sandbox::User=root)
apt-get "${ours[@]}" update -qq
apt-get "${ours[@]}" source -qq kubernetes
mv kubernetes-*/ go/src/k8s.io/kubernetes
cd go/src/k8s.io/kubernetes
grep -q "really$version" debian/changelog || { echo "the source package is not of $version: $(head -n 1 debian/changelog)" >&2; exit 1; }

# A kubelet with this asks a cloud's address for credentials when it starts.
sed -i '/credentialprovider\/aws"/d' cmd/kubelet/app/plugins.go
export GO111MODULE=off GOPATH=$work/go GOCACHE=$work/gocache GOTMPDIR=$work/cache CGO_ENABLED=0 GOFLAGS=-p=${JOBS:-$(nproc)}
# The source package lacks the one generated file that is not in the repository.
go build -o "$work/openapi-gen" k8s.io/kubernetes/vendor/k8s.io/kube-openapi/cmd/openapi-gen
typed=$(grep -Rl --include='*.go' '+k8s:openapi-gen=' cmd pkg plugin vendor/k8s.io/ |
    grep -vE 'vendor/k8s.io/(code-generator|sample-apiserver)/|/vendor/.*/vendor/' | xargs -n1 dirname | LC_ALL=C sort -u)
"$work/openapi-gen" --logtostderr -i "$(sed 's#^#k8s.io/kubernetes/#' <<<"$typed" | paste -sd,)" -p k8s.io/kubernetes/pkg/generated/openapi \
    -O zz_generated.openapi -h vendor/k8s.io/code-generator/hack/boilerplate.go.txt -r "$work/violations" --output-base "$work/go/src"
named=
for package in client-go/pkg component-base; do
    at=k8s.io/kubernetes/vendor/k8s.io/$package/version
    named+=" -X $at.gitVersion=v$version -X $at.gitMajor=1 -X $at.gitMinor=20"
done
mkdir "$work/bin"
nice go build -tags providerless -o "$work/bin/" -ldflags "-s -w$named" \
    k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubelet,kubectl}
gcc -static -Os -s -o "$work/bin/pause" build/pause/linux/pause.c
mv "$work/bin" "$folder"

#!/bin/sh
# Runs one target of the fuzzer, or each in turn: fuzz.sh [SECONDS [TARGET]]
#
# libFuzzer with LLVM's coverage counters, which the stable toolchain has; no sanitizer, so what is found are panics,
# broken invariants, hangs and memory without bounds. What it finds new goes into a folder in the cache, what fails
# beside it.
set -eu
seconds=${1:-120}
cd "$(dirname "$0")/.."
work=${CARGO_TARGET_DIR:?}/fuzz
coverage='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Clink-dead-code'
host=$(rustc -vV | sed -n 's/^host: //p')

# With a target named, build scripts are built without the counters, for which they have nothing to link.
RUSTFLAGS="--cfg fuzzing $coverage" CARGO_TARGET_DIR="$work" \
    cargo build --release --manifest-path fuzz/Cargo.toml --target "$host" ${2:+--bin "$2"} \
    $(case ${2:-exit} in exit | value) echo --features python ;; esac) $([ "${2:-journal}" != journal ] || echo --features host)
for target in ${2:-frame handshake lines exit value journal}; do
    mkdir -p "$work/new/$target" "$work/failed"
    "$work/$host/release/$target" -max_total_time="$seconds" -max_len=8192 -rss_limit_mb=1024 -timeout=10 \
        -artifact_prefix="$work/failed/$target-" "$work/new/$target" "fuzz/corpus/$target"
done

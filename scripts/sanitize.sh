#!/usr/bin/env bash
# Runs under AddressSanitizer, which needs a nightly Rust, what handles packets: the tests of the parts, of the data
# plane and of the node with its `unsafe`, and then whole nodes at full speed in network namespaces (root).
# What the sanitizer finds ends the program that it is found in, and with it the test. `sanitize.sh NAME...` runs those
# tests of tests/e2e instead of the usual ones.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! rustc +nightly --version >/dev/null 2>&1; then
    echo "sanitize: no nightly Rust here: rustup toolchain install nightly" >&2
    exit 1
fi
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}")/sanitize

# With a target named, build scripts and macros are built as ever, and only what is tested is instrumented.
sanitized() {
    local command=$1
    shift
    CARGO_TARGET_DIR=$folder RUSTFLAGS=-Zsanitizer=address cargo +nightly "$command" --target "$host" "$@"
}

# One test floods by the real clock, three hundred handshakes a second, which an instrumented build need not reach.
sanitized test -p ringfence-packet -p ringfence-policy -p ringfence-wg -p ringfence-dataplane -p ringfence-node -- \
    --skip a_member_at_a_new_address_gets_through_a_flood_with_its_cookie
sanitized build -p ringfence-node -p ringfence-controller -p ringfence-cli

# Leaks are looked for by tracing, which the daemons forbid.
export ASAN_OPTIONS=detect_leaks=0
export RINGFENCE_BIN_DIR=$folder/$host/debug
(($#)) || set -- offload:: rough:: revocation::
cargo test -p ringfence-e2e --test behaviour -- "$@"

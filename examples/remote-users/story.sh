#!/usr/bin/env bash
# Runs the example that `make remote-users` has built. Arguments go to it: --keep, --no-wait.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
demo=${CARGO_TARGET_DIR:-$root/target}/debug/remote-users

if [[ ! -x $demo ]]; then
    echo "remote-users: $demo is not built: run \`make remote-users\`" >&2
    exit 1
fi
# Network namespaces need root. exec, so that Ctrl-C and the exit code are the demo's own.
if ((EUID != 0)); then
    exec sudo "$demo" "$@"
fi
exec "$demo" "$@"

#!/usr/bin/env bash
# Installs what building, testing and the demo need on Debian 12. Says nothing when all is there; safe to repeat.
set -euo pipefail

# Program (or file) that must be there, and the Debian package that brings it.
needs=(
    "cc build-essential"                                # rusqlite and aws-lc compile C
    "ip iproute2"                                       # the lab's namespaces, bridges and addresses
    "nft nftables"                                      # the lab's NAT, loss and partitions
    "ping iputils-ping"
    "ps procps"                                         # ps, and the sysctl that wg-quick calls
    "setpriv util-linux"                                # nodes without root; nsenter and mount come with it
    "unshare util-linux"
    "wg wireguard-tools"                                # the stock clients that tests talk to
    "wireguard-go wireguard-go"
    "nmap nmap"                                         # the adversary suite: scans
    "faketime faketime"                                 # a node whose certificate grows old
    "swtpm swtpm"                                       # a TPM 2.0 for each node that has one
    "swtpm_localca swtpm-tools"                         # what a maker of TPMs signs their keys with
    "openssl openssl"                                   # old TLS
    "ssh-keygen openssh-client"                         # signs the scripts that facts come from
    "valgrind valgrind"                                 # counts the instructions of hot functions
    "iperf3 iperf3"                                     # the load of `make bench`
    "ethtool ethtool"                                   # its ceiling without offloads; tests switch them off too
    "tcpdump tcpdump"                                   # what came out of a tunnel, with its checksums judged
    "/usr/lib/python3/dist-packages/scapy/all.py python3-scapy" # packets no honest stack sends
    "psql postgresql-client"
    "/usr/lib/postgresql/15/bin/postgres postgresql-15" # the protected asset of the demo
    "node nodejs"                                       # runs the OpenID provider that tests log in at, and steers…
    "chromium chromium"                                 # …the browser that people of the tests have
    "npm npm"                                           # installs both ends of that: tests/e2e/idp
)

missing=()
for need in "${needs[@]}"; do
    read -r program package <<<"$need"
    if [[ ! -e "$program" ]] && ! PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null; then
        echo "setup: $program is missing, installing $package"
        missing+=("$package")
    fi
done

if ! command -v cargo >/dev/null; then
    echo "setup: cargo is missing. Install Rust first: https://rustup.rs" >&2
    exit 1
fi

# The provider and the browser's driver, pinned by a lock file; installed again when that is newer.
idp=$(dirname "$0")/../tests/e2e/idp
npm_packages() {
    if [[ "$idp/node_modules/.package-lock.json" -nt "$idp/package-lock.json" ]]; then
        return
    fi
    echo "setup: installing the packages of tests/e2e/idp"
    (cd "$idp" && npm ci --silent --no-audit --no-fund --ignore-scripts)
    touch "$idp/node_modules/.package-lock.json"
}

if ((${#missing[@]} == 0)); then
    npm_packages
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "setup: no apt-get here. Install these yourself: ${missing[*]}" >&2
    exit 1
fi

as_root=()
if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
        echo "setup: run this as root, there is no sudo to install ${missing[*]} with" >&2
        exit 1
    fi
    as_root=(sudo)
fi

# Debian's PostgreSQL package makes and starts a database of its own. Tests and demo start theirs inside a namespace,
# so for the time of the installation this file tells the package not to.
no_cluster=/etc/postgresql-common/createcluster.d/ringfence-setup.conf
log=$(mktemp)
trap '"${as_root[@]}" rm -f "$no_cluster"; rm -f "$log"' EXIT
"${as_root[@]}" mkdir -p "$(dirname "$no_cluster")"
echo "create_main_cluster = false" | "${as_root[@]}" tee "$no_cluster" >/dev/null

# Runs one long step quietly, with what it printed shown only if it fails.
step() {
    local what=$1
    shift
    echo "setup: $what"
    if ! "${as_root[@]}" "$@" >"$log" 2>&1; then
        cat "$log" >&2
        echo "setup: failed: $*" >&2
        exit 1
    fi
}

step "reading the package lists" apt-get update -q
step "installing ${missing[*]} (a minute or two)" \
    env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
npm_packages
echo "setup: done"

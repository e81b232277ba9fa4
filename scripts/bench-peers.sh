#!/usr/bin/env bash
# Installs the tunnels that `make bench` compares with, into target/bench-peers alone. What cannot be had is said and
# left out: the comparison goes on without it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

peers=$(mkdir -p "${CARGO_TARGET_DIR:-target}/bench-peers" && cd "${CARGO_TARGET_DIR:-target}/bench-peers" && pwd)
log="$peers/install.log"
: >"$log"

# Runs one long step quietly; that it failed is told, with where to read why.
step() {
    local what=$1
    shift
    echo "bench-peers: $what"
    "$@" >>"$log" 2>&1 || echo "bench-peers: failed, see $log: $*"
}

for wanted in "boringtun-cli 0.7.1 boringtun-cli" "gotatun-cli 0.10.2 gotatun"; do
    read -r package version program <<<"$wanted"
    [[ -x "$peers/bin/$program" ]] || step "building $package $version" \
        env CARGO_TARGET_DIR="$peers/build" cargo install "$package" --version "$version" --locked --root "$peers"
done

# Debian's unstable suite has them years newer than the stable one, and old ones are no measure. Lists and cache are
# apt's own but in a folder of ours, and packages are unpacked there: the machine's packages stay what they are.
newest="$peers/newest"
if [[ ! -x "$newest/usr/bin/nebula" || ! -x "$newest/usr/bin/wireguard-go" ]]; then
    mkdir -p "$peers/apt/lists/partial" "$peers/apt/cache/archives/partial" "$newest"
    cat >"$peers/apt/newest.sources" <<'SOURCES'
Types: deb
URIs: http://deb.debian.org/debian
Suites: sid
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
    apt=(apt-get -q -o "Dir::Etc::sourcelist=$peers/apt/newest.sources" -o Dir::Etc::sourceparts=-
        -o "Dir::State::lists=$peers/apt/lists" -o "Dir::Cache=$peers/apt/cache" -o APT::Sandbox::User=root)
    step "reading the lists of Debian's unstable suite" "${apt[@]}" update
    for package in nebula wireguard-go; do
        step "fetching $package" bash -c 'cd "$1/apt" && shift && package=$1 && shift && "$@" download "$package"' \
            fetch "$peers" "$package" "${apt[@]}"
        for file in "$peers/apt/$package"_*.deb; do
            [[ ! -e "$file" ]] || step "unpacking $package" dpkg -x "$file" "$newest"
        done
    done
fi

for program in nebula wireguard-go; do
    if [[ ! -x "$newest/usr/bin/$program" ]] && ! command -v "$program" >/dev/null; then
        step "installing $program as this system has it" \
            env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$program"
    fi
done

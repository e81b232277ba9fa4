# The menu. `make` alone prints it.
.DEFAULT_GOAL := help
.PHONY: help demo remote-users test sim lint build setup fuzz sanitize bench bench-instructions

help: ## print this menu
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 27

demo: setup ## protect a real database in namespaces, and watch it happen (root; ten seconds after the build)
	cargo build --workspace --bins
	@examples/critical-database/demo.sh

remote-users: setup ## people on laptops: login, second factor, posture, and five ways out (root; 90 seconds after the build)
	cargo build --workspace --bins
	@examples/remote-users/story.sh

test: setup ## run every test, the real binaries in network namespaces included (root)
	cargo build --workspace --bins
	cargo test --workspace
	cd tests/sim && cargo test --release
	cargo run --release -p ringfence-instructions -- check

SEEDS ?= 0..1000
SIM_SECONDS ?= 300
sim: ## simulate whole meshes in virtual time: make sim SEEDS=0..10000 SIM_SECONDS=300
	cd tests/sim && cargo run --release -- --seeds $(SEEDS) --seconds $(SIM_SECONDS)

fuzz: ## run libFuzzer on one target: make fuzz TARGET=packet SECONDS=60 (cargo install cargo-fuzz)
	@mkdir -p tests/fuzz/libfuzzer/found/$(TARGET)
	cargo fuzz run --fuzz-dir tests/fuzz/libfuzzer -s none $(TARGET) tests/fuzz/libfuzzer/found/$(TARGET) tests/fuzz/corpus/$(TARGET) -- -max_total_time=$(SECONDS)

sanitize: setup ## run the data plane and real nodes under AddressSanitizer (root; a nightly Rust)
	@scripts/sanitize.sh

BENCH ?=
bench: setup ## measure side by side with other tunnels, and write docs/performance.md (root; 15 minutes): make bench BENCH=--quick
	@scripts/bench-peers.sh
	cargo build --release --workspace --bins
	@"$${CARGO_TARGET_DIR:-target}/release/ringfence-bench" $(BENCH)

bench-instructions: setup ## count the instructions of hot functions; 5 % more than stored fails: make bench-instructions STORE=1
	cargo run --release -p ringfence-instructions -- $(if $(STORE),store,check)

lint: setup ## check formatting and lints; licences and advisories too where cargo-deny is installed
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cd tests/sim && cargo fmt --check && cargo clippy --release --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check; \
	else echo "lint: no cargo-deny here, so no advisories; tests/tidy checks licences and known floors"; fi

build: setup ## build the three programs, optimised, into target/release
	cargo build --release --workspace --bins

setup: ## install what all of the above need, on Debian 12
	@scripts/setup.sh

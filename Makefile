# The targets that people and CI call; `make help` lists them.
#
# `make demo` and `make test` each work as the first command on a fresh
# Debian 12 with Rust: scripts/build-packages sees to the packages.

# cargo as rustup installs it, also where no login shell set the path.
export PATH := $(HOME)/.cargo/bin:$(PATH)

# One profile everywhere, so that each dependency is compiled once.
CARGO_BUILD = cargo build --release --workspace --bins

.PHONY: help demo test check build packages rocksdb peers corpora

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1@/p' Makefile | column -t -s @

demo: build peers ## train on generated mail, filter the rest, show headers and a table
	scripts/demo

test: build peers corpora ## every test, with Debian's bmf and the corpora when present
	POSTERN_PEERS="$$(scripts/peers)" cargo test --release --workspace

check: packages rocksdb ## formatting, lints, documentation, unit tests
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --release --workspace --no-deps
	cargo test --release --workspace --lib --bins

build: packages rocksdb ## the programs, under target/release
	$(CARGO_BUILD)

packages:
	@scripts/build-packages

# A failure says so itself, and leaves cargo to build RocksDB, slowly.
rocksdb: packages
	@scripts/build-rocksdb || true

peers:
	@scripts/peers >/dev/null

corpora: packages
	@scripts/unpack-corpora

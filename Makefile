# The targets that people and CI call; `make help` lists them.
#
# `make demo` and `make test` each work as the first command on a fresh
# Debian 12 with Rust: scripts/build-packages sees to the packages.

PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 60
SECONDS ?= 1800
MESSAGES ?= 10000
prefix = $(DESTDIR)$(PREFIX)

# cargo as rustup installs it, also where no login shell set the path.
export PATH := $(HOME)/.cargo/bin:$(PATH)

# One profile everywhere, and always the whole workspace, whose features are others
# than those of one crate: each dependency is compiled once.
CARGO_BUILD = cargo build --release --workspace --bins

BENCHES = POSTERN_PEERS="$$(scripts/peers)" target/release/benches

.PHONY: help accuracy attacks demo test check audit fuzz faults bench bench-quick bench-instructions bench-watch bench-asking bench-host bench-gate soak build manual package install packages rocksdb peers corpora

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1@\2/p' Makefile | \
		while IFS=@ read -r target does; do printf '  make %-18s %s\n' "$$target" "$$does"; done

demo: build peers ## train on generated mail, filter the rest, show headers and a table; then the mail host
	scripts/demo
	scripts/demo-host

test: build peers corpora ## every test, with Debian's bmf and the corpora when present
	POSTERN_PEERS="$$(scripts/peers)" cargo test --release --workspace

check: packages rocksdb ## formatting, lints, documentation, unit tests
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --release --workspace --no-deps
	cargo test --release --workspace --lib --bins

# Needs the network, or a clone of the advisories: see scripts/audit.
audit: ## cargo-deny and cargo-audit: advisories, licences, sources, crates there twice
	scripts/audit

fuzz: packages ## each fuzz target for FUZZ_SECONDS, by default 60
	scripts/fuzz $(FUZZ_SECONDS)

faults: build peers ## 500 kills in the middle of training, for each kind of database, and of the mail host
	POSTERN_PEERS="$$(scripts/peers)" POSTERN_FAULTS=500 cargo test --release --workspace \
		--test killed --test bmfd_killed --test crashed --test power_cut -- --nocapture
	POSTERN_FAULTS=500 cargo test --release --workspace --test store killed

attacks: build ## hostile mail against the modern engine; fails when it stands worse than before
	target/release/bmfeval attack --expect corpora/attacks.toml

# An hour or two on two cores: every figure of the README's accuracy table, with
# the peers in the same runs.
accuracy: build peers corpora ## filters side by side on the corpora, kept as docs/runs/DATE-accuracy.md
	POSTERN_PEERS="$$(scripts/peers)" scripts/accuracy

# On a quiet machine; some ten minutes.
bench: build peers corpora ## our bmf beside the originals, kept as docs/runs/DATE-bench.csv and .md
	$(BENCHES) --keep docs/runs

bench-quick: build peers corpora ## the same in a minute, of no weight, not kept
	$(BENCHES) --quick

bench-instructions: build peers corpora ## instructions that callgrind counts, on any machine
	$(BENCHES) --instructions

bench-watch: build ## bmfd serve with 10,000 mailboxes of 100 messages: start, memory, delay
	cargo bench --workspace --bench watch

bench-asking: build peers ## answers of bmfd serve a second, beside spamd's
	POSTERN_PEERS="$$(scripts/peers)" cargo bench --workspace --bench asking

# As root, on a quiet machine; a quarter of an hour.
bench-host: build peers ## postern beside Postfix and OpenSMTPD, kept as docs/runs/DATE-host.md; MESSAGES, by default 10000
	$(BENCHES) --host $(MESSAGES) --keep docs/runs

# As root, on a quiet machine; two minutes.
bench-gate: build peers ## the gate beside Postfix's postscreen, kept as docs/runs/DATE-gate.md
	$(BENCHES) --gate --keep docs/runs

soak: build peers ## random moves by IMAP while bmfd learns, for SECONDS, by default 30 minutes
	POSTERN_PEERS="$$(scripts/peers)" POSTERN_SOAK=$(SECONDS) \
		cargo test --release --workspace --test dovecot random -- --nocapture

build: packages rocksdb ## the programs, under target/release
	$(CARGO_BUILD)

# All at once: one by one, each would have its own features of what it needs.
MANUALS = manual bmfd-manual bmfeval-manual postern-manual

manual: packages rocksdb
	cargo build --release --workspace $(MANUALS:%=--example %)
	for manual in $(MANUALS); do target/release/examples/$$manual target/manual || exit; done

package: build manual peers ## Debian packages under target/packages, tried in a copy of this system
	scripts/package
	scripts/try-packages

# After `make build manual` as a user, `sudo make install` needs no cargo and
# installs what is there.
ifneq ($(shell PATH="$(HOME)/.cargo/bin:$$PATH" command -v cargo),)
install: build manual
endif
install: ## programs, man pages, completions, to $(DESTDIR)$(PREFIX)
	install -D -t $(prefix)/bin target/release/bmf target/release/bmfconv target/release/bmfeval
	install -D -t $(prefix)/sbin target/release/bmfd target/release/postern
	install -D -m 644 -t $(prefix)/share/doc/bmfeval docs/bmfeval.md
	install -D -m 644 -t $(prefix)/share/doc/bmfeval/adapters corpora/adapters/*.toml
	install -D -m 644 -t $(prefix)/share/doc/bmfd docs/bmfd.toml docs/integration.md docs/learning.md
	install -D -m 644 -t $(prefix)/share/doc/postern docs/postern.toml docs/queue.md docs/gate.md \
		docs/authentication.md docs/moving-in.md docs/moving-out.md docs/upgrades.md
	install -d $(prefix)/lib/systemd/system
	for name in bmfd postern; do \
		sed 's,/usr/local/,$(PREFIX)/,' packaging/$$name.service >$(prefix)/lib/systemd/system/$$name.service; \
	done
	install -D -m 644 -t $(prefix)/share/man/man1 target/manual/*.1
	install -D -m 644 -t $(prefix)/share/man/man8 target/manual/*.8
	for name in bmf bmfconv bmfd bmfeval postern; do \
		install -D -m 644 target/manual/$$name.bash $(prefix)/share/bash-completion/completions/$$name; \
	done
	install -D -m 644 -t $(prefix)/share/fish/vendor_completions.d target/manual/*.fish
	install -D -m 644 -t $(prefix)/share/zsh/site-functions target/manual/_*

packages:
	@scripts/build-packages

# A failure says so itself, and leaves cargo to build RocksDB, slowly.
rocksdb: packages
	@scripts/build-rocksdb || true

peers:
	@scripts/peers >/dev/null

corpora: packages
	@scripts/unpack-corpora

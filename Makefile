# What can be made of Floodgate; `make` alone lists it. Whatever is missing on the machine is installed first.

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
BUF_VERSION := 1.75.0

BUILT_WITH := protobuf-compiler libprotobuf-dev
RUN_WITH := redis-server redis-tools etcd-server etcd-client postgresql util-linux
MEASURED_WITH := haproxy nginx-light nghttp2-client
FUZZED_WITH := g++

# They are passed on as flags, so that an empty one means none.
unexport SEED DRILL TRIALS LIVE_ORDERS BUG KEEP

# With failpoints and seeded bugs, which nothing that is released has.
DRILLS := --features floodgate-cell/drills

# $(call flag,NAME) is `--name VALUE` when NAME is set.
flag = $(if $($(1)),--$(shell echo $(1) | tr A-Z_ a-z-) '$($(1))')

.DEFAULT_GOAL := help
.PHONY: help demo test bench drill attack fuzz bugs model released lint fmt clippy docs protos fresh clean packages bins

help:
	@echo 'make demo  [SEED=n] [DRILL=name]              a sale on a whole platform, end to end, and the verdict'
	@echo 'make test  [FLOODGATE_SEED=n]                 every test, on real servers'
	@echo 'make bench                                    every figure beside its budget'
	@echo 'make drill [NAME=name] [TRIALS=n] [SEED=n]    trials of a fault, or small-sales, on one platform; without a name, what there is'
	@echo 'make attack [NAME=name]                       attacks on a router, and what became of them'
	@echo 'make fuzz [NAME=target] [FOR_S=n] [KEEP=1]    what reads bytes of strangers, on nightly, a minute each'
	@echo 'make bugs [BUG=name]                          each seeded bug, and the test that finds it'
	@echo 'make model                                    take-over, line and transfers in every order of events'
	@echo 'make released                                 that nothing of drills is in what is released'
	@echo 'make lint                                     format, lints, documentation, protos'
	@echo 'make fresh                                    demo and test on a new Debian, as root'
	@echo 'make clean                                    removes what was built'

packages:
	@sh deploy/local/packages.sh $(BUILT_WITH) $(RUN_WITH)

bins: packages
	$(CARGO) build --locked --release --workspace --bins

demo: bins
	$(TARGET)/release/floodgate-chaos demo $(call flag,SEED) $(call flag,DRILL)

# Tests start the programs, so these are built with them, once, with the same features. Nothing is tried twice.
test: packages
	@$(CARGO) build --locked --workspace --bins --tests $(DRILLS)
	@seed=$${FLOODGATE_SEED:-$$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')}; \
	export FLOODGATE_SEED=$$seed PROPTEST_RNG_SEED=$$seed; \
	echo "FLOODGATE_SEED=$$seed"; \
	if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --locked --workspace $(DRILLS); \
	else \
		$(CARGO) test --locked --workspace $(DRILLS) --lib --bins --tests --no-fail-fast -- --test-threads=2; \
	fi || { echo "failed; the same again: make test FLOODGATE_SEED=$$seed" >&2; exit 1; }

bench: bins
	@sh deploy/local/packages.sh $(MEASURED_WITH)
	$(TARGET)/release/floodgate-bench

# With a seed every trial has one of its own, counted up from it.
drill: packages
	$(CARGO) build --locked --release --workspace --bins $(DRILLS)
	$(TARGET)/release/floodgate-chaos drill $(NAME) $(call flag,TRIALS) $(call flag,SEED) $(call flag,LIVE_ORDERS)

attack: bins
	$(TARGET)/release/floodgate-chaos attack $(or $(NAME),all)

# Their corpus is replayed by `make test`; with KEEP=1 what is found is added to it.
fuzz: packages
	@sh deploy/local/packages.sh $(FUZZED_WITH)
	@sh chaos/fuzz/fuzz.sh $(or $(NAME),all) $(or $(FOR_S),60) $(if $(KEEP),keep)

# Every bug is planted once, and the tests that should find it are run; without one they must find nothing.
bugs: packages
	$(CARGO) build --locked --workspace --bins $(DRILLS)
	$(CARGO) test --locked --workspace $(DRILLS) --test seeded -- $(BUG)

model: packages
	FLOODGATE_MODEL=large $(CARGO) test --locked --release -p floodgate-cell --lib model -- --nocapture --test-threads=1

# The same test looks into a program without the feature here, and into one with it in `make test`.
released: packages
	$(CARGO) test --locked --workspace --test released

lint: fmt clippy docs protos

fmt:
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path chaos/fuzz/engine/Cargo.toml --check

clippy: packages
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --workspace $(DRILLS) --all-targets -- -D warnings
	$(CARGO) clippy --locked --workspace $(DRILLS) --test seeded -- -D warnings

docs: packages
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --locked --workspace --no-deps --document-private-items

# buf comes from PATH, or into a folder of its own. Where it cannot be had, only CI insists on it.
protos:
	@buf=$$(command -v buf || echo $(TARGET)/buf/bin/buf); \
	[ -x "$$buf" ] || { sh deploy/local/packages.sh python3 python3-venv && \
		python3 -m venv $(TARGET)/buf && \
		$(TARGET)/buf/bin/pip install -q --disable-pip-version-check buf-bin==$(BUF_VERSION); } || { \
		echo 'the protos were not linted: buf is missing, and could not be installed' >&2; \
		[ "$$CI" != true ]; exit; }; \
	"$$buf" lint proto

# Everything in it is made anew from the last commit.
fresh:
	@sh deploy/local/packages.sh debootstrap util-linux
	sh deploy/fresh.sh

clean:
	$(CARGO) clean

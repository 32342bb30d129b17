# Short front for Meson and ninja. `make` builds build/tandem; `make demo` and `make test` also install what this machine lacks.
BUILD ?= build
JOBS ?= $(shell nproc)

# ninja speaks only when something is built or fails
QUIET = >$(BUILD)/ninja.log || { tail -40 $(BUILD)/ninja.log; exit 1; }

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) -j $(JOBS) tandem $(QUIET)

$(BUILD)/build.ninja: | setup
	@meson setup $(BUILD) >$(BUILD)-setup.log 2>&1 || { cat $(BUILD)-setup.log; exit 1; }
	@rm -f $(BUILD)-setup.log

setup:
	@scripts/setup build

demo: all
	@printf 'Once upon a time'
	@$(BUILD)/tandem run -p "Once upon a time" --temp 0 --seed 1

test: all
	@ninja -C $(BUILD) -j $(JOBS) $(QUIET)
	@meson test -C $(BUILD) --suite quick --suite example --print-errorlogs

check: test
	@scripts/check

bench: all
	@ninja -C $(BUILD) -j $(JOBS) $(QUIET)
	@scripts/bench

sanitize:
	@scripts/sanitize

# AFD under churn with AddressSanitizer, then flat memory; the server under load with AddressSanitizer, then flat memory; seconds of each can be set
CHURN ?= 1800
FLAT ?= 600
SERVE ?= 600
soak: all
	@ninja -C $(BUILD) -j $(JOBS) $(QUIET)
	@[ -d build-addres ] || meson setup build-addres -Db_sanitize=address,undefined --buildtype=debugoptimized >/dev/null
	@ninja -C build-addres -j $(JOBS) tandem tests/afd/afd_streams tests/serve/serve_fake >build-addres/ninja.log || { tail -40 build-addres/ninja.log; exit 1; }
	@TD_BINARY=$(CURDIR)/build-addres/tandem TD_STREAMS=$(CURDIR)/build-addres/tests/afd/afd_streams TD_PLAIN_BINARY=$(CURDIR)/$(BUILD)/tandem TD_PLAIN_STREAMS=$(CURDIR)/$(BUILD)/tests/afd/afd_streams \
		tests/afd/soak.py --churn $(CHURN) --flat $(FLAT)
	@tests/serve/soak.py build-addres/tests/serve/serve_fake --seconds $(SERVE)
	@tests/serve/soak.py build-addres/tandem --seconds $(SERVE)
	@tests/serve/soak.py $(BUILD)/tandem --seconds $(SERVE) --flat

# Only lines changed since the last commit: the tree is never reformatted as a whole
format:
	@git clang-format --style=file --extensions c,h --force HEAD; [ $$? -le 1 ]

install: all
	@meson install -C $(BUILD)

clean:
	@rm -rf build build-*

.PHONY: all setup demo test check bench sanitize soak format install clean

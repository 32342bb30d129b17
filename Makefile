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

format:
	@clang-format -i $$(git ls-files '*.c' '*.h')

install: all
	@meson install -C $(BUILD)

clean:
	@rm -rf build build-*

.PHONY: all setup demo test check bench sanitize format install clean

# Builds, tests, shows and installs mod_finish_request. `make help` is the menu.

MODULE = mod_finish_request.so
# Where cargo builds, by its environment or its configuration.
TARGET = $(or $(CARGO_TARGET_DIR),$(subst $(CURDIR)/,,$(CONFIGURED)),target)
CONFIGURED = $(shell $(CARGO) metadata --no-deps --format-version 1 2>/dev/null | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
CARGO ?= cargo
# The first has cd print where it goes, and the second cargo build in another folder.
unexport CDPATH CARGO_BUILD_TARGET

ifdef APXS
export APXS
endif
export CARGO
# Where the demo and the bench find the module that `make` has built.
RUN = MOD_FINISH_REQUEST_SO="$(CURDIR)/$(MODULE)" exec $(CARGO)

# The scripts are given to their shells by name: a folder may be on a file system that is mounted noexec, and they say so.
.DEFAULT_GOAL = module
.NOTPARALLEL:
.PHONY: help module install uninstall supported demo picture test apps check soak differential bench lint doc dist deb packages build-packages toolchain clean

help:
	@echo 'Two commands that need nothing but Debian, a Rust toolchain and make:'
	@echo '  make demo          shows real applications that answer at once and work on'
	@echo '  make demo KEEP=1   the same, and leaves the servers running until Ctrl-C'
	@echo '  make test          runs all tests; TEST=name runs those with this in their names'
	@echo 'And the rest:'
	@echo '  make               builds $(MODULE), optimised'
	@echo '  make install       installs it where apxs says; below DESTDIR if that is set'
	@echo '  make uninstall     takes all of that away'
	@echo '  make apps          tries applications as Debian packages them, and a browser; needs more packages, which it installs'
	@echo '  make differential  compares many more applications with stock httpd; CASES=1000, SEED=1 say how many, which'
	@echo '  make check         looks with valgrind, sanitizers, faults and fuzzers, up to 30 minutes; LONG=1 all night'
	@echo '  make soak          loads a server for MINUTES=10 under each MPM, restarts it and kills its children meanwhile'
	@echo '  make bench         measures what the module costs, and what it gains; ONLY=name has one part, OUT=docs puts the report there'
	@echo '  make lint          checks format, clippy and documentation'
	@echo '  make doc           makes the manual as HTML, and the manual page, in $(TARGET)/doc'
	@echo '  make dist          makes the source release of what is committed, with all crates, in $(TARGET)/dist'
	@echo '  make deb           makes Debian packages of it, in $(TARGET)/deb'
	@echo '  make packages      installs what demo and test need (they do it by themselves)'
	@echo '  make clean         removes all that was built'
	@echo 'APXS=/path/to/apxs chooses the httpd, for each of them.'

module: toolchain supported build-packages
	@bash apxs/build.sh build --release --lib
	@install -m 644 "$(TARGET)/release/libmod_finish_request.so" $(MODULE)

install:
	@test -f $(MODULE) || $(MAKE) --no-print-directory module
	@sh apxs/install.sh install $(MODULE)

uninstall:
	@sh apxs/install.sh uninstall $(MODULE)

supported:
	@sh apxs/supported.sh

demo: toolchain supported packages module
	@bash apxs/build.sh build --example demo
	@$(RUN) run --quiet --example demo

# The picture of the demo's page in the README.
picture: toolchain supported packages module
	@bash apxs/build.sh build --example demo
	@sh tests/demo/picture.sh "$(CURDIR)/$(MODULE)" docs/demo.png

test: toolchain supported packages
	@bash tests/machine/run.sh $(TEST)

apps: toolchain supported
	@sh tests/machine/packages.sh apps
	@bash apxs/build.sh build --lib
	@$(CARGO) test --test promises apps::$(TEST) -- --ignored --nocapture --test-threads=1
	@sh tests/apps/table.sh "$(TARGET)/tmp/apps"

differential: toolchain supported packages
	@bash apxs/build.sh build --lib
	@DIFFERENTIAL_CASES=$(or $(CASES),1000) DIFFERENTIAL_SEED=$(or $(SEED),1) \
	    $(CARGO) test --test promises differential:: -- --nocapture --test-threads=2

check: toolchain supported packages
	@sh tests/machine/packages.sh check
	@bash tests/check/run.sh

soak: toolchain supported packages module
	@bash apxs/build.sh build --example soak
	@MINUTES=$(or $(MINUTES),10) $(RUN) run --quiet --example soak

bench: toolchain supported packages module
	@sh tests/machine/packages.sh bench
	@$(CARGO) bench --no-run --bench cost
	@ONLY="$(ONLY)" OUT="$(OUT)" $(RUN) bench --quiet --bench cost

lint: toolchain supported build-packages
	@sh tests/machine/toolchain.sh fmt clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --document-private-items

doc:
	@sh packaging/doc.sh "$(TARGET)/doc"

dist: toolchain
	@sh packaging/dist.sh "$(TARGET)/dist"

deb: toolchain supported
	@sh packaging/deb.sh "$(TARGET)/deb"

build-packages:
	@sh tests/machine/packages.sh build

packages:
	@sh tests/machine/packages.sh

toolchain:
	@sh tests/machine/toolchain.sh

clean:
	@$(CARGO) clean
	@rm -f $(MODULE)

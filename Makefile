# Tern: everything is built into build/. `make run` and `make test` are all that a newcomer needs; `make help` lists more.
#
#   BUILD=release (default, gcc) | clang | asan | tsan | fuzz (clang)      each builds into build/$(BUILD)

# What make says: the name of each step; V=1 shows the commands.
Q := $(if $(V),,@)
SAY := @$(if $(V),true,echo)

BUILD ?= release
CC := $(if $(filter default,$(origin CC)),$(if $(filter clang fuzz,$(BUILD)),clang,gcc),$(CC))
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 12
B := build/$(BUILD)

comma := ,
HARDEN := -O2 -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE
CFLAGS_release := $(HARDEN)
CFLAGS_clang := $(HARDEN)
CFLAGS_asan := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all
CFLAGS_sim := -O1 -fsanitize=undefined -fno-sanitize-recover=all
CFLAGS_tsan := -O1 -fsanitize=thread
CFLAGS_fuzz := -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
CFLAGS := -std=gnu11 -g -I. -I$(B) -pthread -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror \
	-fno-omit-frame-pointer -fno-strict-aliasing -D_GNU_SOURCE $(CFLAGS_$(BUILD)) $(EXTRA_CFLAGS)
LDLIBS := -luring -lyaml -ljansson -lssl -lcrypto -lcurl -largon2 -llmdb -lprotobuf-c -lm
LDFLAGS := -pthread $(CFLAGS_$(BUILD)) $(if $(filter release clang,$(BUILD)),-pie -Wl$(comma)-z$(comma)relro$(comma)-z$(comma)now)

CTL_SRC := $(wildcard broker/cli/*.c)
CORE_SRC := $(filter-out broker/main.c $(CTL_SRC),$(wildcard proto/*/*.c storage/*.c cluster/*.c broker/*.c broker/*/*.c))
WIRE := $(patsubst proto/wire/%.proto,$(B)/proto/wire/%.pb-c,$(wildcard proto/wire/*.proto))
CORE_OBJ := $(CORE_SRC:%.c=$(B)/%.o) $(WIRE:=.o)
BENCH_OBJ := $(patsubst %.c,$(B)/%.o,$(wildcard bench/*/*.c))
UNIT_SRC := $(wildcard tests/unit/*/*/*_test.c tests/unit/*/*_test.c)
UNIT := $(UNIT_SRC:%.c=$(B)/%)
FUZZ := $(patsubst %.c,$(B)/%,$(wildcard tests/fuzz/fuzz_*.c))
TESTLIB_SRC := $(filter-out tests/lib/failing_%.c,$(wildcard tests/lib/*.c))
TESTLIB_OBJ := $(TESTLIB_SRC:%.c=$(B)/%.o)
C_FILES := $(wildcard proto/*/*.[ch] storage/*.[ch] cluster/*.[ch] broker/*.[ch] broker/*/*.[ch] bench/*.[ch] bench/*/*.[ch] \
	tests/lib/*.[ch] tests/unit/*/*/*.[ch] tests/unit/bench/*.[ch] tests/unit/sim/*.[ch] tests/unit/storage/*.[ch] tests/unit/cluster/*.[ch] tests/sim/*.[ch] tests/crash/*.[ch] tests/fuzz/*.[ch] tests/e2e/*.[ch])

all: $(B)/tern $(B)/ternctl $(B)/tern-bench

help:
	@echo 'make run           set up what is missing, build, start three nodes (NODES=1: one) and show them at work; Ctrl-C ends them'
	@echo 'make test          set up what is missing, build with gcc and clang, run every test'
	@echo 'make               build build/release/tern, ternctl, tern-bench    (BUILD=clang|asan|tsan for other builds)'
	@echo 'make setup         install what building and testing need (apt; elsewhere it prints the list)'
	@echo 'make test-quick    the unit tests'
	@echo 'make test-asan     the unit tests with address and undefined-behaviour sanitizers'
	@echo 'make test-tsan     the unit tests of several threads with the thread sanitizer'
	@echo 'make torture       each allocation of the running broker fails once, in every flow'
	@echo 'make sim           500 simulated stories of crashes, and each planted bug found; make sim-long: for SIM_HOURS;'
	@echo '                   CLUSTER=1: of several nodes; SEED=n: one of them'
	@echo 'make hosts         nodes on several hosts (network namespaces; as root) whose machines, networks and links fail; hosts-long'
	@echo 'make crash         10,000 power cuts of a store that works, and each planted bug found'
	@echo 'make check         formatting, include rules, static analysis, reference in the README, manual pages'
	@echo 'make format        format all C files'
	@echo 'make fuzz          run each fuzz target for FUZZ_SECONDS (12)'
	@echo 'make bench         measure beside mosquitto, print a table and write a page of plots; some six minutes'
	@echo 'make bench-cluster what several nodes cost, one table (network namespaces; as root); some four minutes'
	@echo 'make deb           a Debian package of it, in build/deb'
	@echo 'make image         a container image of that, in build/image (as root, with mmdebstrap and podman)'
	@echo 'make install       install into DESTDIR/PREFIX (/usr/local)'
	@echo 'make clean         remove build/'

# What nodes say to each other: C from proto/wire/*.proto, before anything is compiled.
$(B)/%.pb-c.c $(B)/%.pb-c.h &: %.proto
	@mkdir -p $(dir $@)
	$(SAY) '  PROTO $<'
	$(Q)protoc-c --c_out=$(B) $<
$(B)/%.pb-c.o: $(B)/%.pb-c.c
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c $< -o $@

$(B)/%.o: %.c | $(WIRE:=.h)
	@mkdir -p $(dir $@)
	$(SAY) '  CC    $<'
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c $< -o $@

$(B)/broker/admin/openapi.o: broker/admin/openapi.json
$(B)/broker/admin/page.o: $(wildcard broker/admin/page/*)

$(B)/tern.a: $(CORE_OBJ)
	@rm -f $@
	$(Q)ar rcs $@ $^

$(B)/tern: $(B)/broker/main.o $(B)/tern.a
	$(SAY) '  LINK  $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
	@ln -sfn $(BUILD)/tern build/tern

$(B)/ternctl: $(CTL_SRC:%.c=$(B)/%.o) $(B)/tern.a
	$(SAY) '  LINK  $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
	@ln -sfn $(BUILD)/ternctl build/ternctl

$(B)/bench.a: $(BENCH_OBJ)
	@rm -f $@
	$(Q)ar rcs $@ $^

$(B)/tern-bench: $(B)/bench/main.o $(B)/bench.a $(B)/tern.a
	$(SAY) '  LINK  $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# Tests of the load tool need its rooms too; nobody else waits for them.
$(filter $(B)/tests/unit/bench/%,$(UNIT)): UNIT_LIBS = $(B)/bench.a $(B)/tern.a
$(filter $(B)/tests/unit/bench/%,$(UNIT)): $(B)/bench.a
# And those of the command line tool everything of it but its main().
CTL_LIB := $(filter-out $(B)/broker/cli/ternctl.o,$(CTL_SRC:%.c=$(B)/%.o))
$(filter $(B)/tests/unit/broker/cli/%,$(UNIT)): UNIT_LIBS = $(CTL_LIB) $(B)/tern.a
$(filter $(B)/tests/unit/broker/cli/%,$(UNIT)): $(CTL_LIB)
$(UNIT): $(B)/%: $(B)/%.o $(TESTLIB_OBJ) $(B)/tern.a
	$(SAY) '  LINK  $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(TESTLIB_OBJ) $(or $(UNIT_LIBS),$(B)/tern.a) $(LDLIBS) -lcunit

# The simulator: planted bugs stand in the product's place by --wrap, in this program only.
WORLD_OBJ := $(patsubst %.c,$(B)/%.o,$(wildcard tests/sim/*.c)) $(patsubst %,$(B)/tests/lib/%.o,sim_io sim_node mem_store mem_rows)
PLANTED := $(shell sed -n 's/^WRAP.[^,]*, \([a-z0-9_]*\),.*/-Wl,--wrap=\1/p' tests/sim/*.c)
$(B)/tern-sim: $(WORLD_OBJ) $(B)/tern.a
	$(SAY) '  LINK  $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(PLANTED) $(LDLIBS)

# Power cuts: this program's own pwrite, fdatasync and so on stand before the C library's, for liblmdb.so too.
$(B)/tern-crash: $(patsubst %.c,$(B)/%.o,$(wildcard tests/crash/*.c)) $(B)/tern.a
	$(SAY) '  LINK  $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -Wl,--wrap=mdb_env_open $(LDLIBS)

SIM_OBJ := $(patsubst %,$(B)/tests/lib/%.o,sim_io sim_node judge)

$(FUZZ): $(B)/%: $(B)/%.o $(SIM_OBJ) $(B)/tern.a
	$(SAY) '  LINK  $@'
	$(Q)$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $< $(SIM_OBJ) $(B)/tern.a $(LDLIBS)

# Preloaded into the broker by tests/torture, and by tests/e2e/failing_disk.py.
$(B)/failing_%.so: tests/lib/failing_%.c
	@mkdir -p $(dir $@)
	$(CC) $(filter-out -fPIE,$(CFLAGS)) -fPIC -shared -o $@ $<

units: $(UNIT) $(if $(filter release clang,$(BUILD)),$(B)/failing_disk.so $(B)/failing_malloc.so)

fuzzers: $(FUZZ)

# --- what a newcomer calls ------------------------------------------------------------------------------------------

setup:
	@deploy/setup.sh test

run:
	@deploy/setup.sh run
	@$(MAKE) --no-print-directory all
	@deploy/run.sh $(B)/tern

test:
	@deploy/setup.sh test
	@FUZZ_SECONDS=$(FUZZ_SECONDS) $(PYTHON) tests/run.py

test-quick: $(UNIT)
	@$(PYTHON) tests/lib/run_unit.py $(UNIT)

test-asan:
	@$(MAKE) --no-print-directory BUILD=asan test-quick

# The thread sanitizer sees nothing in programs of one thread: only the rooms that share memory are run under it.
TSAN_ROOMS := tests/unit/broker/auth tests/unit/broker/transport tests/unit/broker/loop tests/unit/broker/topic tests/unit/broker/base tests/unit/broker/flow
test-tsan:
	@$(MAKE) --no-print-directory BUILD=tsan UNIT_SRC='$(wildcard $(TSAN_ROOMS:%=%/*_test.c) tests/unit/bench/sequence_test.c tests/unit/storage/*_test.c)' test-quick

# 500 stories, then every planted bug until it is found; and stories for SIM_HOURS. CLUSTER=1: of several nodes, not of
# one. SEED=: that one story.
SIM_HOURS ?= 8
SIM_WORLD := $(if $(CLUSTER),--cluster)
sim sim-long:
	@$(MAKE) --no-print-directory BUILD=sim run-$@
run-sim: $(B)/tern-sim
	@$(B)/tern-sim $(SIM_WORLD) $(if $(SEED),--seed $(SEED))
run-sim-long: $(B)/tern-sim
	@$(B)/tern-sim $(SIM_WORLD) --hours $(SIM_HOURS)

# Power cuts of a store at work: so many images, then every planted bug until it is found.
CRASH_IMAGES ?= 10000
CRASH_SEED ?= 1
crash: $(B)/tern-crash
	@$(B)/tern-crash --images $(CRASH_IMAGES) --seed $(CRASH_SEED) --plants

torture: $(B)/tern $(B)/failing_malloc.so
	@$(PYTHON) tests/torture/run.py --tern $(B)/tern

torture-nodes: $(B)/tern $(B)/failing_malloc.so
	@$(PYTHON) tests/torture/nodes.py --tern $(B)/tern

# Nodes in network namespaces of their own, while machines, networks and links fail; hosts-long: HOSTS_ROUNDS times.
HOSTS_ROUNDS ?= 20
hosts: $(B)/tern $(B)/tern-bench
	@$(PYTHON) tests/hosts/run.py --tern $(B)/tern
hosts-long: $(B)/tern $(B)/tern-bench
	@$(PYTHON) tests/hosts/run.py --tern $(B)/tern --rounds $(HOSTS_ROUNDS)

check: check-format check-layers check-static check-readme check-man
	@echo '5 passed, 0 failed, 0 skipped'

check-format:
	@clang-format --dry-run -Werror $(C_FILES)

format:
	@clang-format -i $(C_FILES)

check-layers:
	@$(PYTHON) tests/lib/check_layers.py

check-static:
	@mkdir -p build/cppcheck
	@cppcheck --quiet --std=c11 --language=c -I. -D_GNU_SOURCE -D__linux__ -D__x86_64__ --enable=warning,portability \
		--inline-suppr --error-exitcode=1 --cppcheck-build-dir=build/cppcheck -j2 \
		$(filter %.c,$(filter-out tests/%,$(C_FILES)))

check-readme: $(B)/tern
	@$(PYTHON) tests/lib/config_reference.py $(B)/tern README.md deploy/tern.yaml

check-man: $(B)/tern $(B)/ternctl $(B)/tern-bench
	@$(PYTHON) tests/lib/check_man.py $(B) deploy/man

fuzz:
	@$(MAKE) --no-print-directory BUILD=fuzz fuzzers
	@FUZZ_SECONDS=$(FUZZ_SECONDS) $(PYTHON) tests/lib/run_fuzz.py $(FUZZ:$(B)/%=build/fuzz/%)

bench: $(B)/tern $(B)/tern-bench
	@deploy/setup.sh test
	@$(B)/tern-bench compare --scenarios bench/scenarios.yaml --brokers bench/brokers.yaml \
		--json build/bench.json --html build/bench.html $(BENCH_ARGS)
	@echo 'The page with all plots: build/bench.html'

# What several nodes cost, on hosts of their own (as root); BENCH_ARGS="--only shares --rounds 9".
bench-cluster: $(B)/tern $(B)/tern-bench
	@$(PYTHON) bench/cluster.py --tern $(B)/tern $(BENCH_ARGS)

install: $(B)/tern $(B)/ternctl $(B)/tern-bench
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/doc/tern
	install -m 755 $^ $(DESTDIR)$(PREFIX)/bin/
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 644 deploy/man/ternctl.1 deploy/man/tern-bench.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 644 deploy/man/tern.8 $(DESTDIR)$(PREFIX)/share/man/man8/
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	$(B)/ternctl completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/ternctl
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/lib/sysusers.d
	sed 's#/usr/bin/#$(PREFIX)/bin/#' deploy/systemd/tern.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/tern.service
	install -m 644 deploy/systemd/tern.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/tern.conf
	install -m 644 deploy/tern.yaml deploy/haproxy/haproxy.cfg README.md LICENSE $(DESTDIR)$(PREFIX)/share/doc/tern/

# build/deb/tern_VERSION_ARCH.deb, of what `make` has built.
DEB := build/deb
deb: all
	@rm -rf $(DEB) && mkdir -p $(DEB)/tern
	@cp -r deploy/debian $(DEB)/tern/debian
	@cp deploy/systemd/tern.service deploy/systemd/tern.sysusers $(DEB)/tern/debian/
	@cd $(DEB)/tern && TERN_SOURCE=$(CURDIR) dpkg-buildpackage --build=binary --no-sign -d >../build.log 2>&1 || { cat ../build.log; exit 1; }
	@ls $(DEB)/*.deb

# build/image/tern.tar, a container image of that package; as root.
image: deb
	@deploy/container/build.sh $(DEB)/tern_*.deb build/image

clean:
	rm -rf build

.PHONY: all help deb image units fuzzers setup run test test-quick torture torture-nodes hosts hosts-long crash sim sim-long run-sim run-sim-long test-asan test-tsan check check-format format check-layers \
	check-static check-readme check-man fuzz bench bench-cluster install clean
.SECONDARY:
-include $(shell find $(B) -name '*.d' 2>/dev/null)

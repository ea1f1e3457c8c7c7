# Tests, demo, benchmarks, fuzzing, lint: included by the Makefile.
#
# A unit test is one file tests/unit/NAME.c (cmocka), linked with the whole library as an archive (test_preload_*) or the whole exporter
# without its main (test_exporter_*). A fuzz target is one file tests/fuzz/NAME.c, linked the same way under the sanitizers.

DEPS_SCRIPT := tests/deps.sh

# What is installed: everything for the tests, a compiler and libraries for the rest, FastAPI besides for the demo.
deps:
	@$(DEPS_SCRIPT) all
deps-build:
	@$(DEPS_SCRIPT) build
deps-demo:
	@$(DEPS_SCRIPT) demo

# ---- archives to link tests with ----------------------------------------------------------------------------------------------------
$(BUILD)/libpreload.a: $(filter-out $(BUILD)/pic/preload/interpose/%,$(PRELOAD_OBJ))
	rm -f $@ && ar rcs $@ $^
$(BUILD)/libexporter.a: $(filter-out $(BUILD)/exporter/main.o,$(EXPORTER_OBJ))
	rm -f $@ && ar rcs $@ $^

UNIT_PRELOAD := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(wildcard tests/unit/test_preload_*.c))
UNIT_EXPORTER := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(wildcard tests/unit/test_exporter_*.c))

$(UNIT_PRELOAD): $(BUILD)/tests/unit/%: tests/unit/%.c $(BUILD)/libpreload.a
	@mkdir -p $(@D)
	$(CC) $(COMMON) -D_GNU_SOURCE -Ipreload $(CFLAGS) $< $(BUILD)/libpreload.a $(if $(findstring http2,$@),-lnghttp2) -lcmocka -lpthread -ldl -o $@
$(UNIT_EXPORTER): $(BUILD)/tests/unit/%: tests/unit/%.c $(BUILD)/libexporter.a
	@mkdir -p $(@D)
	$(CC) $(EXPORTER_CFLAGS) $(CFLAGS) $< $(BUILD)/libexporter.a -lcmocka $(EXPORTER_LIBS) -o $@

unit: $(UNIT_PRELOAD) $(UNIT_EXPORTER)

# ---- fuzzing: each target built with libFuzzer, ASan and UBSan from its sources -----------------------------------------------------
FUZZ_CC ?= clang
FUZZ_SECONDS ?= 60
FUZZ_FLAGS := -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -DOTSHIM_FUZZING
FUZZ_PRELOAD := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_preload_*.c))
FUZZ_EXPORTER := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_exporter_*.c))

$(FUZZ_PRELOAD): $(BUILD)/fuzz/%: tests/fuzz/%.c $(wildcard preload/proto/*.[ch] preload/context/*.[ch] preload/context/*/*.[ch] preload/span/*.[ch] preload/base/*.[ch])
	@mkdir -p $(@D)
	$(FUZZ_CC) -std=gnu11 -Iinclude -Ipreload -D_GNU_SOURCE -DOTSHIM_VERSION='"$(VERSION)"' $(FUZZ_FLAGS) $< \
	  $(wildcard preload/proto/*.c preload/context/*.c preload/context/*/*.c preload/span/*.c preload/base/*.c) -ldl -lpthread -o $@
$(FUZZ_EXPORTER): $(BUILD)/fuzz/%: tests/fuzz/%.c $(EXPORTER_SRC) $(wildcard exporter/*/*.h include/otshim/*.h) $(EXPORTER_PROTO_C)
	@mkdir -p $(@D)
	$(FUZZ_CC) $(EXPORTER_CFLAGS) -MF $@.d $(FUZZ_FLAGS) $< $(filter-out exporter/main.c,$(EXPORTER_SRC)) $(EXPORTER_PROTO_C) $(EXPORTER_LIBS) -o $@

fuzz-build: $(FUZZ_PRELOAD) $(FUZZ_EXPORTER)
fuzz: fuzz-build
	tests/fuzz/run.sh $(FUZZ_SECONDS)

JOBS := $(shell nproc 2>/dev/null || echo 1)

check: deps
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@tests/run.sh

demo: deps-demo
	@$(MAKE) --no-print-directory -s -j$(JOBS) all
	@tests/demo/demo.sh

bench:
	@$(DEPS_SCRIPT) bench
	@$(MAKE) --no-print-directory -s -j$(JOBS) all
	@tests/bench/bench.sh

# The right parent in every server model, at length (about ten minutes); `make check` has the short one.
storm:
	@$(DEPS_SCRIPT) storm
	@$(MAKE) --no-print-directory -s -j$(JOBS) all
	@tests/storm/run.sh $(BUILD) --long

lint: $(EXPORTER_PROTO_C)
	@tests/lint.sh

.PHONY: deps deps-build deps-demo unit fuzz fuzz-build check demo bench storm lint

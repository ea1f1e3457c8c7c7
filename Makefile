# otshim - see README.md. The targets a user needs: deps, all (default), install, check, demo, bench, fuzz, lint.

VERSION := 0.1.0
CC ?= gcc
PREFIX ?= /usr/local
DESTDIR ?=
BUILD ?= build

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings -Wundef
CFLAGS ?= -O2 -g
COMMON := -std=gnu11 $(WARN) -Iinclude -DOTSHIM_VERSION='"$(VERSION)"' -fno-omit-frame-pointer -MMD -MP

# ---- the library: libc alone, hidden by default, no lazily bound symbol of our own ----------------------------------------------
PRELOAD_SRC := $(wildcard preload/*.c preload/*/*.c preload/*/*/*.c)
PRELOAD_OBJ := $(PRELOAD_SRC:%.c=$(BUILD)/pic/%.o)
PRELOAD_CFLAGS := $(COMMON) -Ipreload -include preload/base/symver.h -fPIC -fvisibility=hidden -ftls-model=initial-exec -fno-plt -D_GNU_SOURCE -U_FORTIFY_SOURCE \
                  -fno-stack-protector -fno-exceptions -fno-asynchronous-unwind-tables -funwind-tables
PRELOAD_LDFLAGS := -shared -Wl,-soname,libotshim.so -Wl,-z,relro,-z,now -Wl,--as-needed -Wl,-z,defs -Wl,--hash-style=gnu \
                   -Wl,--version-script=$(BUILD)/exports.map

# ---- the exporter -----------------------------------------------------------------------------------------------------------------
EXPORTER_PKGS := libcurl libprotobuf-c libmicrohttpd libdw libelf jansson libevent_core zlib
EXPORTER_SRC := $(wildcard exporter/*.c exporter/*/*.c)
EXPORTER_PROTO := $(wildcard exporter/otlp/*.proto)
EXPORTER_PROTO_C := $(EXPORTER_PROTO:exporter/otlp/%.proto=$(BUILD)/gen/otlp/%.pb-c.c)
EXPORTER_OBJ := $(EXPORTER_SRC:%.c=$(BUILD)/%.o) $(EXPORTER_PROTO_C:%.c=%.o)
EXPORTER_CFLAGS := $(COMMON) -D_GNU_SOURCE -Iexporter -I$(BUILD)/gen $(shell pkg-config --cflags $(EXPORTER_PKGS) 2>/dev/null)
EXPORTER_LIBS = $(shell pkg-config --libs $(EXPORTER_PKGS)) -lm

all: $(BUILD)/libotshim.so $(BUILD)/otshim

$(BUILD)/pic/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(PRELOAD_CFLAGS) $(CFLAGS) -c $< -o $@

$(BUILD)/pic/preload/context/node/script.o: preload/context/node/adapter.js preload/context/node/sites.js
$(BUILD)/pic/preload/interpose/load.o: PRELOAD_CFLAGS += -DOTSHIM_DEFINES_DLOPEN

# The exports are the table and nothing else: all the rest has hidden visibility (a `local: *` would need a version for each export, and
# with one a caller's reference to another version passes us by). The versions of versions.def are there for that very effect.
$(BUILD)/exports.map: preload/interpose/versions.def
	@mkdir -p $(@D)
	@printf '%s\n' '#define VERSIONED(name, version) version { global: name; };' '#include "preload/interpose/versions.def"' \
	  | $(CC) -E -P -I. -x c - | awk '{ v = $$1; $$1 = $$2 = $$3 = ""; sub(/;.*/, ""); names[v] = names[v] $$0 ";" } \
	    END { for (v in names) printf "%s { global:%s };\n", v, names[v]; if (!NR) print "{ global: *; };" }' > $@.tmp && mv $@.tmp $@

$(BUILD)/libotshim.so: $(PRELOAD_OBJ) $(BUILD)/exports.map
	$(CC) $(PRELOAD_LDFLAGS) $(LDFLAGS) $(PRELOAD_OBJ) -o $@

$(BUILD)/gen/otlp/%.pb-c.c: exporter/otlp/%.proto
	@mkdir -p $(@D)
	protoc-c --proto_path=exporter/otlp --c_out=$(@D) $<
$(EXPORTER_SRC:%.c=$(BUILD)/%.o): | $(EXPORTER_PROTO_C)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(EXPORTER_CFLAGS) $(CFLAGS) -c $< -o $@
$(BUILD)/gen/%.o: $(BUILD)/gen/%.c
	$(CC) -std=gnu11 -I$(BUILD)/gen $(CFLAGS) -c $< -o $@

$(BUILD)/otshim: $(EXPORTER_OBJ)
	$(CC) $(LDFLAGS) $^ -o $@ $(EXPORTER_LIBS)

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib
	install -m 755 $(BUILD)/otshim $(DESTDIR)$(PREFIX)/bin/otshim
	install -m 644 $(BUILD)/libotshim.so $(DESTDIR)$(PREFIX)/lib/libotshim.so

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
-include tests/tests.mk

.PHONY: all install clean
.DELETE_ON_ERROR:

"""A traced process without libotshim: writes the ring and the hello of include/otshim/*.h byte by byte, as a second implementation of the
contract. What the exporter makes of it is what a user sees."""

import fcntl
import mmap
import os
import socket
import struct
import time

SERVER, CLIENT, CONNECT, DNS = 1, 2, 3, 4
METHOD, TARGET, HOST, USER_AGENT, PEER_NAME, DNS_QUESTION = 1, 2, 3, 4, 10, 12
COMPLETE, FAILED = 0, 8
MONOTONIC = time.CLOCK_MONOTONIC

F_ADD_SEALS, F_SEAL_SHRINK, F_SEAL_GROW = 1033, 2, 4
HEADER_BYTES, INFLIGHT_SLOTS, INFLIGHT_BYTES = 4096, 1024, 264
HEAD, COUNTERS, RUNTIMES = 64, 256, 512


def now():
    return time.clock_gettime_ns(MONOTONIC)


def attribute(key, text):
    text = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<HH", key, len(text)) + text + bytes(-len(text) % 4)


def address(ip, port):
    return struct.pack("<BBH", 4, 0, port) + bytes(int(part) for part in ip.split(".")) + bytes(12)


class Process:
    """One memfd, handed over to the exporter on its socket."""

    def __init__(self, path, service="app", executable="/usr/bin/app", data_bytes=1 << 20):
        self.data_bytes = data_bytes
        self.data_off = (HEADER_BYTES + INFLIGHT_SLOTS * INFLIGHT_BYTES + 4095) // 4096 * 4096
        total = self.data_off + data_bytes
        self.fd = os.memfd_create("otshim", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, total)
        fcntl.fcntl(self.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)
        self.memory = mmap.mmap(self.fd, total)
        struct.pack_into("<QIIQQQQ", self.memory, 0, 0x314D48534D485354, 1, INFLIGHT_SLOTS, HEADER_BYTES, self.data_off, data_bytes, total)
        self.position = 0
        self.spans = 0
        self._hello(path, service, executable)

    def _hello(self, path, service, executable):
        def item(key, text):
            return struct.pack("<HH", key, len(text)) + text + bytes(-len(text) % 4)

        items = item(1, executable.encode()) + item(2, executable.encode() + b"\0--serve\0") + item(3, service.encode()) + item(5, b"0.1.0")
        message = struct.pack("<QIIIIQQQ", 0x316F6C6C65485354, 1, 48 + len(items), os.getpid(), 1, now(), now(), time.time_ns()) + items
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(path)
            socket.send_fds(connection, [message], [self.fd])

    def span(self, trace, span, parent=0, kind=SERVER, start=0, duration=0, status=200, error=0, end=COMPLETE, flags=1, rule=0, attributes=(),
             peer=("127.0.0.1", 9000)):
        """One span. Ids are numbers, times in ns (start: CLOCK_MONOTONIC)."""
        attrs = b"".join(attribute(key, text) for key, text in attributes)
        start = start or now()
        payload = trace.to_bytes(16, "big") + span.to_bytes(8, "big") + parent.to_bytes(8, "big")
        payload += struct.pack("<QQQQQQQ", start, start + duration, start + duration // 2, 100, 200, 0, 120)
        payload += struct.pack("<BBBBBBBBHHiI", kind, 1 if kind in (SERVER, CLIENT) else 0, 11, 1, flags, rule, end, 0, status, 0, error, len(attrs))
        payload += address(*peer) + address("127.0.0.1", 8000) + struct.pack("<II4x", 1, 0)
        assert len(payload) == 160
        self._record(1, payload + attrs)
        self.spans += 1
        struct.pack_into("<Q", self.memory, COUNTERS, self.spans)

    def count(self, counter, value):
        """One of enum otshim_counter."""
        struct.pack_into("<Q", self.memory, COUNTERS + 8 * counter, value)

    def runtime(self, index, name, version, why_not=b""):
        """An entry of otshim_shm.runtimes. Texts are cut by nobody: a hostile process leaves out the NUL."""
        at = RUNTIMES + 256 * index
        struct.pack_into("<24s40s184s", self.memory, at + 8, name, version, why_not)
        struct.pack_into("<I", self.memory, at, 2)

    def _record(self, kind, payload):
        length = (16 + len(payload) + 7) // 8 * 8
        at = self.data_off + self.position % self.data_bytes
        assert self.position % self.data_bytes + length <= self.data_bytes, "this producer does not wrap"
        self.memory[at + 8:at + 16 + len(payload)] = struct.pack("<IHH", 1, kind, 0) + payload
        struct.pack_into("<Q", self.memory, HEAD, self.position + length)
        struct.pack_into("<Q", self.memory, at, (self.position >> 3) << 20 | (length >> 3) << 2 | 2)
        self.position += length

    def close(self):
        self.memory.close()
        os.close(self.fd)

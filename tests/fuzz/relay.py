"""Stands between a client and a server and keeps what they say, as a seed for a fuzz target."""

import socket
import threading
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "corpus"


class Relay:
    """Listens, connects on to `port`, and keeps what goes by: a list of (direction, bytes) for each connection."""

    def __init__(self, port):
        self.to, self.connections = port, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.to))
            log = []
            self.connections.append(log)
            for direction, source, sink in ((0, client, server), (1, server, client)):
                threading.Thread(target=self.pump, args=(log, direction, source, sink), daemon=True).start()

    def pump(self, log, direction, source, sink):
        try:
            while data := source.recv(65536):
                log.append((direction, data))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def save_to(target):
    return lambda name, relay: save(CORPUS / target, name, relay)


def save(directory, name, relay):
    """In the blocks of blocks.h; each connection for itself."""
    directory.mkdir(parents=True, exist_ok=True)
    connections, relay.connections = relay.connections, []
    for number, log in enumerate(connections):
        out = bytearray(b"\x07")
        for direction, data in log:
            while data:
                fours = min(255, len(data) // 4)
                size = fours * 4 or len(data)
                out += bytes([direction, fours] if fours else [direction | 2, size]) + data[:size]
                data = data[size:]
        file = f"recorded-{name}" + (f"-{number + 1}" if len(connections) > 1 else "")
        (directory / file).write_bytes(bytes(out))
        print(f"{file}: {len(log)} pieces, {len(out)} bytes")

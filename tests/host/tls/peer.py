"""The other side of curl: /big a megabyte, /small a word, /cut ends in the middle of the answer, /reset resets the connection there. Prints its port.

    peer.py CERTIFICATE KEY"""

import socket
import ssl
import struct
import sys
import threading


def serve(plain, context):
    try:
        with context.wrap_socket(plain, server_side=True) as s:
            request = b""
            while b"\r\n\r\n" not in request:
                piece = s.recv(4096)
                if not piece:
                    return
                request += piece
            path = request.split()[1].decode()
            body = b"x" * (1 << 20 if path == "/big" else 5)
            length = len(body) + (1000 if path in ("/cut", "/reset") else 0)
            s.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % length + body)
            if path == "/reset":
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif path != "/cut":
                s.unwrap()
    except OSError:
        pass


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(*sys.argv[1:])
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, context), daemon=True).start()

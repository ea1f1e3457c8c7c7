"""Runs a command on a terminal of its own, types Ctrl-C a second after it has said "until Ctrl-C", and ends with its exit status; 99 if it
had ended by itself before that. What it wrote goes to the standard output."""

import os
import pty
import select
import sys
import time

pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])

written, typed = b"", False
while True:
    try:
        piece = os.read(terminal, 65536)
    except OSError:  # EIO: the other side has closed it
        break
    if not piece:
        break
    written += piece
    if b"until Ctrl-C" in written and not typed:
        time.sleep(1)
        if select.select([terminal], [], [], 0)[0] and b"one of the programs has ended" in os.read(terminal, 65536):
            break
        os.write(terminal, b"\x03")
        typed = True

sys.stdout.write(written.decode(errors="replace"))
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(status if typed else 99)

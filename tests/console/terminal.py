"""Facts of `weft top` on a terminal: what it draws fits, and the terminal is given back."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
import urllib.parse

from facts import expect

FRAME_SECONDS = 20
OWN_SCREEN = b"\x1b[?1049l"


class Top:
    """A `weft top` on a terminal of some size."""

    def __init__(self, console, columns, lines):
        address = urllib.parse.urlsplit(console.url).netloc
        command = [str(console.programs / "weft"), "top", "deploy/web", "-n", "demo", "--api-addr", address]
        leader, follower = pty.openpty()
        self.terminal, self.follower, self.said = leader, follower, b""
        self.resize(columns, lines)
        self.before = termios.tcgetattr(follower)
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(follower, termios.TIOCSCTTY, 0)
            for fd in (0, 1, 2):
                os.dup2(follower, fd)
            os.execv(command[0], command)

    def resize(self, columns, lines):
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read(self, seconds):
        if select.select([self.terminal], [], [], seconds)[0]:
            self.said += os.read(self.terminal, 65536)

    def frame(self, holds):
        """The lines of the first frame from now on that something holds of."""
        self.said = b""
        deadline = time.monotonic() + FRAME_SECONDS
        while time.monotonic() < deadline:
            self.read(0.2)
            for text in self.said.decode(errors="replace").split("\x1b[H")[1:]:
                lines = [re.sub(r"\x1b\[[KJ]", "", line) for line in re.split(r"\r+\n", text)]
                if text.endswith("\x1b[J") and holds(lines):
                    return lines
        raise AssertionError(f"no such frame: {self.said[-2000:]!r}")

    def end(self, key):
        """Ends it by a key: its exit code, and whether the terminal is as it was."""
        os.write(self.terminal, key)
        deadline = time.monotonic() + FRAME_SECONDS
        done = 0
        while not done and time.monotonic() < deadline:
            self.read(0.1)
            done, status = os.waitpid(self.pid, os.WNOHANG)
        if not done:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            raise AssertionError(f"{key} does not end it")
        self.read(0.1)
        is_same = termios.tcgetattr(self.follower) == self.before
        os.close(self.terminal)
        os.close(self.follower)
        return os.waitstatus_to_exitcode(status), is_same and self.said.rfind(OWN_SCREEN) >= 0


def top_fits_its_terminal_and_gives_it_back(console):
    for columns, lines, key in ((80, 24, b"q"), (200, 50, b"\x03"), (40, 10, b"q")):
        top = Top(console, columns, lines)

        def fits(columns, lines):
            def holds(frame):
                has_rows = any("Success Rate" in line for line in frame) and len(frame) > 3
                return has_rows and len(frame) <= lines and all(len(line) <= columns for line in frame)

            return holds

        top.frame(fits(columns, lines))
        top.resize(60, 6)
        top.frame(fits(60, 6))
        code, is_same = top.end(key)
        expect(code == 0 and is_same, f"{columns}x{lines} {key}: exit code {code}, given back: {is_same}")


FACTS = [top_fits_its_terminal_and_gives_it_back]

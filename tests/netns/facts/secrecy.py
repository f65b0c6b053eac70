"""What is seen on the wire between pods."""

import os
import signal

from mesh import DATA, ECHO, MAIL, REDIS, SOCKETS, WEB
from processes import end, eventually, expect, has, needs


@needs("tcpdump")
def nothing_of_what_meshed_pods_say_is_readable_on_the_wire(mesh):
    marker = "marker-" + os.urandom(8).hex()
    capture = os.path.join(mesh.directory, "wire.pcap")
    dump = mesh.processes.start(
        "tcpdump",
        ["tcpdump", "-U", "-i", "bridge0", "-w", capture, "-Z", "root", "tcp"],
        namespace=mesh.world.wire,
    )
    eventually("the capture began", lambda: os.path.exists(capture), within=5)
    client, outsider = mesh.pods["client"], mesh.pods["outsider"]
    upload = ["--data-binary", f"{marker}-body", "-H", f"x-marker: {marker}-head"]
    client.run("curl", "-sS", "-m", "5", *upload, f"http://{WEB}:{ECHO}/{marker}-path")
    client.client("raw", DATA, MAIL, rf"{marker}-mail\r\nQUIT\r\n")
    if has("redis-cli"):
        client.run("redis-cli", "-h", DATA, "-p", str(REDIS), "set", "a", f"{marker}-redis")
    # The capture would show it: what is not meshed is there to read.
    plain = ["--data-binary", f"{marker}-plain", f"http://10.88.0.11:{ECHO}/"]
    outsider.run("curl", "-sS", "-m", "5", *plain)
    eventually("the capture has all", lambda: f"{marker}-plain".encode() in _read(capture))
    end(dump, signal.SIGINT)
    seen = _read(capture)
    for what in ("body", "head", "path", "mail", "redis"):
        expect(f"{marker}-{what}".encode() not in seen, f"the {what} is readable on the wire")


def _read(path):
    with open(path, "rb") as file:
        return file.read()

"""Network namespaces on one bridge, one namespace a pod, with traffic redirected by
weft-init: what comes in goes to the proxy's port 4143, what goes out to 4140, the proxy's own excepted."""

import os
import shutil

from processes import run

# The user that proxies run as; its traffic is not redirected.
PROXY_UID = 2102
# Ports that are the proxy's own, reached without it.
IGNORED_PORTS = "4190,4191"


class World:
    """A bridge, and pods on it."""

    def __init__(self, program):
        self.program = program
        self.prefix = f"weft-{os.getpid()}"
        self.wire = f"{self.prefix}-wire"
        self.namespaces = []
        self.numbers = {}
        tool = os.environ.get("WEFT_TEST_REDIRECT", "iptables")
        self.tool = tool if shutil.which(tool) else "nft"

    def open(self):
        self._namespace(self.wire)
        run(["ip", "-n", self.wire, "link", "add", "bridge0", "type", "bridge"])
        run(["ip", "-n", self.wire, "link", "set", "bridge0", "up"])

    def pod(self, name, number, redirect):
        """A pod at 10.88.0.NUMBER and fd88::NUMBER, which no other pod has; gives its namespace."""
        if number in self.numbers:
            raise ValueError(f"{name} and {self.numbers[number]} are both number {number}")
        self.numbers[number] = name
        namespace = f"{self.prefix}-{name}"
        self._namespace(namespace)
        inside, outside = "eth0", f"veth{number}"
        peer = ["type", "veth", "peer", "name", outside, "netns", self.wire]
        run(["ip", "-n", namespace, "link", "add", inside, *peer])
        run(["ip", "-n", self.wire, "link", "set", outside, "master", "bridge0", "up"])
        run(["ip", "-n", namespace, "addr", "add", f"10.88.0.{number}/24", "dev", inside])
        address6 = [f"fd88::{number}/64", "dev", inside, "nodad"]
        run(["ip", "-n", namespace, "-6", "addr", "add", *address6])
        run(["ip", "-n", namespace, "link", "set", inside, "up"])
        # Addresses of services are nobody's. They have a route, so that they can be redirected.
        run(["ip", "-n", namespace, "route", "add", "10.96.0.0/16", "dev", inside])
        run(["ip", "-n", namespace, "-6", "route", "add", "fd96::/64", "dev", inside])
        if redirect:
            self._redirect(namespace)
        return namespace

    def close(self):
        for namespace in reversed(self.namespaces):
            run(["ip", "netns", "del", namespace], check=False)
        self.namespaces.clear()

    def _namespace(self, name):
        run(["ip", "netns", "add", name])
        self.namespaces.append(name)
        run(["ip", "-n", name, "link", "set", "lo", "up"])
        settings = ["net.core.somaxconn=4096", "net.ipv4.tcp_tw_reuse=1"]
        run(["sysctl", "-qw", *settings], namespace=name)

    def _redirect(self, namespace):
        """As linkerd-init does it, by the tool that WEFT_TEST_REDIRECT names."""
        flags = [f"--firewall-bin-path={self.tool}", f"--proxy-uid={PROXY_UID}"]
        self.init(namespace, *flags, f"--inbound-ports-to-ignore={IGNORED_PORTS}")

    def init(self, namespace, *flags, check=True, prefix=()):
        """Runs weft-init in a namespace."""
        return run([*prefix, self.program, *flags], namespace=namespace, check=check)

    def run(self, namespace, command, check=True):
        """Runs a command in a namespace; gives what it says."""
        return run(command, namespace=namespace, check=check).stdout

"""Network namespaces on one bridge, one namespace a pod, with traffic redirected as linkerd-init does
it: what comes in goes to the proxy's port 4143, what goes out to 4140, the proxy's own excepted."""

import os
import shutil

from processes import run

# The user that proxies run as; its traffic is not redirected.
PROXY_UID = 2102
# Ports that are the proxy's own, reached without it.
IGNORED_PORTS = "4190,4191"


class World:
    """A bridge, and pods on it."""

    def __init__(self):
        self.prefix = f"weft-{os.getpid()}"
        self.wire = f"{self.prefix}-wire"
        self.namespaces = []
        tools = os.environ.get("WEFT_TEST_REDIRECT", "iptables")
        self.use_iptables = tools == "iptables" and all(map(shutil.which, ("iptables", "ip6tables")))

    def open(self):
        self._namespace(self.wire)
        run(["ip", "-n", self.wire, "link", "add", "bridge0", "type", "bridge"])
        run(["ip", "-n", self.wire, "link", "set", "bridge0", "up"])

    def pod(self, name, number, redirect):
        """A pod at 10.88.0.NUMBER and fd88::NUMBER; gives its namespace."""
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
        if not self.use_iptables:
            return self._redirect_with_nft(namespace)
        for tool in ("iptables", "ip6tables"):
            for rule in (
                f"-N PROXY_INIT_REDIRECT",
                f"-A PROXY_INIT_REDIRECT -p tcp -m multiport --dports {IGNORED_PORTS} -j RETURN",
                f"-A PROXY_INIT_REDIRECT -p tcp -j REDIRECT --to-port 4143",
                f"-A PREROUTING -j PROXY_INIT_REDIRECT",
                f"-N PROXY_INIT_OUTPUT",
                f"-A PROXY_INIT_OUTPUT -m owner --uid-owner {PROXY_UID} -j RETURN",
                f"-A PROXY_INIT_OUTPUT -o lo -j RETURN",
                f"-A PROXY_INIT_OUTPUT -p tcp -j REDIRECT --to-port 4140",
                f"-A OUTPUT -j PROXY_INIT_OUTPUT",
            ):
                run([tool, "-w", "-t", "nat", *rule.split()], namespace=namespace)

    def _redirect_with_nft(self, namespace):
        rules = "".join(
            f"""
table {family} weft {{
  chain prerouting {{
    type nat hook prerouting priority -100;
    tcp dport {{ {IGNORED_PORTS} }} return
    meta l4proto tcp redirect to :4143
  }}
  chain output {{
    type nat hook output priority -100;
    meta skuid {PROXY_UID} return
    oifname "lo" return
    meta l4proto tcp redirect to :4140
  }}
}}"""
            for family in ("ip", "ip6")
        )
        run(["nft", "-f", "-"], namespace=namespace, stdin=rules.encode())

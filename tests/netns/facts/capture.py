"""What weft-init has the kernel do, with each tool that is here, for IPv4 and IPv6."""

import os
import shutil
import sys

from mesh import HERE
from processes import eventually, expect, needs

POD, PEER = 40, 41
# Whom the proxy is; somebody else in the pod; one who is only of the proxy's group.
PROXY, OTHER, OF_GROUP = (2102, 2102), (1000, 1000), (1000, 2102)
IN, OUT = 4143, 4140
PORTS = (IN, OUT, 4190, 4191, 4567, 4568, 8080, 8081)
FLAGS = ("--incoming-proxy-port=4143", "--outgoing-proxy-port", "4140", "--proxy-uid=2102")


class _Pods:
    """A pod whose traffic is captured and a peer. In both, each port says which one it is."""

    def __init__(self, mesh):
        self.mesh, self.world = mesh, mesh.world
        self.namespaces = {}
        servers = os.path.join(HERE, "servers.py")
        for name, number in (("captured", POD), ("peer", PEER)):
            namespace = self.world.pod(name, number, redirect=False)
            self.namespaces[name] = namespace
            command = [sys.executable, servers, "ports", *map(str, PORTS)]
            mesh.processes.start(f"{name}-ports", command, namespace=namespace)
        for name, number in (("captured", POD), ("peer", PEER)):
            for address in _addresses(number):
                found = lambda: self.reach(name, address, 8081) == [8081]
                eventually(f"{name} listens at {address}", found)

    def init(self, *flags, **options):
        return self.world.init(self.namespaces["captured"], *flags, **options)

    def reach(self, source, address, *ports, who=OTHER, way="tcp"):
        """Where one comes out who goes to these ports."""
        client = [sys.executable, os.path.join(HERE, "clients.py"), "reach", way, address]
        command = [*_as(who), *client, *map(str, ports)]
        result = self.world.run(self.namespaces[source], command)
        return [None if port == "null" else int(port) for port in result.strip("[] \n").split(", ")]

    def comes_in(self, address, *ports, **options):
        return self.reach("peer", address, *ports, **options)

    def goes_out(self, address, *ports, **options):
        return self.reach("captured", address, *ports, **options)

    def rules(self):
        """Everything that is set, by whatever tool, without counters."""
        said = ""
        for command in (["nft", "list", "ruleset"], ["iptables-legacy-save"], ["ip6tables-legacy-save"]):
            if shutil.which(command[0]):
                said += self.world.run(self.namespaces["captured"], command, check=False)
        return "\n".join(line for line in said.splitlines() if not line.startswith(("#", ":")))


def _as(who):
    uid, gid = who
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]


def _addresses(number):
    return f"10.88.0.{number}", f"fd88::{number}"


_pods = None


def _each_tool(mesh):
    """The pods, with each tool that works here, before any rule."""
    global _pods
    _pods = _pods or _Pods(mesh)
    worked = []
    for tool in ("nft", "iptables-nft", "iptables-legacy"):
        if not shutil.which(tool):
            continue
        _pods.init("--undo")
        flags = (*FLAGS, f"--firewall-bin-path={tool}")
        # A kernel may lack one of the two kinds of tables.
        if _pods.init(*flags, check=False).returncode == 0:
            _pods.init("--undo")
            worked.append(tool)
            yield _pods, tool, flags
    _pods.init("--undo")
    expect(worked, "no tool works")


def _is(found, expected, tool, what):
    expect(found == expected, f"{tool}: {what}: {found}, not {expected}")


def what_comes_into_a_pod_goes_to_its_proxy_but_for_ports_and_ranges_to_ignore(mesh):
    for pods, tool, flags in _each_tool(mesh):
        pods.init(*flags, "--inbound-ports-to-ignore=4190,4191,4567-4568")
        for address in _addresses(POD):
            found = pods.comes_in(address, 8080, 9999, 4190, 4191, 4567, 4568, 4566 + 3)
            _is(found, [IN, IN, 4190, 4191, 4567, 4568, IN], tool, f"to {address}")


def what_goes_out_of_a_pod_goes_to_its_proxy_but_for_ports_and_ranges_to_ignore(mesh):
    for pods, tool, flags in _each_tool(mesh):
        pods.init(*flags, "--outbound-ports-to-ignore", "8081,4567-4568")
        for address in _addresses(PEER):
            found = pods.goes_out(address, 8080, 9999, 8081, 4567, 4568, 4569)
            _is(found, [OUT, OUT, 8081, 4567, 4568, OUT], tool, f"to {address}")


def what_the_proxy_opens_goes_where_it_is_sent(mesh):
    for pods, tool, flags in _each_tool(mesh):
        pods.init(*flags)
        for address in _addresses(PEER):
            _is(pods.goes_out(address, 8080, who=PROXY), [8080], tool, f"its user, to {address}")
            _is(pods.goes_out(address, 8080, who=OF_GROUP), [OUT], tool, f"its group, to {address}")
        pods.init(*flags, "--proxy-gid=2102")
        for address in _addresses(PEER):
            _is(pods.goes_out(address, 8080, who=OF_GROUP), [8080], tool, f"its group, to {address}")
            _is(pods.goes_out(address, 8080, who=OTHER), [OUT], tool, f"others, to {address}")


def what_stays_within_a_pod_is_not_captured(mesh):
    for pods, tool, flags in _each_tool(mesh):
        pods.init(*flags)
        for address in (*_addresses(POD), "127.0.0.1", "::1"):
            _is(pods.goes_out(address, 8080, 4190), [8080, 4190], tool, f"to {address}")


def subnets_to_ignore_are_those_of_clients_only(mesh):
    for pods, tool, flags in _each_tool(mesh):
        pods.init(*flags, "--subnets-to-ignore=10.88.0.0/24,fd88::/64,10.88.0.0/16")
        for address in _addresses(POD):
            _is(pods.comes_in(address, 8080), [8080], tool, f"in, to {address}")
        for address in _addresses(PEER):
            _is(pods.goes_out(address, 8080), [OUT], tool, f"out, to {address}")
        pods.init(*flags, "--subnets-to-ignore=10.99.0.0/16,fd99::/64")
        for address in _addresses(POD):
            _is(pods.comes_in(address, 8080), [IN], tool, f"in from another, to {address}")


def datagrams_are_never_captured(mesh):
    for pods, tool, flags in _each_tool(mesh):
        pods.init(*flags)
        for address in _addresses(POD):
            _is(pods.comes_in(address, 8080, way="udp"), [8080], tool, f"in, to {address}")
        for address in _addresses(PEER):
            _is(pods.goes_out(address, 8080, way="udp"), [8080], tool, f"out, to {address}")


def only_ports_to_redirect_are_captured_where_some_are_named(mesh):
    for pods, tool, flags in _each_tool(mesh):
        pods.init(*flags, "--ports-to-redirect=8080,4190-4191")
        for address in _addresses(POD):
            found = pods.comes_in(address, 8080, 8081, 4190, 4191)
            _is(found, [IN, 8081, IN, IN], tool, f"to {address}")


def ipv6_is_left_alone_where_that_is_said(mesh):
    for pods, tool, flags in _each_tool(mesh):
        pods.init(*flags, "--ipv6=false")
        for address, found in zip(_addresses(POD), (IN, 8080)):
            _is(pods.comes_in(address, 8080), [found], tool, f"to {address}")


def capture_set_twice_is_as_set_once_and_nothing_is_left_when_it_is_undone(mesh):
    for pods, tool, flags in _each_tool(mesh):
        many = ",".join(str(port) for port in range(9000, 9080, 2))
        flags = (*flags, f"--inbound-ports-to-ignore=8081,{many}", "--subnets-to-ignore=10.7.0.0/16")
        before = pods.rules()
        shown = pods.init(*flags, "--simulate").stdout
        expect("4143" in shown and "9078" in shown, f"{tool}: not shown: {shown}")
        _is(pods.rules(), before, tool, "a simulation changes nothing")
        pods.init(*flags)
        once = pods.rules()
        pods.init(*flags)
        _is(pods.rules(), once, tool, "set twice")
        _is(pods.comes_in(_addresses(POD)[0], 8080, 8081), [IN, 8081], tool, "it works")
        pods.init("--undo")
        for line in pods.rules().splitlines():
            ours = "4143" in line or "PROXY_INIT" in line or "weft" in line
            expect(not ours, f"{tool}: left: {line}")
        _is(pods.comes_in(_addresses(POD)[0], 8080), [8080], tool, "undone")
        pods.init("--undo")


def what_a_mesh_did_not_set_stays_when_capture_is_set_and_undone(mesh):
    for pods, tool, flags in _each_tool(mesh):
        if tool == "nft":
            continue
        other = ["-t", "nat", "-A", "PREROUTING", "-p", "tcp", "--dport", "7", "-j", "RETURN"]
        pods.world.run(pods.namespaces["captured"], [tool, *other])
        kept = lambda: "--dport 7 -j RETURN" in pods.world.run(
            pods.namespaces["captured"], [tool, "-t", "nat", "-S"])
        pods.init(*flags)
        expect(kept(), f"{tool}: gone when set")
        pods.init("--undo")
        expect(kept(), f"{tool}: gone when undone")
        other[2] = "-D"
        pods.world.run(pods.namespaces["captured"], [tool, *other])


def half_closed_connections_are_forgotten_as_soon_as_is_said(mesh):
    for pods, tool, flags in _each_tool(mesh):
        done = pods.init(*flags, "--timeout-close-wait-secs=61", check=False)
        # A sandbox may keep the kernel's settings to itself; then that is what is said.
        if done.returncode == 0:
            name = "net.netfilter.nf_conntrack_tcp_timeout_close_wait"
            said = pods.world.run(pods.namespaces["captured"], ["sysctl", "-n", name])
            _is(said.strip(), "61", tool, "the kernel's setting")
        else:
            expect("timeout-close-wait-secs" in done.stderr, f"{tool}: {done.stderr}")


def who_may_not_change_the_network_is_told_what_to_do(mesh):
    for pods, tool, flags in _each_tool(mesh):
        prefix = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
        done = pods.init(*flags, check=False, prefix=prefix)
        _is(done.returncode, 1, tool, "exit code")
        expect("add: [NET_ADMIN, NET_RAW]" in done.stderr, done.stderr)
        done = pods.init("--firewall-bin-path=/nowhere/iptables", check=False)
        expect("none of /nowhere/iptables is installed" in done.stderr, done.stderr)


def a_cni_plugins_work_is_validated(mesh):
    for pods, tool, flags in _each_tool(mesh):
        listen = ["--listen-addr=0.0.0.0:4199", f"--connect-addr=10.88.0.{PEER}:20001"]
        done = pods.init("validate", *listen, "--timeout=300ms", check=False)
        expect(done.returncode == 1 and "CNI plugin" in done.stderr, f"{tool}: {done.stderr}")
        pods.init(*flags, "--outgoing-proxy-port=4199")
        pods.init("validate", *listen, "--timeout=5s")

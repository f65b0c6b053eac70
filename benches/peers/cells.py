"""What is measured: each cell runs one proxy once and returns what it saw.

    cpu_us        CPU of each proxy in us per completed request, from schedstat
    core          the same in percent of a core
    cpu_s_per_gb  CPU seconds for 10^9 bytes
    rss_kb        the largest resident memory seen
    p50, p99      latency in us, from when a request was due (open loop) or sent (closed loop)
"""
import json, re, time
from proxies import ALL
from topology import *

# Both proxies on one CPU and everything else on the other: a wakeup across CPUs costs more than a request.
PROXY_CPU, LOAD_CPU = 0, 1
WARM = 0.5


class Running:
    """One proxy, up in namespaces of its own."""

    def __init__(self, proxy, directory):
        self.proxy, self.processes = proxy, {}
        self.topology = Topology(f"wb{proxy.name[:6]}", directory, proxy.redirected)

    def up(self):
        self.topology.up()
        self.topology.start_server(LOAD_CPU)
        self.proxy.prepare(self.topology, LOAD_CPU)
        self.start()

    def start(self):
        """Starts both sides anew. Gives the milliseconds until each was ready."""
        stop(self.processes.values())
        self.processes, taken = {}, {}
        if not self.proxy.redirected:
            return taken
        # The server's first: the client's may connect.
        for role, namespace in (("s", self.topology.server), ("c", self.topology.client)):
            began = time.monotonic()
            self.processes[role] = self.proxy.start(self.topology, role, PROXY_CPU)
            taken[role] = (self.topology.wait_ready(namespace) - began) * 1e3
        return taken

    def pids(self):
        return {role: process.pid for role, process in self.processes.items()}

    def memory(self):
        return {role: memory_kb(pid)["VmRSS"] for role, pid in self.pids().items()}

    def alive(self):
        return all(process.poll() is None for process in self.processes.values())


def http(running, rate, connections, secs, path="/"):
    address = running.topology.address(HTTP)
    command = [LOADGEN, "http", address, "--rate", str(rate), "--conns", str(connections),
               "--secs", str(secs), "--warm", str(WARM), "--path", path]
    run = measure(running.topology, running.pids(), command, LOAD_CPU, secs=secs)
    load = json.loads(run["out"])
    failed = load["errors"] + load["non2xx"]
    return per_request(run, load["done"], rps=load["rps"], failed=failed, first_error=load["first_error"],
                       p50=load["lat_us"]["p50"], p99=load["lat_us"]["p99"])


def per_request(run, done, **more):
    done = max(1, done)
    return dict(
        cpu_us={role: s / done * 1e6 for role, s in run["cpu_s"].items()},
        core={role: 100 * s / run["wall"] for role, s in run["cpu_s"].items()},
        switches={role: n / done for role, n in run["switches"].items()}, rss_kb=run["peak_kb"], **more)


def grpc(running, rate, secs, connections=10, streams=10):
    # h2load's duration is in whole seconds; it says itself how many requests a second it counted.
    secs = max(1, round(secs))
    topology = running.topology
    log, body = f"{topology.directory}/h2load.log", f"{topology.directory}/grpc.body"
    with open(log, "w"), open(body, "wb") as file:
        file.write(b"\0\0\0\0\x07\x0a\x02ab\x10\x90\x3f")
    command = ["h2load", "-c", str(connections), "-m", str(streams), "-D", str(secs), "--warm-up-time", "1", "-t", "1",
               f"--log-file={log}", "-d", body, "-H", "content-type: application/grpc", "-H", "te: trailers"]
    if rate:
        command += ["--rps", str(rate / connections)]
    command.append(f"http://{topology.address(GRPC)}/bench.Bench/Get")
    run = measure(topology, running.pids(), command, LOAD_CPU, warm=1, secs=secs)
    rps = float(re.search(r"finished in [\d.]+m?s, ([\d.]+) req/s", run["out"])[1])
    done = re.search(r"(\d+) total, \d+ started, (\d+) done, (\d+) succeeded", run["out"])
    with open(log) as file:
        latencies = sorted(int(line.split("\t")[2]) for line in file)
    at = lambda share: latencies[min(len(latencies) - 1, int(len(latencies) * share))] if latencies else 0
    return per_request(run, rps * secs, rps=rps, failed=int(done[2]) - int(done[3]), p50=at(0.5), p99=at(0.99))


def tcp(running, secs, mode):
    before = {role: cpu_seconds(pid) for role, pid in running.pids().items()}
    command = [LOADGEN, "tcp", running.topology.address(TCP), "--mode", mode, "--secs", str(secs)]
    run = measure(running.topology, running.pids(), command, LOAD_CPU, warm=0, secs=secs)
    load = json.loads(run["out"])
    # From before the connection: the handshake is a part of it.
    cost = {role: (cpu_seconds(pid) - before[role]) / max(1, load["bytes"]) * 1e9
            for role, pid in running.pids().items()}
    return dict(mbps=load["MBps"], cpu_s_per_gb=cost, rss_kb=run["peak_kb"], failed=int(load["bytes"] < 1 << 20))


def idle(running, _secs):
    """Fresh processes, two seconds after they were ready."""
    running.start()
    time.sleep(2)
    before = running.memory()
    cpu = {role: cpu_seconds(pid) for role, pid in running.pids().items()}
    time.sleep(1)
    spent = {role: (cpu_seconds(pid) - cpu[role]) * 100 for role, pid in running.pids().items()}
    return dict(rss_kb=before, core=spent)


def idle_connections(running, _secs):
    """Fresh processes; a thousand connections that have carried a request each."""
    running.start()
    load = spawn([LOADGEN, "idle", running.topology.address(HTTP), "--conns", "1000", "--secs", "2"],
                 running.topology.client, cpu=LOAD_CPU, pipes=True)
    opened = json.loads(load.stdout.readline())
    time.sleep(1.5)
    held = running.memory()
    load.communicate()
    STARTED.remove(load)
    return dict(rss_kb=held, failed=1000 - opened["ok"])


def start(running, _secs):
    return dict(ready_ms=running.start(), rss_kb=running.memory())


CELLS = {
    "HTTP/1, 2000 rps x 32": lambda running, secs: http(running, 2000, 32, secs),
    "HTTP/1, 4000 rps x 100": lambda running, secs: http(running, 4000, 100, secs),
    "HTTP/1, saturated x 100": lambda running, secs: http(running, 0, 100, secs),
    "gRPC unary, 2000 rps x 10": lambda running, secs: grpc(running, 2000, secs),
    "gRPC unary, saturated 10 x 10": lambda running, secs: grpc(running, 0, secs),
    "1 MB bodies, 50 rps x 8": lambda running, secs: http(running, 50, 8, secs, "/1m"),
    "opaque TCP, download": lambda running, secs: tcp(running, secs, "S"),
    "opaque TCP, upload": lambda running, secs: tcp(running, secs, "R"),
    "idle": idle,
    "1000 idle connections": idle_connections,
    "start to ready": start,
}

# The names by which --only takes them.
GROUPS = {
    "cpu": ["HTTP/1, 2000 rps x 32", "HTTP/1, 4000 rps x 100"],
    "max": ["HTTP/1, saturated x 100"],
    "grpc": ["gRPC unary, 2000 rps x 10", "gRPC unary, saturated 10 x 10"],
    "big": ["1 MB bodies, 50 rps x 8"],
    "tcp": ["opaque TCP, download", "opaque TCP, upload"],
    "memory": ["idle", "1000 idle connections"],
    "start": ["start to ready"],
}

# What says something without a proxy.
WITHOUT_PROXY = [*GROUPS["cpu"], *GROUPS["max"], *GROUPS["grpc"]]

#!/usr/bin/env python3
"""Compares proxies side by side: CPU per request, memory, throughput. See README.md.

usage: run.py [PROXY,...] [--only cpu,max,memory,big,tcp] [--reps N] [--secs S] [-o json]
"""
import argparse, statistics, sys, tempfile
from proxies import *

# Both proxies on one CPU and everything else on the other: a wakeup across CPUs costs more than a request.
PROXY_CPU, LOAD_CPU = 0, 1


class Running:
    def __init__(self, proxy, directory):
        self.proxy, self.processes = proxy, {}
        self.topology = Topology(f"wb{proxy.name[:6]}", directory)
        self.topology.up()
        self.topology.start_server(LOAD_CPU)
        proxy.prepare(self.topology, LOAD_CPU)

    def start(self):
        stop(self.processes.values())
        for role in "cs":
            self.processes[role] = self.proxy.start(self.topology, role, PROXY_CPU)
        self.topology.wait_ready(self.topology.client)
        self.topology.wait_ready(self.topology.server)
        time.sleep(0.3)

    def pids(self):
        return {role: process.pid for role, process in self.processes.items()}

    def http(self, rate, connections, secs, path="/"):
        command = ["http", f"{SERVICE_IP}:{HTTP}", "--rate", str(rate), "--conns", str(connections),
                   "--secs", str(secs), "--warm", "0.5", "--path", path]
        return measure(self.topology, self.pids(), command, LOAD_CPU)

    def memory(self):
        return {role: memory_kb(pid)["VmRSS"] for role, pid in self.pids().items()}


def cpu(running, rows, secs):
    for rate, connections in ((2000, 32), (4000, 100)):
        note(rows, running, f"{rate} rps x {connections}", running.http(rate, connections, secs))


def saturated(running, rows, secs):
    note(rows, running, "saturated x 100", running.http(0, 100, secs))


def big(running, rows, secs):
    note(rows, running, "1 MB x 50 rps", running.http(50, 8, secs, "/1m"))


def memory(running, rows, secs):
    running.start()
    time.sleep(1)
    rows.append(dict(proxy=running.proxy.name, what="RSS idle", rss_kb=running.memory()))
    loaded = running.http(4000, 100, secs)
    rows.append(dict(proxy=running.proxy.name, what="RSS at 4000 rps x 100", rss_kb=loaded["peak_kb"]))
    running.start()
    load = spawn_load(running.topology, ["idle", f"{SERVICE_IP}:{HTTP}", "--conns", "1000", "--secs", "4"], LOAD_CPU)
    opened = json.loads(load.stdout.readline())
    time.sleep(1)
    rows.append(dict(proxy=running.proxy.name, what="RSS with 1000 idle connections", rss_kb=running.memory(),
                     ok=opened["ok"]))
    load.wait()
    time.sleep(1)
    rows.append(dict(proxy=running.proxy.name, what="RSS after they closed", rss_kb=running.memory()))


def tcp(running, rows, secs):
    if not isinstance(running.proxy, type) or not issubclass(running.proxy, Weft):
        return
    before = {role: cpu_seconds(pid) for role, pid in running.pids().items()}
    load = spawn_load(running.topology, ["tcp", f"{SERVICE_IP}:{TCP}", "--mode", "S", "--secs", str(secs)], LOAD_CPU)
    result = json.loads(load.communicate()[0])
    cost = {role: (cpu_seconds(pid) - before[role]) / max(1, result["bytes"]) * 1e9
            for role, pid in running.pids().items()}
    rows.append(dict(proxy=running.proxy.name, what="opaque TCP download", mbps=result["MBps"], cpu_s_per_gb=cost))


def note(rows, running, what, run):
    load = run["load"]
    if load["errors"] or load["non2xx"]:
        print(f"{running.proxy.name}, {what}: {load['errors']} errors, {load['non2xx']} not 2xx, "
              f"first {load['first_error']!r}", file=sys.stderr)
    rows.append(dict(proxy=running.proxy.name, what=what, cpu_us=run["cpu_us"], core=run["core"], rps=load["rps"],
                     switches=run["switches"], rss_kb=run["peak_kb"], p50=load["lat_us"]["p50"], p99=load["lat_us"]["p99"]))


SUITES = dict(cpu=cpu, max=saturated, memory=memory, big=big, tcp=tcp)


def table(rows):
    whats = list(dict.fromkeys(row["what"] for row in rows))
    for what in whats:
        print(f"\n{what}")
        floor = middle([row for row in rows if row["what"] == what and row["proxy"] == "floor"], "cpu_us")
        for proxy in dict.fromkeys(row["proxy"] for row in rows):
            mine = [row for row in rows if row["what"] == what and row["proxy"] == proxy]
            if not mine:
                continue
            cells = [f"{proxy:8}"]
            if us := middle(mine, "cpu_us"):
                core = middle(mine, "core")
                cells.append(f"{us['c']:6.1f} / {us['s']:6.1f} us/request  {core['c']:4.1f} / {core['s']:4.1f} % of a core")
                if floor and proxy != "floor":
                    cells.append(f"x floor {us['c'] / floor['c']:.2f} / {us['s'] / floor['s']:.2f}")
                waits = middle(mine, "switches")
                cells.append(f"switches {waits['c']:.2f} / {waits['s']:.2f}  {median(mine, 'rps'):.0f} rps  "
                             f"p50 {median(mine, 'p50'):.0f} p99 {median(mine, 'p99'):.0f} us")
            if rss := middle(mine, "rss_kb"):
                cells.append(f"RSS {rss['c'] / 1024:.1f} / {rss['s'] / 1024:.1f} MB")
            if cost := middle(mine, "cpu_s_per_gb"):
                cells.append(f"{median(mine, 'mbps'):.0f} MB/s  {cost['c']:.2f} / {cost['s']:.2f} CPU s/GB")
            print("  " + "  ".join(cells))


def middle(rows, key):
    found = [row[key] for row in rows if key in row]
    return found and {role: statistics.median(each[role] for each in found) for role in "cs"}


def median(rows, key):
    return statistics.median(row[key] for row in rows if key in row)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proxies", nargs="?", default="weft,floor", help=",".join(ALL))
    parser.add_argument("--only", default="cpu,max,memory,big,tcp")
    parser.add_argument("--reps", type=int, default=2)
    parser.add_argument("--secs", type=float, default=2)
    parser.add_argument("-o", default="text", choices=("text", "json"))
    options = parser.parse_args()
    # Above what else the machine does: a figure should not be its neighbours'. Round-robin, and short.
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    rows, all_running = [], []
    with tempfile.TemporaryDirectory(prefix="weft-peers-") as directory:
        os.chmod(directory, 0o755)
        try:
            for name in options.proxies.split(","):
                all_running.append(Running(ALL[name], directory))
                all_running[-1].start()
            for suite in options.only.split(","):
                for rep in range(1 if suite == "memory" else options.reps):
                    turn = rep % len(all_running)
                    for running in all_running[turn:] + all_running[:turn]:
                        SUITES[suite](running, rows, options.secs)
        finally:
            stop(STARTED[::-1])
            for running in all_running:
                running.topology.down()
    if options.o == "json":
        print(json.dumps(rows))
    else:
        print(f"load average {os.getloadavg()[0]:.1f}; out / in")
        table(rows)


main()

"""Runs `weft demo` and checks its figures: every edge has traffic, is secured and works.

A machine that stands still for longer than a proxy waits for a connection makes requests fail that
no mesh could save. A witness beside the demo notices that; only then is a failed run repeated.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

# Shorter than the shortest time that a proxy waits for anything: for a connection to its application.
STALL_SECONDS = 0.25
RUNS_MAX = 3


class Witness:
    """Measures for how long at most the machine did not let it run."""

    def __init__(self):
        self.longest_stall = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        last = time.monotonic()
        while True:
            time.sleep(0.01)
            now = time.monotonic()
            self.longest_stall = max(self.longest_stall, now - last)
            last = now


def faults_of(told):
    for edge in told["edges"]:
        name = f"{edge['src']} -> {edge['dst']} ({edge['protocol']})"
        latency = edge["latency_ms"]
        if edge["secured"] is not True:
            yield f"{name} is not secured"
        if edge["requests"] < 10:
            yield f"{name} had {edge['requests']} requests"
        elif edge["success_rate"] < 0.999:
            yield f"{name} has a success rate of {edge['success_rate']}"
        if not (latency["p50"] or 0) <= (latency["p95"] or 0) <= (latency["p99"] or 0):
            yield f"{name} has latencies {latency}"
    for proxy in told["proxies"]:
        if not proxy["rss_bytes"] > 0 or proxy["cpu_seconds"] < 0:
            yield f"{proxy['name']} has no figures: {proxy}"
    if len(told["edges"]) < 4 or len(told["proxies"]) < 8:
        yield f"{len(told['edges'])} edges, {len(told['proxies'])} proxies"


def run(weft):
    """A run's faults, and for how long the machine stood still."""
    witness = Witness()
    with tempfile.TemporaryDirectory() as directory:
        command = [weft, "demo", "--for", "10s", "-o", "json", "--directory", directory]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
        told = json.loads(ran.stdout)
        faults = list(faults_of(told))
        if not faults:
            rss = sorted(proxy["rss_bytes"] / 1e6 for proxy in told["proxies"])
            edges = len(told["edges"])
            print(f"{edges} edges, {len(rss)} proxies of {rss[0]:.1f} to {rss[-1]:.1f} MB: ok")
            return [], witness.longest_stall
        print(ran.stdout)
        for log in sorted(pathlib.Path(directory).rglob("*.log")):
            if text := log.read_text(errors="replace").strip():
                print(f"--- {log.name}\n{text[-4000:]}")
    return faults, witness.longest_stall


for attempt in range(RUNS_MAX):
    faults, stall = run(sys.argv[1])
    for fault in faults:
        print(fault)
    if not faults or stall < STALL_SECONDS:
        break
    print(f"the machine stood still for {stall:.2f} s in this run: it says nothing of the mesh")
sys.exit(1 if faults else 0)

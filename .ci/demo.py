"""Checks what `weft demo -o json` printed: every edge has traffic, is secured and works."""

import json
import sys

told = json.load(sys.stdin)
faults = []
for edge in told["edges"]:
    name = f"{edge['src']} -> {edge['dst']} ({edge['protocol']})"
    latency = edge["latency_ms"]
    if edge["secured"] is not True:
        faults.append(f"{name} is not secured")
    if edge["requests"] < 10:
        faults.append(f"{name} had {edge['requests']} requests")
    if edge["success_rate"] < 0.999:
        faults.append(f"{name} has a success rate of {edge['success_rate']}")
    if not 0 <= latency["p50"] <= latency["p95"] <= latency["p99"]:
        faults.append(f"{name} has latencies {latency}")
for proxy in told["proxies"]:
    if not proxy["rss_bytes"] > 0 or proxy["cpu_seconds"] < 0:
        faults.append(f"{proxy['name']} has no figures: {proxy}")
if len(told["edges"]) < 4 or len(told["proxies"]) < 8:
    faults.append(f"{len(told['edges'])} edges, {len(told['proxies'])} proxies")
for fault in faults:
    print(fault)
if not faults:
    rss = sorted(proxy["rss_bytes"] / 1e6 for proxy in told["proxies"])
    print(f"{len(told['edges'])} edges, {len(rss)} proxies of {rss[0]:.1f} to {rss[-1]:.1f} MB: ok")
sys.exit(1 if faults else 0)

#!/usr/bin/env python3
"""Real clients and servers through real proxies, in network namespaces.

    python3 tests/netns/run.py [--programs DIR] [--api-server PROGRAM] [WORD…]

Runs the facts whose names have one of the WORDs, or all. DIR holds `weft`, `weft-proxy` and `weft-init`;
PROGRAM is the tests' API server: cargo build --workspace --example api_server. Needs root.
Exit code: 0 where every fact holds or the tests cannot run here (it says why), 1 where one does not.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback

# What suites share.
sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import applications
import facts
from mesh import Mesh
from processes import GIVEN, Failed, Processes, has
from world import World

FACT_SECONDS_MAX = 60
PROGRAMS = ("weft", "weft-proxy", "weft-init")
NEEDED = ("ip", "setpriv", "sysctl", "curl")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--programs", default="target/debug", help="where they are")
    arguments.add_argument("--api-server", default="target/debug/examples/api_server", help="the program")
    arguments.add_argument("words", nargs="*", help="run the facts that have one of these in the name")
    options = arguments.parse_args()
    reason = why_not(options.programs)
    if reason:
        print(f"skipped: network namespaces: {reason}")
        return 0
    if os.path.exists(options.api_server):
        GIVEN["api_server"] = os.path.abspath(options.api_server)
    directory = tempfile.mkdtemp(prefix="weft-netns-")
    os.chmod(directory, 0o755)
    init = os.path.abspath(f"{options.programs}/weft-init")
    world, processes = World(init), Processes(directory)
    failures = 1
    try:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        mesh = Mesh(world, processes, options.programs)
        mesh.open()
        applications.open_applications(mesh)
        failures = check(mesh, options.words)
    finally:
        processes.end_all()
        world.close()
        if failures and not os.environ.get("CI"):
            print(f"logs are in {directory}")
        elif failures:
            show_logs(directory)
        if not failures:
            shutil.rmtree(directory)
    return 1 if failures else 0


def why_not(programs):
    if os.geteuid() != 0:
        return "needs root, to make them"
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if not shutil.which("iptables") and not shutil.which("nft"):
        return "neither iptables nor nft is installed"
    absent = [name for name in PROGRAMS if not os.path.exists(f"{programs}/{name}")]
    if absent:
        raise SystemExit(f"no {' and '.join(absent)} in {programs}: cargo build, or --programs DIR")
    return None


def check(mesh, words):
    """Checks every fact; gives how many do not hold."""
    passed, failed, skipped = 0, [], []
    seconds_max = FACT_SECONDS_MAX
    began = time.monotonic()

    def too_long(*_):
        raise Failed(f"not done in {seconds_max} s")

    signal.signal(signal.SIGALRM, too_long)
    for fact in facts.ALL:
        name = fact.__name__.replace("_", " ")
        if words and not any(word in name for word in words):
            continue
        missing = [tool for tool in getattr(fact, "needs", ()) if not has(tool)]
        if missing:
            skipped.append(name)
            print(f"skipped  {name}: not installed: {', '.join(missing)}", flush=True)
            continue
        fact_began = time.monotonic()
        seconds_max = getattr(fact, "seconds_max", FACT_SECONDS_MAX)
        signal.alarm(seconds_max)
        try:
            fact(mesh)
        except Failed as failure:
            failed.append(name)
            print(f"FAILED   {name}: {failure}", flush=True)
        except Exception:
            failed.append(name)
            print(f"FAILED   {name}: {traceback.format_exc()}", flush=True)
        else:
            passed += 1
            print(f"ok       {name} ({time.monotonic() - fact_began:.1f} s)", flush=True)
        finally:
            signal.alarm(0)
    took = time.monotonic() - began
    print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped in {took:.0f} s")
    return len(failed)


def show_logs(directory):
    for name in sorted(os.listdir(directory)):
        if name.endswith(".log"):
            with open(os.path.join(directory, name), errors="replace") as log:
                print(f"--- {name}\n{log.read()[-4000:]}")


if __name__ == "__main__":
    sys.exit(main())

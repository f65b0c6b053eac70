#!/usr/bin/env python3
"""Weft on a real Kubernetes, end to end: installs it, meshes workloads, breaks what can break, uninstalls it.

    KUBECONFIG=… python3 tests/kubernetes/run.py [--programs DIR] [--image NAME:TAG] [--set KEY=VALUE]… [WORD…]

Runs the facts whose names have one of the WORDs, or all, in order; installing and uninstalling always.
DIR holds `weft`; the cluster has the image (deploy/image.py makes it) and two of a shell: one with `httpd`
and `nc` (busybox), one with `curl`. Exit code: 0 where every fact holds or there is no cluster (it says
why), 1 where one does not.
"""

import argparse
import os
import shutil
import sys
import time
import traceback

# What suites share.
sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import facts
from cluster import Cluster, Failed


def main():
    options = arguments()
    reason = why_not(options)
    if reason:
        print(f"skipped: Kubernetes: {reason}")
        return 0
    cluster = Cluster(options)
    try:
        failures, skipped = check(cluster, options)
    finally:
        cluster.close()
    print(f"{len(facts.ALL)} facts, {failures} failed, {skipped} skipped")
    return 1 if failures else 0


def check(cluster, options):
    """Checks every fact; gives how many do not hold, and how many were not looked at for want of a program."""
    failures = skipped = 0
    for fact in facts.ALL:
        name = fact.__name__.replace("_", " ")
        always = fact in (facts.FIRST, facts.LAST)
        if always and options.installed:
            continue
        if options.words and not always and not any(word in name for word in options.words):
            continue
        missing = [program for program in getattr(fact, "needs", ()) if not shutil.which(program)]
        if missing:
            skipped += 1
            print(f"skipped {name}: not installed: {', '.join(missing)}", flush=True)
            continue
        began = time.monotonic()
        try:
            fact(cluster)
            print(f"ok     {name} ({time.monotonic() - began:.1f} s)", flush=True)
        except Failed as error:
            failures += 1
            print(f"FAILED {name}: {error}", flush=True)
        except Exception:  # a fault of the test's own
            failures += 1
            print(f"FAILED {name}\n{traceback.format_exc()}", flush=True)
        if failures and (fact is facts.FIRST or options.keep_failed):
            break
    if failures and options.keep_failed:
        print("everything is left as it is")
    return failures, skipped


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", default="target/release", help="where weft is")
    parser.add_argument("--image", default="weft/weft:e2e", help="what the control plane and proxies run")
    parser.add_argument("--server-image", default="localhost/busybox:1", help="has sh, httpd, nc")
    parser.add_argument("--client-image", default="localhost/nettools:1", help="has sh, curl")
    parser.add_argument("--set", action="append", default=[], help="a value of the installation")
    parser.add_argument("--installed", action="store_true", help="Weft is there already, and stays")
    parser.add_argument("--keep-failed", action="store_true", help="stop at the first failure and clean nothing up")
    parser.add_argument("words", nargs="*", help="run the facts that have one of these in the name")
    return parser.parse_args()


def why_not(options):
    if not os.environ.get("KUBECONFIG"):
        return "KUBECONFIG names no cluster"
    if not shutil.which("kubectl"):
        return "no kubectl"
    if not shutil.which("openssl"):
        return "no openssl"
    if not os.access(os.path.join(options.programs, "weft"), os.X_OK):
        return f"{options.programs} has no weft: cargo build --release, or --programs DIR"
    return None


if __name__ == "__main__":
    sys.exit(main())

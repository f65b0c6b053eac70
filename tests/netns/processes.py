"""Processes that a run starts, and ends again: each is known by its handle, none outlives the run."""

import glob
import importlib.util
import os
import shutil
import signal
import subprocess
import time


# Programs that the tests were given, by name.
GIVEN = {}


class Failed(Exception):
    """A fact does not hold, or what it needs could not be had."""


class Processes:
    """Everything that was started and is to be ended."""

    def __init__(self, directory):
        self.directory = directory
        self.started = []

    def start(self, name, command, namespace=None, uid=None, env=None):
        """Starts a process in a network namespace; its output goes to NAME.log."""
        # setpriv and ip replace themselves by the command, so that the handle is the command's.
        wrapped = ["setpriv", "--pdeathsig", "KILL"]
        if uid is not None:
            wrapped += [f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        if namespace is not None:
            wrapped = ["ip", "netns", "exec", namespace, *wrapped]
        with open(self.log(name), "ab") as log:
            process = subprocess.Popen(
                [*wrapped, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                cwd=self.directory,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def log(self, name):
        return os.path.join(self.directory, f"{name}.log")

    def end_all(self):
        for process in reversed(self.started):
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + 3
        for process in reversed(self.started):
            try:
                process.wait(max(0.01, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.started.clear()


def end(process, with_signal=signal.SIGTERM, within=5.0):
    """Ends one process; gives its exit code. Fails where the signal is not enough."""
    process.send_signal(with_signal)
    try:
        return process.wait(within)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise Failed(f"{process.args[-1]} did not end within {within} s") from None


def run(command, namespace=None, timeout=20.0, check=True, stdin=b"", uid=None, text=True):
    """Runs a command to its end; gives its result."""
    wrapped = ["ip", "netns", "exec", namespace] if namespace else []
    if uid is not None:
        wrapped += ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    try:
        result = subprocess.run(
            [*wrapped, *command], input=stdin, capture_output=True, timeout=timeout
        )
    except subprocess.TimeoutExpired as error:
        out = (error.stdout or b"") + (error.stderr or b"")
        raise Failed(f"{' '.join(command)}: not done in {timeout} s; {out[-500:]!r}") from None
    if text:
        result.stdout = result.stdout.decode(errors="replace")
        result.stderr = result.stderr.decode(errors="replace")
    if check and result.returncode != 0:
        out = (result.stdout + result.stderr)[-800:]
        raise Failed(f"{' '.join(command)}: exit {result.returncode}: {out}")
    return result


def eventually(what, check, within=10.0, every=0.05):
    """Waits until `check` gives something true, and gives it."""
    deadline = time.monotonic() + within
    last = None
    while time.monotonic() < deadline:
        try:
            last = check()
        except (Failed, OSError) as error:
            last = error
        else:
            if last:
                return last
        time.sleep(every)
    raise Failed(f"not within {within} s: {what}; last: {last}")


def expect(holds, what):
    """A fact that must hold."""
    if not holds:
        raise Failed(what)


def needs(*tools):
    """Marks a fact that is skipped where one of these programs or Python modules is missing."""

    def mark(fact):
        fact.needs = tools
        return fact

    return mark


def takes(seconds_max):
    """Marks a fact that may take longer than others."""

    def mark(fact):
        fact.seconds_max = seconds_max
        return fact

    return mark


def has(tool):
    return bool(find(tool)) or importlib.util.find_spec(tool) is not None


def find(tool):
    """A program, also where Debian keeps PostgreSQL's."""
    return GIVEN.get(tool) or shutil.which(tool) or next(iter(glob.glob(f"/usr/lib/postgresql/*/bin/{tool}")), None)

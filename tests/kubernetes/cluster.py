"""A cluster as a test sees it: kubectl, weft, and waiting for what comes true."""

import json
import os
import subprocess
import time

from authority import Authority

CONTROL = "linkerd"
# Where the facts' workloads are.
SHOP = "weft-e2e"


class Failed(Exception):
    """A fact does not hold; says what was seen."""


class Cluster:
    def __init__(self, options):
        self.options = options
        self.authority = Authority()
        self.weft_program = os.path.join(options.programs, "weft")
        # Where there is one: facts about it come after the one that starts it.
        self.prometheus = None

    def kubectl(self, *words, stdin=None, fails=False, secs=120):
        """Output of kubectl; with `fails`, what it says where it does not succeed, as it must."""
        return run(["kubectl", *words], stdin, fails, secs)

    def weft(self, *words, stdin=None, fails=False, secs=120):
        return run([self.weft_program, *words], stdin, fails, secs)

    def apply(self, manifest, fails=False):
        return self.kubectl("apply", "-f", "-", stdin=manifest, fails=fails)

    def objects(self, kind, namespace, selector=None):
        words = ["get", kind, "-n", namespace, "-o", "json"]
        if selector:
            words += ["-l", selector]
        return json.loads(self.kubectl(*words))["items"]

    def pods(self, namespace, app):
        """Pods of an app that are not ending."""
        pods = self.objects("pods", namespace, f"app={app}")
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def rolled_out(self, namespace, *deployments, secs=180):
        for name in deployments:
            try:
                self.kubectl("rollout", "status", f"deployment/{name}", "-n", namespace, f"--timeout={secs}s", secs=secs + 10)
            except Failed as error:
                raise Failed(f"{error}\n{self.story(namespace)}") from None

    def story(self, namespace):
        """What a person would look at."""
        pods = self.kubectl("get", "pods", "-n", namespace, "-o", "wide")
        events = self.kubectl("get", "events", "-n", namespace, "--sort-by=.lastTimestamp").splitlines()
        return "\n".join([pods, *events[-25:]])

    def shell(self, namespace, app, command, fails=False, secs=60):
        """Runs a command in the first pod of an app."""
        pods = self.pods(namespace, app)
        if not pods:
            raise Failed(f"{namespace} has no pod of {app}")
        name = pods[0]["metadata"]["name"]
        return self.kubectl("exec", "-n", namespace, name, "-c", app, "--", "sh", "-c", command, fails=fails, secs=secs)

    def close(self):
        if self.prometheus:
            self.prometheus.end()

    def metrics(self, namespace, app):
        """The lines of /metrics of every proxy of an app."""
        lines = []
        for pod in self.pods(namespace, app):
            name = pod["metadata"]["name"]
            lines += self.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/pods/{name}:4191/proxy/metrics").splitlines()
        return lines

    def events(self, namespace):
        return [(event["reason"], event["involvedObject"]["kind"], event["message"]) for event in self.objects("events", namespace)]


def run(words, stdin, fails, secs):
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=secs)
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(words)[:200]}: no end within {secs} s") from None
    if (done.returncode == 0) == fails:
        raise Failed(f"{' '.join(words)[:200]}: exit {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout + (done.stderr if fails else "")


def within(secs, what, look):
    """Waits until `look` gives something, and returns that."""
    end = time.monotonic() + secs
    last = None
    while True:
        try:
            found = look()
            if found:
                return found
        except Failed as error:
            last = error
        if time.monotonic() > end:
            raise Failed(f"not within {secs} s: {what}" + (f"; {last}" if last else ""))
        time.sleep(0.5)


def needs(*programs):
    """Marks a fact that is skipped where one of these programs is missing."""

    def mark(fact):
        fact.needs = programs
        return fact

    return mark


def must(holds, otherwise):
    if not holds:
        raise Failed(otherwise)

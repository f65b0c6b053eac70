"""Load that runs while something else happens, by h2load."""

import re

from processes import expect

CONNECTIONS = 8


class Load:
    """Requests at a steady rate in the background."""

    def __init__(self, pod, url, seconds, rate=320):
        each = rate // CONNECTIONS
        flags = ["--h1", "-t", "1", "-m", "1", "-c", str(CONNECTIONS), "--rps", str(each)]
        processes = pod.mesh.processes
        self.log = processes.log(f"{pod.name}-load")
        open(self.log, "w").close()
        command = ["h2load", *flags, "-D", str(seconds), url]
        self.process = processes.start(f"{pod.name}-load", command, namespace=pod.namespace)
        self.seconds, self.rate = seconds, rate

    def finish(self):
        """How many requests were answered with 2xx, and how many not."""
        self.process.wait(self.seconds + 15)
        said = open(self.log).read()
        total = re.search(r"requests: (\d+) total, (\d+) started, (\d+) done", said)
        statuses = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", said)
        errors = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", said)
        expect(total and statuses and errors, said)
        good = int(statuses[1])
        bad = sum(map(int, statuses.groups()[1:])) + sum(map(int, errors.groups()[1:]))
        expect(good > 0.6 * self.seconds * self.rate, f"too little load to say anything: {said}")
        return good, bad, said

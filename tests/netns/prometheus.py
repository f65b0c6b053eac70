"""A real Prometheus beside the controller, with the configuration of deploy/prometheus for hosts: it
scrapes the same proxies under the same labels. A second controller answers people out of it."""

import json
import os
import re
import shutil

from mesh import CONTROLLER, NAMESPACE
from processes import eventually, find, run

CONFIGURATION = os.path.join(os.path.dirname(__file__), "..", "..", "deploy", "prometheus")
PORT, ADMIN, CONSOLE = 9090, 9997, 8085
URL = f"http://127.0.0.1:{PORT}"
# Where questions are asked: of the controller that scrapes for itself, and of the one that does not.
EMBEDDED, PROMETHEUS = "127.0.0.1:8084", f"127.0.0.1:{CONSOLE}"


class Prometheus:
    """The server, of the pods that are given, and the controller that asks it."""

    def __init__(self, mesh, pods):
        self.mesh, self.pods = mesh, pods
        self.directory = os.path.join(mesh.directory, "prometheus")
        self.server = self.controller = None

    def start(self):
        shutil.copytree(CONFIGURATION, self.directory)
        self._write_targets()
        config = os.path.join(self.directory, "standalone.yaml")
        self._change(config, "127.0.0.1:9996", f"{CONTROLLER}:9996")
        data = os.path.join(self.directory, "data")
        listen = f"--web.listen-address=127.0.0.1:{PORT}"
        command = [find("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={data}", listen]
        processes, host = self.mesh.processes, self.mesh.host
        self.server = processes.start("prometheus", command, namespace=host)
        source = ["--manifests", self.mesh.manifests, "--prometheus-url", URL]
        ports = ["--admin-port", str(ADMIN), "--viz-listen", PROMETHEUS]
        command = [self.mesh.program("weft"), "controller", "--serve", "viz", *source, *ports]
        self.controller = processes.start("prometheus-controller", command, namespace=host)

    def wait(self):
        """Waits until everything was scraped."""
        eventually("everything is scraped", self._has_scraped_everything, within=30)

    def end(self):
        for process in (self.controller, self.server):
            if process is not None:
                process.kill()

    def ask(self, promql):
        """The samples of an instant query: labels and value."""
        get = ["curl", "-sf", "-m", "5", "-G", "--data-urlencode", f"query={promql}"]
        said = run([*get, f"{URL}/api/v1/query"], namespace=self.mesh.host).stdout
        found = json.loads(said)["data"]["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def _write_targets(self):
        """The example's form, with what is here."""
        entries = [
            {"targets": [f"10.88.0.{pod.number}:4191"],
             "labels": {"namespace": NAMESPACE, "pod": pod.name, **workload}}
            for pod, workload in self.pods
        ]
        targets = os.path.join(self.directory, "targets")
        os.remove(os.path.join(targets, "example.yaml"))
        with open(os.path.join(targets, "pods.yaml"), "w") as file:
            json.dump(entries, file)

    @staticmethod
    def _change(path, old, new):
        text = open(path).read()
        assert len(re.findall(re.escape(old), text)) == 1, f"{path} has not one {old}"
        with open(path, "w") as file:
            file.write(text.replace(old, new))

    def _has_scraped_everything(self):
        up = {labels["pod"]: value for labels, value in self.ask("up")}
        return up == {name: 1.0 for name in ["controller", *(pod.name for pod, _ in self.pods)]}

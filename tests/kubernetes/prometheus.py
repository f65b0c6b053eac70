"""A real Prometheus as a process of this host, with the configuration of deploy/prometheus for Kubernetes.

It is changed in one thing: how the cluster is reached. The API server is that of KUBECONFIG, and pods, which
this host need not reach, are scraped through it. Debian's Prometheus is built without the discovery of Kubernetes:
there, files say what it would say of the pods, and the rules of the configuration do the rest.
A controller beside it answers people out of it.
"""

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request

from cluster import CONTROL, Failed, within

DEPLOY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy")

# Before the other rules of a job: what `instance` is by default, then the way to the pod.
THROUGH_THE_API_SERVER = """
      - source_labels: [__address__]
        target_label: instance
      - source_labels: [__meta_kubernetes_namespace, __meta_kubernetes_pod_name, __meta_kubernetes_pod_container_port_number]
        separator: ;
        regex: (.+);(.+);(.+)
        target_label: __metrics_path__
        replacement: /api/v1/namespaces/$1/pods/$2:$3/proxy/metrics
      - target_label: __address__
        replacement: {server}
"""


class Prometheus:
    def __init__(self, cluster):
        self.cluster = cluster
        self.directory = tempfile.mkdtemp(prefix="weft-prometheus-")
        self.address, self.console = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.address}"
        self.processes = []
        self.ended = threading.Event()

    def start(self):
        path = self.directory
        kubeconfig = os.path.join(path, "kubeconfig")
        write(kubeconfig, self.cluster.kubectl("config", "view", "--raw", "--minify"))
        shutil.copy(os.path.join(DEPLOY, "prometheus", "rules.yaml"), path)
        config = self._configuration()
        if discovers_kubernetes():
            config = config.replace("      - role: pod\n", f"      - role: pod\n        kubeconfig_file: {kubeconfig}\n")
        else:
            discovery = re.compile(r"    kubernetes_sd_configs:\n      - role: pod\n(        namespaces:\n          names: .*\n)?")
            config = discovery.sub(lambda of: f"    file_sd_configs:\n      - files: [{path}/{'control' if of[1] else 'all'}.json]\n", config)
            self._tell_pods()
            threading.Thread(target=self._keep_telling_pods, daemon=True).start()
        write(os.path.join(path, "prometheus.yaml"), config)
        self._run("prometheus", "prometheus", f"--config.file={path}/prometheus.yaml",
                  f"--storage.tsdb.path={path}/data", f"--web.listen-address={self.address}")
        within(20, "Prometheus is ready", lambda: self.get("/api/v1/status/buildinfo"))
        self._run("controller", self.cluster.weft_program, "controller", "--serve", "viz",
                  "--kubernetes", "--kubeconfig", kubeconfig, "--prometheus-url", self.url,
                  "--listen", "127.0.0.1", "--admin-port", str(free_port()), "--viz-listen", self.console)

    def end(self):
        self.ended.set()
        for process in self.processes:
            process.kill()
            process.wait()
        shutil.rmtree(self.directory)

    def get(self, path, **parameters):
        url = f"{self.url}{path}?{urllib.parse.urlencode(parameters, doseq=True)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise Failed(f"{url}: {error}: {error.read()[:500]}") from None
        except OSError as error:
            raise Failed(f"{url}: {error}") from None

    def ask(self, promql):
        """What an instant query gives: labels and values."""
        found = self.get("/api/v1/query", query=promql)["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def targets(self):
        return self.get("/api/v1/targets", state="active")["activeTargets"]

    def _configuration(self):
        """deploy/prometheus/kubernetes.yaml, with the way to pods."""
        view = json.loads(self.cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
        server = urllib.parse.urlsplit(view["clusters"][0]["cluster"]["server"])
        text = open(os.path.join(DEPLOY, "prometheus", "kubernetes.yaml"), encoding="utf-8").read()
        discovery, rules = "    kubernetes_sd_configs:\n", "    relabel_configs:\n"
        jobs = text.count("  - job_name:")
        if not text.count(discovery) == text.count(rules) == jobs:
            raise Failed(f"the configuration's {jobs} jobs do not look as they did")
        text = text.replace(discovery, f"    scheme: {server.scheme}\n{self._credentials(view)}{discovery}")
        return text.replace(rules, rules + THROUGH_THE_API_SERVER.lstrip("\n").format(server=server.netloc))

    def _keep_telling_pods(self):
        while not self.ended.wait(2):
            try:
                self._tell_pods()
            except (Failed, OSError):
                # It is asked again.
                continue

    def _tell_pods(self):
        pods = json.loads(self.cluster.kubectl("get", "pods", "-A", "-o", "json"))["items"]
        found = [each for pod in pods for each in discovered(pod)]
        of_control = [each for each in found if each["labels"]["__meta_kubernetes_namespace"] == CONTROL]
        for name, targets in (("all", found), ("control", of_control)):
            path = os.path.join(self.directory, f"{name}.json")
            write(f"{path}.new", json.dumps(targets))
            os.rename(f"{path}.new", path)

    def _credentials(self, view):
        cluster, user = view["clusters"][0]["cluster"], view["users"][0]["user"]

        def file(of, name):
            if f"{name}-data" not in of:
                return of.get(name)
            path = os.path.join(self.directory, name)
            write(path, base64.b64decode(of[f"{name}-data"]).decode())
            return path

        lines = ["    tls_config:"]
        for key, path in (("ca_file", file(cluster, "certificate-authority")),
                          ("cert_file", file(user, "client-certificate")), ("key_file", file(user, "client-key"))):
            if path:
                lines.append(f"      {key}: {path}")
        if user.get("token"):
            lines += ["    authorization:", f"      credentials: {user['token']}"]
        return "\n".join(lines) + "\n"

    def _run(self, name, *command):
        with open(os.path.join(self.directory, f"{name}.log"), "wb") as log:
            self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))


def discovers_kubernetes():
    path = os.path.join(DEPLOY, "prometheus", "kubernetes.yaml")
    checked = subprocess.run(["promtool", "check", "config", path], capture_output=True, text=True)
    return "field kubernetes_sd_configs not found" not in checked.stdout + checked.stderr


def discovered(pod):
    """What Prometheus' discovery says of a pod: a target for each port of each container."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod["status"]
    if not status.get("podIP"):
        return
    labels = {
        "namespace": metadata["namespace"], "pod_name": metadata["name"], "pod_uid": metadata["uid"],
        "pod_ip": status["podIP"], "pod_host_ip": status.get("hostIP", ""), "pod_node_name": spec.get("nodeName", ""),
        "pod_phase": status["phase"],
    }
    for owner in metadata.get("ownerReferences", []):
        if owner.get("controller"):
            labels |= {"pod_controller_kind": owner["kind"], "pod_controller_name": owner["name"]}
    for kind in ("label", "annotation"):
        for name, value in metadata.get(f"{kind}s", {}).items():
            name = re.sub(r"\W", "_", name)
            labels |= {f"pod_{kind}_{name}": value, f"pod_{kind}present_{name}": "true"}
    for init, containers in (("false", spec["containers"]), ("true", spec.get("initContainers", []))):
        for container in containers:
            own = {"name": container["name"], "image": container["image"], "init": init}
            for port in container.get("ports") or [{}]:
                number = port.get("containerPort")
                more = {"port_name": port.get("name", ""), "port_number": str(number),
                        "port_protocol": port.get("protocol", "TCP")} if number else {}
                told = labels | {f"pod_container_{name}": value for name, value in (own | more).items()}
                address = f"{status['podIP']}:{number}" if number else status["podIP"]
                yield {"targets": [address], "labels": {f"__meta_kubernetes_{name}": value for name, value in told.items()}}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o600)

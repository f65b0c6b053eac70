"""A mesh whose control plane follows a Kubernetes API server: the simulator's, as a process in a namespace
of its own (cli/examples/api_server.rs). Pods are namespaces, as everywhere here; what is known of them
comes from the API server, and who they are from its TokenReview."""

import json
import os
import re
import shutil
import signal

from applications import start_nginx
from mesh import HTTP, NAMESPACE, Metrics, Pod, namespace_and_accounts, pod, service, slice_of
from processes import end, eventually, find, run

API_SERVER, CONTROLLER = 61, 60
WEB_ADDRESS = "10.96.0.40"
WEB_PORTS = {"http": HTTP}
# Linkerd's audience.
AUDIENCE = "identity.l5d.io"


class ApiServer:
    """The API server, and what it was told so far."""

    def __init__(self, world, processes, directory):
        self.world, self.processes, self.directory = world, processes, directory
        self.namespace = world.pod("api-server", API_SERVER, redirect=False)
        self.address = f"10.88.0.{API_SERVER}:6443"
        self.kubeconfig = os.path.join(directory, "kubeconfig")
        self.objects = {}
        self.process = None

    def start(self):
        """Starts it, with the objects that it had."""
        manifests = os.path.join(self.directory, "manifests")
        shutil.rmtree(manifests, ignore_errors=True)
        os.makedirs(manifests)
        for number, each in enumerate(self.objects.values()):
            with open(os.path.join(manifests, f"{number}.json"), "w") as file:
                json.dump(each, file)
        command = [find("api_server"), self.address, self.directory]
        self.process = self.processes.start("api-server", command, namespace=self.namespace)
        eventually("the API server answers", self._answers, within=10)

    def kill(self):
        end(self.process, signal.SIGKILL)

    def cut_off(self):
        """Nobody reaches it and it reaches nobody; connections stay open."""
        self._wire("down")

    def mend(self):
        self._wire("up")

    def apply(self, *objects):
        for each in objects:
            path = _path(each)
            apply = ["-H", "content-type: application/apply-patch+yaml", "-X", "PATCH"]
            self._curl(f"{path}?fieldManager=tests", *apply, body=each)
            self.objects[path] = each

    def delete(self, *objects):
        for each in objects:
            path = _path(each)
            self._curl(path, "-X", "DELETE")
            self.objects.pop(path, None)

    def token(self, account):
        """A token of a service account, as a kubelet asks for it."""
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token"
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                 "spec": {"audiences": [AUDIENCE]}}
        json_form = ["-H", "content-type: application/json", "-X", "POST"]
        return json.loads(self._curl(path, *json_form, body=asked))["status"]["token"]

    def _wire(self, state):
        world = self.world
        run(["ip", "-n", world.wire, "link", "set", f"veth{API_SERVER}", state])

    def _answers(self):
        if self.process.poll() is not None:
            raise SystemExit("the API server ended: " + open(self.processes.log("api-server")).read())
        return self._curl("/api/v1/namespaces?limit=1")

    def _curl(self, path, *arguments, body=None):
        # From where it is, so that it can be told things while it is cut off.
        token = re.search(r"token: ([\w-]+)", open(self.kubeconfig).read())[1]
        where = ["--cacert", os.path.join(self.directory, "ca.crt"),
                 "--connect-to", f"localhost:6443:{self.address}"]
        data = ["--data-binary", "@-"] if body is not None else []
        head = ["-H", f"authorization: Bearer {token}"]
        command = ["curl", "-sS", "--fail-with-body", "-m", "5", *where, *head, *data, *arguments]
        stdin = json.dumps(body).encode() if body is not None else b""
        return run([*command, f"https://localhost:6443{path}"], self.namespace, stdin=stdin).stdout


class Cluster:
    """The control plane, a client and two replicas of a service."""

    def __init__(self, mesh):
        self.world, self.processes, self.program = mesh.world, mesh.processes, mesh.program
        self.directory = os.path.join(mesh.directory, "cluster")
        os.makedirs(self.directory)
        self.controller_address = f"10.88.0.{CONTROLLER}"
        self.anchors = os.path.join(self.directory, "ca-bundle.crt")
        self.host = self.world.pod("cluster-controller", CONTROLLER, redirect=False)
        self.api_server = ApiServer(self.world, self.processes, self.directory)
        self.controller = None
        self.pods = {}

    def open(self):
        self.api_server.start()
        self.api_server.apply(*namespace_and_accounts())
        self._make_identity()
        self._start_controller()
        for number, name, account in ((50, "client", "client"), (51, "web-1", "web"), (52, "web-2", "web")):
            # Namespaces of the other mesh have names, too.
            self.pods[name] = Pod(self, f"cluster-{name}", number, account)
        web = [self.pods["web-1"], self.pods["web-2"]]
        self.api_server.apply(service("web", WEB_ADDRESS, WEB_PORTS), pod(self.pods["client"], {}))
        self.api_server.apply(*(pod(each, WEB_PORTS) for each in web), self.slice(*web))
        for each in web:
            start_nginx(self, each)
        for each in self.pods.values():
            each.start_proxy()

    def slice(self, *pods):
        return slice_of("web", WEB_PORTS, *pods)

    def token(self, account):
        path = os.path.join(self.directory, f"{account}.token")
        return self.write_token(path, self.api_server.token(account))

    def write_token(self, path, token):
        with open(path, "w") as file:
            file.write(token)
        os.chmod(path, 0o644)
        return path

    def metrics(self):
        """What the controller counts of itself."""
        url = f"http://{self.controller_address}:9996/metrics"
        return Metrics(run(["curl", "-sf", "-m", "2", url], namespace=self.host).stdout)

    def reaches_api_server(self):
        url = f"https://{self.api_server.address}/"
        asked = run(["curl", "-sk", "-m", "1", url], namespace=self.host, check=False)
        return asked.returncode == 0

    def _make_identity(self):
        """An anchor, and an issuer in a directory as Kubernetes mounts it."""
        issuer = os.path.join(self.directory, "issuer")
        os.makedirs(issuer)
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
        may_sign = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        ca = os.path.join(self.directory, "anchor.key")
        of_anchor = ["-subj", "/CN=root.linkerd.cluster.local", "-keyout", ca, "-out", self.anchors]
        run(["openssl", "req", "-x509", *key, *may_sign, *of_anchor])
        files = [os.path.join(issuer, name) for name in ("tls.key", "tls.crt")]
        of_issuer = ["-subj", "/CN=identity.linkerd.cluster.local", "-keyout", files[0], "-out", files[1]]
        signed_by = ["-CA", self.anchors, "-CAkey", ca]
        run(["openssl", "req", "-x509", *key, *may_sign, *of_issuer, *signed_by])
        os.chmod(self.anchors, 0o644)

    def _start_controller(self):
        identity = ["--issuer-dir", os.path.join(self.directory, "issuer"), "--trust-roots", self.anchors]
        source = ["--kubernetes", "--kubeconfig", self.api_server.kubeconfig]
        command = [self.program("weft"), "controller", *source, "--serve", "destination,identity", *identity]
        self.controller = self.processes.start(
            "cluster-controller", [*command, "--listen", self.controller_address], namespace=self.host
        )
        eventually("the controller is ready", self._is_ready, within=15)

    def _is_ready(self):
        if self.controller.poll() is not None:
            log = open(self.processes.log("cluster-controller")).read()
            raise SystemExit(f"the controller ended: {log[-2000:]}")
        url = f"http://{self.controller_address}:9996/ready"
        return run(["curl", "-sf", "-m", "2", url], namespace=self.host, check=False).returncode == 0


def _path(of):
    """Where an object is at an API server."""
    version, kind, metadata = of["apiVersion"], of["kind"].lower(), of["metadata"]
    plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    if "namespace" in metadata:
        root += f"/namespaces/{metadata['namespace']}"
    return f"{root}/{plural}/{metadata['name']}"

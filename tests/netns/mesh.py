"""A mesh: controller, pods with their proxies, and manifests."""

import json
import os
import re
import shutil
import signal
import sys
import time

from processes import Failed, end, eventually, run
from world import PROXY_UID

HERE = os.path.dirname(os.path.abspath(__file__))
NAMESPACE = "shop"
CONTROLLER = "10.88.0.2"
IDENTITY = "{account}.{namespace}.serviceaccount.identity.linkerd.cluster.local"

# Where the pod `data` collects spans, if a fact wants it to.
COLLECTOR = 4317

# Addresses of services, as clients dial them.
WEB, WEB6, DATA = "10.96.0.1", "fd96::1", "10.96.0.2"
WEB_NAME = "web.shop.svc.cluster.local"
# Ports of `web`: nginx with HTTP/1 and with HTTP/2 alone, the rest in Python.
HTTP, HTTP2, ECHO, SOCKETS, SECURE, GRPC, GUARDED, COUNTED = 8080, 8082, 8081, 8083, 8443, 50051, 8090, 8091
WEB_PORTS = {
    "http": HTTP, "http2": HTTP2, "echo": ECHO, "sockets": SOCKETS,
    "secure": SECURE, "grpc": GRPC, "guarded": GUARDED, "counted": COUNTED,
}
# Ports of `data`. Linkerd's default opaque ports have 6379 and 5432, but not the others.
REDIS, REDIS_UNMARKED, POSTGRES, POSTGRES_UNMARKED, MAIL = 6379, 6380, 5432, 5433, 2525
DATA_PORTS = {
    "redis": REDIS, "redis-unmarked": REDIS_UNMARKED, "postgres": POSTGRES,
    "postgres-unmarked": POSTGRES_UNMARKED, "mail": MAIL,
}


class Pod:
    """A namespace with an application and a proxy in it."""

    def __init__(self, mesh, name, number, account, redirect=True):
        self.mesh, self.name, self.number, self.account = mesh, name, number, account
        self.namespace = mesh.world.pod(name, number, redirect)
        self.proxy = None
        # Another than its service account's, where there is one.
        self.token_file = None
        self.applications = []

    def run(self, *command, **options):
        return run(list(command), namespace=self.namespace, **options)

    def client(self, what, *arguments, timeout=20.0):
        """Runs one of the clients of clients.py here; gives what it found out."""
        program = [sys.executable, os.path.join(HERE, "clients.py"), what, *map(str, arguments)]
        return json.loads(self.run(*program, timeout=timeout).stdout)

    def start(self, name, *command, uid=None):
        """Starts an application here."""
        process = self.mesh.processes.start(
            f"{self.name}-{name}", list(command), namespace=self.namespace, uid=uid
        )
        self.applications.append(process)
        return process

    def start_proxy(self, wait=True):
        self.proxy = self.mesh.processes.start(
            f"{self.name}-proxy",
            [self.mesh.program("weft-proxy")],
            namespace=self.namespace,
            uid=PROXY_UID,
            env=self._environment(),
        )
        if wait:
            eventually(f"{self.name}'s proxy is ready", self.is_ready, within=15)

    def is_ready(self):
        if self.proxy.poll() is not None:
            log = open(self.mesh.processes.log(f"{self.name}-proxy")).read()
            raise SystemExit(f"{self.name}'s proxy ended: {log[-2000:]}")
        asked = self.run("curl", "-sf", "-m", "2", "http://127.0.0.1:4191/ready", check=False)
        return asked.returncode == 0

    def metrics(self):
        text = self.run("curl", "-sf", "-m", "5", "http://127.0.0.1:4191/metrics").stdout
        return Metrics(text)

    def _environment(self):
        mesh = self.mesh
        workload = json.dumps({"ns": NAMESPACE, "pod": self.name})
        service = "{}.linkerd.serviceaccount.identity.linkerd.cluster.local".format
        return {
            "PATH": os.environ["PATH"],
            "LINKERD2_PROXY_LOG": os.environ.get("WEFT_TEST_LOG", "info"),
            "LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS": "127.0.0.1:4140,[::1]:4140",
            "LINKERD2_PROXY_INBOUND_LISTEN_ADDR": "[::]:4143",
            "LINKERD2_PROXY_ADMIN_LISTEN_ADDR": "0.0.0.0:4191",
            "LINKERD2_PROXY_TAP_SVC_NAME": service("linkerd-destination"),
            "LINKERD2_PROXY_INBOUND_IPS": f"10.88.0.{self.number},fd88::{self.number}",
            "WEFT_OUTBOUND_HTTP_PROXY_LISTEN_ADDRS": "127.0.0.1:4145",
            "LINKERD2_PROXY_DESTINATION_SVC_ADDR": f"{mesh.controller_address}:8086",
            "LINKERD2_PROXY_DESTINATION_SVC_NAME": service("linkerd-destination"),
            "LINKERD2_PROXY_POLICY_SVC_ADDR": f"{mesh.controller_address}:8090",
            "LINKERD2_PROXY_POLICY_SVC_NAME": service("linkerd-destination"),
            "LINKERD2_PROXY_IDENTITY_SVC_ADDR": f"{mesh.controller_address}:8080",
            "LINKERD2_PROXY_IDENTITY_SVC_NAME": service("linkerd-identity"),
            "LINKERD2_PROXY_IDENTITY_LOCAL_NAME": identity(self.account),
            "LINKERD2_PROXY_IDENTITY_TOKEN_FILE": self.token_file or mesh.token(self.account),
            "WEFT_IDENTITY_TRUST_ANCHORS_FILE": mesh.anchors,
            "LINKERD2_PROXY_DESTINATION_CONTEXT": workload,
            "LINKERD2_PROXY_POLICY_WORKLOAD": workload,
            "LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD": "10s",
            "LINKERD2_PROXY_TRACE_COLLECTOR_SVC_ADDR": f"10.88.0.21:{COLLECTOR}",
            "LINKERD2_PROXY_TRACE_COLLECTOR_SVC_NAME": identity("data"),
            "OTEL_RESOURCE_ATTRIBUTES": f"pod={self.name},namespace={NAMESPACE}",
        }


class Mesh:
    """The whole of it, in a directory that everybody may read."""

    def __init__(self, world, processes, programs):
        self.world, self.processes = world, processes
        self.directory = processes.directory
        self.manifests = os.path.join(self.directory, "manifests")
        self.state = os.path.join(self.directory, "state")
        os.makedirs(self.manifests)
        os.makedirs(self.state)
        # Copied, because proxies run as a user who may not be able to read the build's directory.
        for program in ("weft", "weft-proxy"):
            shutil.copy(os.path.join(programs, program), self.program(program))
        self.controller_address = CONTROLLER
        self.anchors = os.path.join(self.directory, "anchors.pem")
        self.controller = None
        self.host = None
        self.pods = {}
        # Another mesh in the same world, of those who need it.
        self.cluster = None

    def program(self, name):
        return os.path.join(self.directory, name)

    def open(self):
        self.world.open()
        self.host = self.world.pod("controller", 2, redirect=False)
        self.write("mesh", *namespace_and_accounts())
        self.start_controller()
        self.pods["client"] = Pod(self, "client", 10, "client")
        self.pods["outsider"] = Pod(self, "outsider", 30, "outsider", redirect=False)
        for number, name in ((11, "web-1"), (12, "web-2")):
            self.pods[name] = Pod(self, name, number, "web")
        self.pods["data"] = Pod(self, "data", 21, "data")
        self.write("client", workload(self.pods["client"], None, {}))
        self.write("web", service("web", WEB, WEB_PORTS, WEB6))
        for name in ("web-1", "web-2"):
            self.write(name, workload(self.pods[name], "web", WEB_PORTS))
        # What a cluster would say of the same: a Pod and an EndpointSlice.
        data = self.pods["data"]
        self.write("data", service("data", DATA, DATA_PORTS), pod(data, DATA_PORTS), slice_of("data", DATA_PORTS, data))

    # Manifests: JSON is YAML. A file appears whole, by a rename.
    def write(self, name, *objects):
        path = os.path.join(self.manifests, f"{name}.yaml")
        with open(f"{path}.new", "w") as file:
            file.write("\n---\n".join(json.dumps(each, indent=1) for each in objects) + "\n")
        os.rename(f"{path}.new", path)

    def remove(self, name):
        os.remove(os.path.join(self.manifests, f"{name}.yaml"))

    def start_controller(self):
        arguments = ["--manifests", self.manifests, "--state-dir", self.state]
        self.controller = self.processes.start(
            "controller",
            [self.program("weft"), "controller", *arguments, "--listen", CONTROLLER],
            namespace=self.host,
        )
        eventually("the controller is ready", self.controller_is_ready, within=15)
        shutil.copy(os.path.join(self.state, "ca.crt"), self.anchors)

    def controller_is_ready(self):
        if self.controller.poll() is not None:
            log = open(self.processes.log("controller")).read()
            raise SystemExit(f"the controller ended: {log[-2000:]}")
        url = f"http://{CONTROLLER}:9996/ready"
        asked = run(["curl", "-sf", "-m", "2", url], namespace=self.host, check=False)
        return asked.returncode == 0

    def kill_controller(self):
        end(self.controller, signal.SIGKILL)

    def token(self, account):
        path = os.path.join(self.directory, f"{account}.token")
        if not os.path.exists(path):
            create = ["token", "create", "--state-dir", self.state, "--namespace", NAMESPACE]
            made = run([self.program("weft"), *create, "--service-account", account])
            with open(path, "w") as file:
                file.write(made.stdout.strip())
            os.chmod(path, 0o644)
        return path


class Metrics:
    """Samples of a proxy's /metrics."""

    LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
    LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

    def __init__(self, text):
        found = (self.LINE.match(line) for line in text.splitlines())
        self.samples = [
            (m[1], dict(self.LABEL.findall(m[2] or "")), float(m[3])) for m in found if m
        ]

    def sum(self, name, **labels):
        """The sum of a metric over all samples that have these labels."""
        has = labels.items()
        return sum(v for n, have, v in self.samples if n == name and has <= have.items())


def identity(account, namespace=NAMESPACE):
    return IDENTITY.format(account=account, namespace=namespace)


def meta(name, **more):
    return {"name": name, "namespace": NAMESPACE, **more}


def namespace_and_accounts():
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    for account in ("client", "web", "data"):
        yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta(account)}


def service(name, address, ports, *more_addresses):
    spec = {
        "clusterIP": address,
        "clusterIPs": [address, *more_addresses],
        "ports": [{"name": port, "port": number} for port, number in ports.items()],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta(name), "spec": spec}


def workload(of, service_name, ports):
    spec = {
        "addresses": [f"10.88.0.{of.number}", f"fd88::{of.number}"],
        "serviceAccount": of.account,
        "ports": [{"name": name, "port": number} for name, number in ports.items()],
        "proxy": {},
    }
    if service_name:
        spec["service"] = service_name
    return {
        "apiVersion": "workload.weft.sh/v1alpha1",
        "kind": "Workload",
        "metadata": meta(of.name, labels={"app": of.account}),
        "spec": spec,
    }


def pod(of, ports):
    """What a cluster says of a pod with a sidecar."""
    address = f"10.88.0.{of.number}"
    listen = [
        {"name": f"LINKERD2_PROXY_{which}_LISTEN_ADDR", "value": f"0.0.0.0:{port}"}
        for which, port in (("INBOUND", 4143), ("ADMIN", 4191), ("CONTROL", 4190))
    ]
    tapper = "linkerd-destination.linkerd.serviceaccount.identity.linkerd.cluster.local"
    listen.append({"name": "LINKERD2_PROXY_TAP_SVC_NAME", "value": tapper})
    ports = [{"name": name, "containerPort": number} for name, number in ports.items()]
    containers = [
        {"name": "linkerd-proxy", "env": listen},
        {"name": of.account, "ports": ports},
    ]
    labels = {"app": of.account, "linkerd.io/control-plane-ns": "linkerd"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta(of.name, labels=labels),
        "spec": {"serviceAccountName": of.account, "containers": containers},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    }


def slice_of(service_name, ports, *pods):
    endpoints = [
        {"addresses": [f"10.88.0.{of.number}"], "conditions": {"ready": True},
         "targetRef": {"kind": "Pod", "name": of.name, "namespace": NAMESPACE}}
        for of in pods
    ]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": meta(f"{service_name}-1", labels={"kubernetes.io/service-name": service_name}),
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": name, "port": number} for name, number in ports.items()],
    }


def server(name, app, port, protocol="unknown", access="deny"):
    spec = {
        "podSelector": {"matchLabels": {"app": app}},
        "port": port,
        "proxyProtocol": protocol,
        "accessPolicy": access,
    }
    return {"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server",
            "metadata": meta(name), "spec": spec}


def allow(server_name, *accounts):
    """An AuthorizationPolicy that lets these service accounts use a Server."""
    target = {"group": "policy.linkerd.io", "kind": "Server", "name": server_name}
    required = {"group": "policy.linkerd.io", "kind": "MeshTLSAuthentication", "name": server_name}
    refs = [{"kind": "ServiceAccount", "name": account} for account in accounts]
    yield {"apiVersion": "policy.linkerd.io/v1alpha1", "kind": "AuthorizationPolicy",
           "metadata": meta(server_name),
           "spec": {"targetRef": target, "requiredAuthenticationRefs": [required]}}
    yield {"apiVersion": "policy.linkerd.io/v1alpha1", "kind": "MeshTLSAuthentication",
           "metadata": meta(server_name), "spec": {"identityRefs": refs}}

"""How each proxy is started, in the role "c" (beside the client: outbound) or "s" (beside the server:
inbound). Each listens on 4140 and 4143 and answers on 4191/ready. To add one, write a class with
start(topology, role, cpu) and put it into ALL."""
import json, os, shutil, subprocess, time
from topology import *

PROFILE = os.environ.get("PROFILE", "release")
NAMES = {"c": "client", "s": "server"}


def identity(role):
    return f"{NAMES[role]}.bench.serviceaccount.identity.linkerd.cluster.local"


class Certificates:
    """A certificate authority of this run, and a certificate for each role, for proxies that take files."""

    def __init__(self, directory):
        self.directory = os.path.join(directory, "certificates")
        if os.path.exists(f"{self.directory}/ca.crt"):
            return
        os.makedirs(self.directory, exist_ok=True)
        os.chmod(self.directory, 0o755)
        d, key = self.directory, "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
        sh(f"openssl req -x509 {key} -keyout {d}/ca.key -out {d}/ca.crt -days 2 -subj /CN=bench "
           "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign")
        for role in "cs":
            os.makedirs(f"{d}/{role}", exist_ok=True)
            with open(f"{d}/{role}/ext", "w") as file:
                file.write(f"subjectAltName=DNS:{identity(role)}\nextendedKeyUsage=serverAuth,clientAuth\n")
            sh(f"openssl req {key} -keyout {d}/{role}/key.pem -out {d}/{role}/csr.pem -subj /CN={NAMES[role]} && "
               f"openssl x509 -req -in {d}/{role}/csr.pem -CA {d}/ca.crt -CAkey {d}/ca.key -CAcreateserial "
               f"-days 2 -extfile {d}/{role}/ext -out {d}/{role}/crt.pem")
        sh(f"chmod -R a+rX {d}")


class Weft:
    """weft-proxy, with a control plane in each namespace (they share their authority)."""
    name = "weft"
    binary = os.environ.get("WEFT_PROXY", os.path.join(TARGET, PROFILE, "weft-proxy"))
    controller = os.environ.get("WEFT", os.path.join(TARGET, PROFILE, "weft"))

    MANIFESTS = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: bench}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: client, namespace: bench}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: server, namespace: bench}}
---
apiVersion: v1
kind: Service
metadata: {{name: server, namespace: bench, annotations: {{config.linkerd.io/opaque-ports: "{TCP}"}}}}
spec:
  clusterIP: {SERVICE_IP}
  ports:
  - {{name: http, port: {HTTP}}}
  - {{name: tcp, port: {TCP}}}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {{name: client, namespace: bench}}
spec:
  addresses: [{CLIENT_IP}]
  serviceAccount: client
  proxy: {{inboundPort: 4143, adminPort: 4191}}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {{name: server, namespace: bench, annotations: {{config.linkerd.io/opaque-ports: "{TCP}"}}}}
spec:
  addresses: [{SERVER_IP}]
  serviceAccount: server
  service: server
  ports:
  - {{name: http, port: {HTTP}}}
  - {{name: tcp, port: {TCP}}}
  proxy: {{inboundPort: 4143, adminPort: 4191}}
"""

    @classmethod
    def prepare(cls, topology, cpu):
        manifests, state = f"{topology.directory}/manifests", f"{topology.directory}/state"
        os.makedirs(manifests, exist_ok=True)
        with open(f"{manifests}/all.yaml", "w") as file:
            file.write(cls.MANIFESTS)
        for namespace in (topology.client, topology.server):
            spawn([cls.controller, "controller", "--manifests", manifests, "--state-dir", state, "--listen", "127.0.0.1",
                   "--identity-port", "8089", "--log", "warn"], namespace, cpu=cpu, log=f"{topology.directory}/controller.log")
            for _ in range(100):
                if os.path.exists(f"{state}/ca.crt"):
                    break
                time.sleep(0.05)
        for role in "cs":
            token = subprocess.run([cls.controller, "token", "create", "--state-dir", state, "-n", "bench",
                                    "--service-account", NAMES[role]], capture_output=True, text=True, check=True)
            path = f"{topology.directory}/{role}.token"
            with open(path, "w") as file:
                file.write(token.stdout.strip())
            os.chmod(path, 0o644)
        sh(f"chmod a+rx {state} && chmod a+r {state}/ca.crt")

    @classmethod
    def env(cls, topology, role):
        workload = json.dumps({"ns": "bench", "pod": NAMES[role]})
        env = {
            "LINKERD2_PROXY_LOG": "warn", "LINKERD2_PROXY_CORES": "1",
            "LINKERD2_PROXY_DESTINATION_SVC_ADDR": "127.0.0.1:8086",
            "LINKERD2_PROXY_POLICY_SVC_ADDR": "127.0.0.1:8090",
            "LINKERD2_PROXY_IDENTITY_SVC_ADDR": "127.0.0.1:8089",
            "LINKERD2_PROXY_DESTINATION_PROFILE_NETWORKS": "10.0.0.0/8",
            "LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS": "10.0.0.0/8",
            "LINKERD2_PROXY_POLICY_WORKLOAD": workload, "LINKERD2_PROXY_DESTINATION_CONTEXT": workload,
            "LINKERD2_PROXY_ADMIN_LISTEN_ADDR": "127.0.0.1:4191",
            "LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR": "127.0.0.1:4140",
            "LINKERD2_PROXY_INBOUND_LISTEN_ADDR": "0.0.0.0:4143",
            "LINKERD2_PROXY_INBOUND_IPS": CLIENT_IP if role == "c" else SERVER_IP,
            "LINKERD2_PROXY_INBOUND_PORTS": f"{HTTP},{TCP}" if role == "s" else "",
            "LINKERD2_PROXY_IDENTITY_LOCAL_NAME": identity(role),
            "LINKERD2_PROXY_IDENTITY_TOKEN_FILE": f"{topology.directory}/{role}.token",
            "WEFT_IDENTITY_TRUST_ANCHORS_FILE": f"{topology.directory}/state/ca.crt",
            "LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD": "1s",
            # What the chart sets.
            "LINKERD2_PROXY_INBOUND_ACCEPT_KEEPALIVE": "10s", "LINKERD2_PROXY_OUTBOUND_CONNECT_KEEPALIVE": "10s",
            "LINKERD2_PROXY_INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL": "10s",
            "LINKERD2_PROXY_INBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT": "3s",
            "LINKERD2_PROXY_OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL": "10s",
            "LINKERD2_PROXY_OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT": "3s",
        }
        # Set where allocators are compared.
        env.update({name: value for name, value in os.environ.items() if name.startswith(("MALLOC_", "LD_PRELOAD"))})
        return env

    @classmethod
    def start(cls, topology, role, cpu):
        namespace = topology.client if role == "c" else topology.server
        return spawn([cls.binary], namespace, PROXY_UID, cls.env(topology, role),
                     f"{topology.directory}/proxy-{role}.log", cpu)


class Base(Weft):
    """Another build of weft-proxy, to compare with (WEFT_PROXY_BASE)."""
    name = "base"
    binary = os.environ.get("WEFT_PROXY_BASE", "")


class Floor:
    """The least that a pair of hyper and rustls can do."""
    name = "floor"
    binary = os.environ.get("FLOOR", os.path.join(TARGET, "peers", "release", "floor"))

    @classmethod
    def prepare(cls, topology, cpu):
        cls.certificates = Certificates(os.path.dirname(topology.directory)).directory

    @classmethod
    def start(cls, topology, role, cpu):
        namespace = topology.client if role == "c" else topology.server
        return spawn([cls.binary, role, f"{cls.certificates}/{role}", f"{cls.certificates}/ca.crt", identity("s")],
                     namespace, PROXY_UID, log=f"{topology.directory}/floor-{role}.log", cpu=cpu)


class Haproxy:
    """HAProxy: a proxy in C without policy. HTTP alone."""
    name = "haproxy"
    binary = shutil.which("haproxy") or ""

    @classmethod
    def prepare(cls, topology, cpu):
        cls.certificates = Certificates(os.path.dirname(topology.directory)).directory

    @classmethod
    def start(cls, topology, role, cpu):
        d, pem = cls.certificates, f"{topology.directory}/{role}.pem"
        with open(pem, "w") as file:
            file.write(open(f"{d}/{role}/crt.pem").read() + open(f"{d}/{role}/key.pem").read())
        os.chmod(pem, 0o644)
        tls = f"ssl crt {pem} ca-file {d}/ca.crt verify required"
        peer = identity("s")
        listen, server = {
            "c": ("bind :4140", f"server a {SERVER_IP}:{HTTP} {tls} verifyhost {peer} sni str({peer}) alpn h2"),
            "s": (f"bind :4143 {tls} alpn h2", f"server a 127.0.0.1:{HTTP}"),
        }[role]
        conf = f"{topology.directory}/haproxy-{role}.cfg"
        with open(conf, "w") as file:
            file.write(f"""global
  nbthread 1
  maxconn 8000
defaults
  mode http
  timeout connect 1s
  timeout client 600s
  timeout server 600s
  http-reuse always
frontend admin
  bind :4191
  monitor-uri /ready
frontend mesh
  {listen}
  default_backend mesh
backend mesh
  {server}
""")
        namespace = topology.client if role == "c" else topology.server
        return spawn([cls.binary, "-db", "-f", conf], namespace, PROXY_UID,
                     log=f"{topology.directory}/haproxy-{role}.log", cpu=cpu)


ALL = {proxy.name: proxy for proxy in (Weft, Base, Floor, Haproxy)}

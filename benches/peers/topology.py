"""Two namespaces for each proxy, the programs in them, and what those cost.

    client (loadgen) --REDIRECT--> :4140 outbound proxy ==mTLS HTTP/2==> :4143 inbound proxy --> nginx :8080
      namespace NAME-c, 10.99.0.1                             namespace NAME-s, 10.99.0.2

Nothing leaves loopback and the namespaces made here. Every process started here is ended by its id.
"""
import glob, json, os, signal, subprocess, time

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "..", "..", "target"))
LOADGEN = os.environ.get("LOADGEN", os.path.join(TARGET, "peers", "release", "loadgen"))
CLIENT_IP, SERVER_IP, SERVICE_IP = "10.99.0.1", "10.99.0.2", "10.99.1.1"
HTTP, TCP = 8080, 8082
PROXY_UID = 2102  # Its own connections are not redirected.

STARTED = []


def sh(command, check=True):
    return subprocess.run(command, shell=True, check=check, capture_output=True, text=True)


def spawn(command, namespace, uid=None, env=None, log=None, cpu=None):
    prefix = ["ip", "netns", "exec", namespace]
    if cpu is not None:
        prefix += ["taskset", "-c", str(cpu)]
    if uid:
        prefix += ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    out = open(log, "ab") if log else subprocess.DEVNULL
    process = subprocess.Popen(prefix + command, stdout=out, stderr=out, env=env)
    STARTED.append(process)
    return process


def stop(processes):
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    end = time.time() + 3
    for process in processes:
        try:
            process.wait(max(0.05, end - time.time()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Topology:
    """A client's namespace and a server's, joined, with rules that redirect to the proxies."""

    def __init__(self, name, directory):
        self.client, self.server = f"{name}-c", f"{name}-s"
        self.name, self.directory = name, os.path.join(directory, name)
        os.makedirs(self.directory, exist_ok=True)
        os.chmod(self.directory, 0o755)

    def up(self):
        self.down()
        sides = ((self.client, f"{self.name}0", CLIENT_IP), (self.server, f"{self.name}1", SERVER_IP))
        for namespace, _, _ in sides:
            sh(f"ip netns add {namespace} && ip -n {namespace} link set lo up")
        sh(f"ip link add {self.name}0 netns {self.client} type veth peer name {self.name}1 netns {self.server}")
        for namespace, device, ip in sides:
            sh(f"ip -n {namespace} addr add {ip}/24 dev {device} && ip -n {namespace} link set {device} up")
            sh(f"ip netns exec {namespace} sysctl -qw net.ipv4.ip_local_port_range='10000 65000' "
               "net.ipv4.tcp_tw_reuse=1 net.core.somaxconn=4096")
        # The service's address routes to the peer but is nobody's: only a redirect makes it work.
        sh(f"ip -n {self.client} route add 10.99.1.0/24 via {SERVER_IP}")
        nat = "ip netns exec {} iptables -w -t nat -A"
        sh(f"{nat.format(self.client)} OUTPUT -m owner --uid-owner {PROXY_UID} -j RETURN")
        sh(f"{nat.format(self.client)} OUTPUT -p tcp -d 10.99.1.0/24 -j REDIRECT --to-ports 4140")
        sh(f"{nat.format(self.server)} PREROUTING -p tcp -m multiport --dports {HTTP},{TCP} -j REDIRECT --to-ports 4143")

    def down(self):
        for namespace in (self.client, self.server):
            sh(f"ip netns del {namespace}", check=False)

    def start_server(self, cpu):
        """nginx on 8080 and a TCP source, sink and echo on 8082; both a thousand ports higher too,
        where nothing is redirected."""
        www = os.path.join(self.directory, "www")
        os.makedirs(www, exist_ok=True)
        with open(f"{www}/1m", "wb") as file:
            file.write(os.urandom(1 << 20))
        d = self.directory
        conf = f"""
daemon off; master_process off; worker_processes 1; pid {d}/nginx.pid; error_log {d}/nginx.err;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; sendfile on;
 open_file_cache max=10; client_body_temp_path {d}/t1; proxy_temp_path {d}/t2;
 fastcgi_temp_path {d}/t3; uwsgi_temp_path {d}/t4; scgi_temp_path {d}/t5;
 server {{ listen 0.0.0.0:{HTTP} backlog=4096; listen 0.0.0.0:{HTTP + 1000} backlog=4096;
  location = / {{ default_type text/plain;
    return 200 "hello from the benchmark server, a small body.................\\n"; }}
  location / {{ root {www}; default_type application/octet-stream; }} }} }}
"""
        with open(f"{d}/nginx.conf", "w") as file:
            file.write(conf)
        nginx = ["nginx", "-c", f"{d}/nginx.conf", "-e", f"{d}/nginx.err"]
        self.app = spawn(nginx, self.server, cpu=cpu)
        for port in (TCP, TCP + 1000):
            spawn([LOADGEN, "tcpsrv", f"0.0.0.0:{port}"], self.server, cpu=cpu)

    def wait_ready(self, namespace):
        curl = ["ip", "netns", "exec", namespace, "curl", "-s", "-m1", "-o", "/dev/null", "-w",
                "%{http_code}", "http://127.0.0.1:4191/ready"]
        for _ in range(200):
            if subprocess.run(curl, capture_output=True, text=True).stdout == "200":
                return
            time.sleep(0.05)
        raise RuntimeError(f"{namespace}: the proxy is not ready; see {self.directory}")


def cpu_seconds(pid):
    nanoseconds = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        try:
            nanoseconds += int(open(path).read().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return nanoseconds / 1e9


def switches(pid):
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        try:
            total += sum(int(line.split()[1]) for line in open(path) if "ctxt_switches" in line)
        except OSError:
            pass
    return total


def memory_kb(pid):
    found = {}
    for line in open(f"/proc/{pid}/status"):
        key, _, value = line.partition(":")
        if key in ("VmRSS", "RssAnon", "RssFile", "VmHWM"):
            found[key] = int(value.split()[0])
    return found


def measure(topology, pids, command, cpu):
    """Runs a load generator; CPU of `pids` from its WARM line to its end, their largest RSS."""
    load = spawn_load(topology, command, cpu)
    if load.stdout.readline().strip() != "WARM":
        raise RuntimeError("loadgen: " + load.stderr.read())
    before = {role: (cpu_seconds(pid), switches(pid)) for role, pid in pids.items()}
    began, peak = time.monotonic(), dict.fromkeys(pids, 0)
    while load.poll() is None:
        time.sleep(0.2)
        for role, pid in pids.items():
            peak[role] = max(peak[role], memory_kb(pid)["VmRSS"])
    wall = time.monotonic() - began
    after = {role: (cpu_seconds(pid), switches(pid)) for role, pid in pids.items()}
    out, err = load.communicate()
    STARTED.remove(load)
    try:
        result = json.loads(out)
    except ValueError:
        raise RuntimeError(f"loadgen: {out} {err}")
    done = max(1, result["done"])
    return dict(
        load=result, wall=wall, peak_kb=peak,
        cpu_us={role: (after[role][0] - before[role][0]) / done * 1e6 for role in pids},
        core={role: 100 * (after[role][0] - before[role][0]) / wall for role in pids},
        switches={role: (after[role][1] - before[role][1]) / done for role in pids})


def spawn_load(topology, command, cpu):
    load = subprocess.Popen(["ip", "netns", "exec", topology.client, "taskset", "-c", str(cpu), LOADGEN] + command,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    STARTED.append(load)
    return load

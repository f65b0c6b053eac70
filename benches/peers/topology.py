"""Two namespaces for each proxy, the programs in them, and what those cost.

    client (load) --REDIRECT--> :4140 outbound proxy ==mTLS==> :4143 inbound proxy --> server :8080, :8081, :8082
      namespace NAME-c, 10.99.0.1                          namespace NAME-s, 10.99.0.2

Nothing leaves loopback and the namespaces made here. Every process started here is ended by its id.
"""
import ctypes, glob, json, os, signal, subprocess, time

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.path.abspath(os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "..", "..", "target")))
LOADGEN = os.environ.get("LOADGEN", os.path.join(TARGET, "peers", "release", "loadgen"))
FLOOR = os.environ.get("FLOOR", os.path.join(TARGET, "peers", "release", "floor"))
CLIENT_IP, SERVER_IP, SERVICE_IP = "10.99.0.1", "10.99.0.2", "10.99.1.1"
HTTP, GRPC, TCP = 8080, 8081, 8082
# Ports of the same servers that nothing redirects.
DIRECT = 1000
PROXY_UID = 2102  # Its own connections are not redirected.
CLONE_NEWNET = 0x40000000

STARTED = []
libc = ctypes.CDLL(None, use_errno=True)


def sh(command, check=True):
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{command}: {done.stderr.strip()}")
    return done


def spawn(command, namespace, uid=None, env=None, log=None, cpu=None, pipes=False):
    """Starts a program in a namespace, on a CPU, without any other program in between: its process id
    and the time it takes to start are its own."""
    inside = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)

    def enter():
        if libc.setns(inside, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
        if uid:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)

    out = open(log, "ab") if log else subprocess.DEVNULL
    if pipes:
        streams = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    else:
        streams = dict(stdout=out, stderr=out)
    try:
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, preexec_fn=enter, **streams)
    finally:
        os.close(inside)
        if log:
            out.close()
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
        if process in STARTED:
            STARTED.remove(process)


class Topology:
    """A client's namespace and a server's, joined, with rules that redirect to the proxies."""

    def __init__(self, name, directory, redirected=True):
        self.client, self.server = f"{name}-c", f"{name}-s"
        self.name, self.directory, self.redirected = name, os.path.join(directory, name), redirected
        os.makedirs(self.directory, exist_ok=True)
        os.chmod(self.directory, 0o755)

    def address(self, port):
        """Where a client reaches the server: through the proxies, where there are any."""
        return f"{SERVICE_IP}:{port}" if self.redirected else f"{SERVER_IP}:{port + DIRECT}"

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
        if self.redirected:
            self.rule(self.client, f"-A OUTPUT -m owner --uid-owner {PROXY_UID} -j RETURN")
            self.rule(self.client, "-A OUTPUT -p tcp -d 10.99.1.0/24 -j REDIRECT --to-ports 4140")
            self.rule(self.server, f"-A PREROUTING -p tcp -m multiport --dports {HTTP},{GRPC},{TCP} "
                                   "-j REDIRECT --to-ports 4143")

    def rule(self, namespace, rule):
        sh(f"ip netns exec {namespace} iptables -w -t nat {rule}")

    def down(self):
        for namespace in (self.client, self.server):
            sh(f"ip netns del {namespace}", check=False)

    def start_server(self, cpu):
        """nginx on 8080, a unary gRPC method on 8081, a source, sink and echo of bytes on 8082; all a
        thousand ports higher too, where nothing is redirected."""
        d = self.directory
        www = os.path.join(d, "www")
        os.makedirs(www, exist_ok=True)
        with open(f"{www}/1m", "wb") as file:
            file.write(os.urandom(1 << 20))
        conf = f"""
daemon off; master_process off; worker_processes 1; pid {d}/nginx.pid; error_log {d}/nginx.err;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; sendfile on;
 open_file_cache max=10; client_body_temp_path {d}/t1; proxy_temp_path {d}/t2;
 fastcgi_temp_path {d}/t3; uwsgi_temp_path {d}/t4; scgi_temp_path {d}/t5;
 server {{ listen 0.0.0.0:{HTTP} backlog=4096; listen 0.0.0.0:{HTTP + DIRECT} backlog=4096;
  location = / {{ default_type text/plain;
    return 200 "hello from the benchmark server, a small body.................\\n"; }}
  location / {{ root {www}; default_type application/octet-stream; }} }} }}
"""
        with open(f"{d}/nginx.conf", "w") as file:
            file.write(conf)
        nginx = ["nginx", "-c", f"{d}/nginx.conf", "-e", f"{d}/nginx.err"]
        spawn(nginx, self.server, cpu=cpu)
        for above in (0, DIRECT):
            spawn([FLOOR, "grpc", f"0.0.0.0:{GRPC + above}"], self.server, cpu=cpu)
            spawn([LOADGEN, "tcpsrv", f"0.0.0.0:{TCP + above}"], self.server, cpu=cpu)

    def wait_ready(self, namespace):
        """The moment at which the proxy's admin server says that it is ready, as time.monotonic()."""
        ready = spawn([LOADGEN, "ready", "127.0.0.1:4191"], namespace, pipes=True)
        out, err = ready.communicate(timeout=30)
        STARTED.remove(ready)
        if ready.returncode:
            raise RuntimeError(f"{namespace}: the proxy is not ready ({err.strip()}); see {self.directory}")
        return int(out) / 1e9


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


def measure(topology, pids, command, cpu, warm=None, secs=0):
    """Runs a load generator; CPU and context switches of `pids` over its counted part, their largest RSS.
    The counted part begins when it prints WARM, or `warm` seconds after its start."""
    load = spawn(command, topology.client, cpu=cpu, pipes=True)
    if warm is not None:
        time.sleep(warm)
    elif load.stdout.readline().strip() != "WARM":
        raise RuntimeError(f"{command[0]}: {load.communicate()[1]}")
    before = {role: (cpu_seconds(pid), switches(pid)) for role, pid in pids.items()}
    began, peak = time.monotonic(), dict.fromkeys(pids, 0)
    while load.poll() is None:
        time.sleep(0.1)
        for role, pid in pids.items():
            peak[role] = max(peak[role], memory_kb(pid)["VmRSS"])
        if time.monotonic() - began > secs + 30:
            load.kill()
    wall = time.monotonic() - began
    after = {role: (cpu_seconds(pid), switches(pid)) for role, pid in pids.items()}
    out, err = load.communicate()
    STARTED.remove(load)
    if load.returncode:
        raise RuntimeError(f"{command[0]} ended with {load.returncode}: {(out + err)[-300:]}")
    return dict(
        out=out, wall=wall, peak_kb=peak,
        cpu_s={role: after[role][0] - before[role][0] for role in pids},
        switches={role: after[role][1] - before[role][1] for role in pids})

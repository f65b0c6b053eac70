"""Meshes to be looked at: the demo, and a controller of 1,000 workloads whose proxies are one program."""

import contextlib
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

START_SECONDS = 60
WORKLOADS = 1000
PER_NAMESPACE = 100


@contextlib.contextmanager
def started(command, told, directory):
    """A program, and what it tells where its console is."""
    log = directory / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(told, log.read_text(errors="replace"))):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield found[1]
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(holds, seconds=START_SECONDS):
    """Waits until something holds, and says what it last was."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise RuntimeError("it does not come to hold")
        time.sleep(0.1)
    return found


def text_of(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()


@contextlib.contextmanager
def demo(programs):
    """The demo, once its figures are there."""
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        command = [programs / "weft", "demo", "--for", "10m", "--directory", directory / "demo"]
        with started(command, r"the console is at (\S+)", directory) as url:
            until(lambda: 'id="worst-table"' in text_of(url))
            yield url


def manifests():
    """1,000 workloads in ten namespaces, each on a loopback address of its own."""
    documents = []
    for index in range(WORKLOADS):
        namespace, name = place(index)
        if index % PER_NAMESPACE == 0:
            documents.append(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}")
        documents.append(
            "apiVersion: workload.weft.sh/v1alpha1\nkind: Workload\n"
            f"metadata: {{name: {name}-1, namespace: {namespace}}}\n"
            f"spec:\n  addresses: [{address(index)}]\n  service: {name}\n  serviceAccount: {name}\n"
            "  ports: [{name: http, port: 8080}]\n"
            f"  proxy: {{adminPort: {Proxies.port}}}"
        )
        documents.append(
            f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
            "spec: {ports: [{name: http, port: 8080}]}"
        )
    return "\n---\n".join(documents)


def place(index):
    return f"team-{index // PER_NAMESPACE}", f"service-{index % PER_NAMESPACE:02}"


def address(index):
    return f"127.99.{index // 250}.{index % 250 + 1}"


class Proxies:
    """Answers /metrics for every workload, by the address that it is asked at."""

    port = 4191

    def __init__(self):
        self.socket = socket.create_server(("0.0.0.0", 0), backlog=512)
        Proxies.port = self.socket.getsockname()[1]
        self.began = time.monotonic() - 600
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), connection:
                connection.settimeout(2)
                connection.recv(4096)
                third, fourth = map(int, connection.getsockname()[0].split(".")[2:])
                body = self.metrics(third * 250 + fourth - 1).encode()
                head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
                connection.sendall(head.encode() + body)

    def metrics(self, index):
        """What a proxy would say: the further down, the less traffic; every 37th fails at times."""
        seconds = time.monotonic() - self.began
        rate = 200 / (1 + index % PER_NAMESPACE)
        failures = 0.07 if index % 37 == 5 else 0.0
        requests = seconds * rate
        good, bad = int(requests * (1 - failures)), int(requests * failures)
        namespace, _ = place(index)
        to_namespace, to = place((index * 7 + 3) % WORKLOADS)
        own = 'direction="inbound",tls="true",client_id="a.b.serviceaccount.identity.linkerd.cluster.local"'
        their = (
            f'direction="outbound",tls="true",server_id="{to}.{to_namespace}.serviceaccount.identity.'
            f'linkerd.cluster.local",dst_namespace="{to_namespace}",dst_deployment="{to}"'
        )
        lines = []
        for labels in (own, their):
            for kind, count in (("success", good), ("failure", bad)):
                if count or kind == "success":
                    lines.append(f'response_total{{{labels},status_code="200",classification="{kind}"}} {count}')
            total = good + bad
            shares = [(1, 0.2), (5, 0.6), (20, 0.9), (100, 0.99), (1000, 1.0)]
            for le, share in shares:
                lines.append(f'response_latency_ms_bucket{{{labels},le="{le}"}} {int(total * share)}')
            lines.append(f'response_latency_ms_bucket{{{labels},le="+Inf"}} {total}')
        for labels, peer in ((own, "src"), (their, "dst")):
            lines.append(f'tcp_open_connections{{{labels},peer="{peer}"}} 3')
            lines.append(f'tcp_open_total{{{labels},peer="{peer}"}} 30')
            lines.append(f'tcp_read_bytes_total{{{labels},peer="{peer}"}} {int(requests * 900)}')
            lines.append(f'tcp_write_bytes_total{{{labels},peer="{peer}"}} {int(requests * 2100)}')
        ends = int(time.time()) + 40_000
        lines.append(f"control_identity_cert_expiration_timestamp_seconds {ends}")
        return "\n".join(lines) + "\n"


@contextlib.contextmanager
def thousand(programs):
    """A controller of 1,000 workloads, once it has scraped them."""
    proxies = Proxies()
    with tempfile.TemporaryDirectory() as directory, contextlib.closing(proxies.socket):
        directory = pathlib.Path(directory)
        (directory / "manifests").mkdir()
        (directory / "manifests" / "all.yaml").write_text(manifests())
        command = [programs / "weft", "controller", "--manifests", directory / "manifests"]
        command += ["--state-dir", directory / "state", "--listen", "127.99.99.1"]
        command += ["--viz-listen", "127.99.99.1:8084"]
        with started(command, r"console at (http\S+)", directory) as url:
            until(lambda: 'id="worst-table"' in text_of(url))
            yield url

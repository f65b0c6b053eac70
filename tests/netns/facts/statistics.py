"""The controller's own statistics against those out of a real Prometheus, on live traffic: both scrape the
same proxies, each at moments of its own. When they must agree, and how closely: tests/agreement.py."""

import json
import os
import sys
import time

from agreement import agreed, difference, pause
from mesh import COUNTED, DATA, GRPC, HTTP, MAIL, NAMESPACE, WEB, WEB_PORTS, allow, server, service, workload
from processes import eventually, expect, needs, run, takes
from prometheus import EMBEDDED, PROMETHEUS, URL, Prometheus

# Of the windows that are asked about.
SAMPLES = 3

# How often each is asked in one round: so seldom that one more or less is more than may be.
GOOD, MISSING, BROKEN, DENIED, CALLS, CALLS_FAILED, MAILS = 40, 12, 10, 6, 24, 8, 3
ONE = GOOD + BROKEN + CALLS + CALLS_FAILED
TWO = GOOD + MISSING
FAILED_OF_ONE = BROKEN + CALLS_FAILED

# Each replica has a service of its own here: a balancer's choices are not the same in each round.
OTHER, OTHER_ADDRESS = "web-other", "10.96.0.60"

QUESTIONS = {
    "deployments": ["stat", "deploy"],
    "pods": ["stat", "po"],
    "namespaces": ["stat", "ns"],
    "services": ["stat", "svc"],
    "servers": ["stat", "server"],
    "authorities": ["stat", "authority"],
    "what the client sends": ["stat", "deploy/client", "--to", "svc/web"],
    "what the client's sends are": ["stat", "deploy", "--from", "deploy/client"],
    "inbound": ["stat-inbound", "deploy"],
    "outbound": ["stat-outbound", "deploy"],
    "routes of a service": ["routes", "svc/web"],
    "routes to a service": ["routes", "deploy/client", "--to", "svc/web"],
    "routes of a workload": ["routes", "deploy/web"],
    "edges": ["edges", "deploy"],
    "edges of pods": ["edges", "po"],
    "authorizations": ["viz", "authz", "deploy"],
}
# These ask a Prometheus by themselves as well.
ASK_THEMSELVES = ("stat-inbound", "stat-outbound")


@takes(seconds_max=120)
@needs("prometheus", "grpc")
def both_sources_of_statistics_say_the_same_of_live_traffic(mesh):
    pods = mesh.pods
    of = lambda name: {"deployment": name}
    scraped = [(pods["client"], of("client")), (pods["data"], {}),
               (pods["web-1"], of("web")), (pods["web-2"], of("web"))]
    prometheus = Prometheus(mesh, scraped)
    held = None
    try:
        _part(mesh)
        prometheus.start()
        # By one whose connections nothing else is counted with.
        eventually("the Server is followed", lambda: _status(pods["outsider"]) == "403", within=5)
        eventually("the other service is", lambda: "web-2" in _get(pods["client"]), within=5)
        _traffic(mesh, rounds=10)
        warmed = time.monotonic()
        time.sleep(pause(SAMPLES))
        prometheus.wait()
        before, began = _answered(mesh), time.monotonic()
        _traffic(mesh, rounds=1)
        held = _hold(mesh)
        times = warmed, began, time.monotonic()
        answered = {name: count - before[name] for name, count in _answered(mesh).items()}
        expect(answered == {"web-1": ONE, "web-2": TWO}, f"{answered}, of {ONE} and {TWO}")
        said, sampled = agreed(SAMPLES, *times, QUESTIONS, lambda question, window: _answers(mesh, question, window))
        _agree_with_the_truth(said, sampled)
    finally:
        prometheus.end()
        if held is not None:
            held.kill()
        _join(mesh)


def _part(mesh):
    """Gives each replica its service, and the first one a Server."""
    for name, service_name in (("web-1", "web"), ("web-2", OTHER)):
        one = workload(mesh.pods[name], service_name, WEB_PORTS)
        one["spec"]["labels"] = {"deployment": "web"}
        mesh.write(name, one)
    policy = server("counted", "web", COUNTED, protocol="HTTP/1"), *allow("counted", "client")
    mesh.write("statistics", service(OTHER, OTHER_ADDRESS, {"http": HTTP}), *policy)


def _join(mesh):
    mesh.remove("statistics")
    for name in ("web-1", "web-2"):
        mesh.write(name, workload(mesh.pods[name], "web", WEB_PORTS))
    both = lambda: {_get(mesh.pods["client"], WEB) for _ in range(20)}
    eventually("both replicas answer again", lambda: len(both()) == 2, within=10)


def _traffic(mesh, rounds):
    """So many rounds: always the same."""
    client, data = mesh.pods["client"], mesh.pods["data"]
    get = lambda pod, path, count: pod.run(
        "curl", "-s", "-m", "10", "-o", "/dev/null", f"http://{path}?[1-{count * rounds}]")
    get(client, f"{WEB}:{HTTP}/", GOOD)
    get(client, f"{OTHER_ADDRESS}:{HTTP}/", GOOD)
    get(client, f"{OTHER_ADDRESS}:{HTTP}/missing", MISSING)
    get(client, f"{WEB}:{COUNTED}/fail", BROKEN)
    get(data, f"{WEB}:{COUNTED}/denied", DENIED)
    said = client.client("calls", f"{WEB}:{GRPC}", CALLS * rounds, CALLS_FAILED * rounds)
    expect(said == {"OK": CALLS * rounds, "UNAVAILABLE": CALLS_FAILED * rounds}, said)
    client.client("mails", DATA, MAIL, MAILS * rounds)


def _get(pod, address=OTHER_ADDRESS):
    return pod.run("curl", "-s", "-m", "3", f"http://{address}:{HTTP}/", check=False).stdout


def _status(pod):
    write = ["-o", "/dev/null", "-w", "%{http_code}"]
    return pod.run("curl", "-s", "-m", "5", *write, f"http://10.88.0.11:{COUNTED}/", check=False).stdout


def _hold(mesh):
    """A connection that stays open while questions are asked."""
    clients = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "clients.py")
    held = mesh.pods["client"].start("held", sys.executable, clients, "hold", DATA, str(MAIL))
    log = mesh.processes.log("client-held")
    eventually("the connection is open", lambda: "220 mail ready" in open(log).read(), within=5)
    return held


def _answered(mesh):
    """How many responses each proxy says that it gave."""
    count = lambda pod: pod.metrics().sum("response_total", direction="inbound")
    return {name: count(mesh.pods[name]) for name in ("web-1", "web-2")}


def _answers(mesh, question, window):
    """Of the controller that scrapes for itself, and of those that ask the Prometheus."""
    sources = [["--api-addr", EMBEDDED], ["--api-addr", PROMETHEUS]]
    if question[0] in ASK_THEMSELVES:
        sources.append(["--prometheusURL", URL])
    return [_ask(mesh, [*question, "-t", window], *source) for source in sources]


def _ask(mesh, question, *source):
    command = [mesh.program("weft"), *question, "-n", NAMESPACE, "-o", "json", *source]
    asked = run(command, namespace=mesh.host, check=False)
    said = f"{' '.join(command)}: exit {asked.returncode}: {asked.stdout[-500:]}{asked.stderr[-500:]}"
    expect(asked.returncode == 0, said)
    return json.loads(asked.stdout)


def _agree_with_the_truth(said, sampled):
    """What both say is what was asked: the growth, over the time between the outer samples."""
    rows = {(what, row["name"]): row for what in ("deployments", "pods", "services") for row in said[what]}
    of = lambda count, failed: {"rps": count / sampled, "success": 1 - failed / count, "secured": 1.0}
    wanted = {
        ("deployments", "web"): {
            "meshed": "2/2", "unauthorized_rps": DENIED / sampled, **of(ONE + TWO, FAILED_OF_ONE)},
        ("pods", "web-1"): of(ONE, FAILED_OF_ONE),
        ("pods", "web-2"): of(TWO, 0),
        # Clients are answered denials too.
        ("services", "web"): of(ONE + DENIED, FAILED_OF_ONE),
        ("pods", "data"): {"rps": None, "tcp_open_connections": 1.0},
    }
    for key, figures in wanted.items():
        found = {name: rows[key][name] for name in figures}
        expect(not difference(found, figures), f"{key}: {found}, of {figures}")
    edges = {(row["src"]["name"], row["dst"]["name"]) for row in said["edges of pods"] if row["secured"]}
    web = {("client", "web-1"), ("client", "web-2"), ("data", "web-1")}
    expect(edges == {*web, ("client", "data")}, edges)

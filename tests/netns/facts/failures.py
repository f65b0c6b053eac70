"""What happens when parts end or die under load. docs/failures.md states the same in words."""

import signal
import time

from applications import start_nginx
from load import CONNECTIONS, Load
from mesh import HTTP, WEB, WEB_PORTS, workload
from processes import end, eventually, expect, needs

URL = f"http://{WEB}:{HTTP}/"


def _answering(mesh):
    client = mesh.pods["client"]
    said = (client.run("curl", "-s", "-m", "3", URL, check=False).stdout for _ in range(12))
    return set(said)


def _both_answer(mesh):
    return _answering(mesh) >= {"hello from web-1\n", "hello from web-2\n"}


@needs("h2load")
def no_request_fails_when_an_endpoint_is_drained(mesh):
    pod = mesh.pods["web-2"]
    load = Load(mesh.pods["client"], URL, seconds=6)
    time.sleep(1.5)
    mesh.remove("web-2")
    time.sleep(1.5)
    code = end(pod.proxy, signal.SIGTERM, within=12)
    expect(code == 0, f"the drained proxy ended with {code}")
    good, bad, said = load.finish()
    expect(bad == 0, f"{bad} of {good + bad} failed: {said}")
    pod.start_proxy()
    mesh.write("web-2", workload(pod, "web", WEB_PORTS))
    eventually("the endpoint is back", lambda: _both_answer(mesh), within=10)


@needs("h2load")
def a_killed_endpoint_costs_at_most_what_was_in_flight(mesh):
    pod = mesh.pods["web-2"]
    nginx = pod.applications[0]
    load = Load(mesh.pods["client"], URL, seconds=6)
    time.sleep(2)
    # Proxy and application die; discovery goes on to name the endpoint.
    pod.proxy.kill()
    nginx.kill()
    good, bad, said = load.finish()
    expect(bad <= CONNECTIONS, f"{bad} of {good + bad} failed: {said}")
    pod.applications[0] = start_nginx(mesh, pod)
    pod.start_proxy()
    eventually("the endpoint is back", lambda: _both_answer(mesh), within=15)


@needs("h2load")
def a_dead_controller_and_its_restart_cost_nothing(mesh):
    client = mesh.pods["client"]
    load = Load(mesh.pods["client"], URL, seconds=8)
    time.sleep(1)
    mesh.kill_controller()
    fresh = client.run("curl", "-sS", "-m", "5", URL).stdout
    expect(fresh.startswith("hello"), "a new connection, with no controller")
    time.sleep(2)
    mesh.start_controller()
    time.sleep(1)
    # What changes after the restart is heard.
    mesh.remove("web-2")
    try:
        heard = lambda: _answering(mesh) == {"hello from web-1\n"}
        eventually("the endpoint that went is used no more", heard, within=15)
    finally:
        mesh.write("web-2", workload(mesh.pods["web-2"], "web", WEB_PORTS))
    good, bad, said = load.finish()
    expect(bad == 0, f"{bad} of {good + bad} failed: {said}")
    eventually("the endpoint is back", lambda: _both_answer(mesh), within=10)


def what_was_known_is_kept_while_the_controller_is_dead(mesh):
    client = mesh.pods["client"]
    expect(client.run("curl", "-sS", "-m", "5", URL).stdout.startswith("hello"), "before")
    mesh.kill_controller()
    # No connection is open meanwhile, and the outage is longer than idle discovery is kept.
    for pause in (0, 1, 7):
        time.sleep(pause)
        said = client.run("curl", "-sS", "-m", "5", URL).stdout
        expect(said.startswith("hello"), f"{pause} s without a connection: {said}")
    mesh.start_controller()
    eventually("both endpoints are used", lambda: _both_answer(mesh), within=15)


def a_proxy_that_is_killed_and_started_again_serves_again(mesh):
    client = mesh.pods["client"]
    client.proxy.kill()
    client.proxy.wait()
    refused = client.run("curl", "-s", "-m", "5", URL, check=False)
    expect(refused.returncode != 0, "redirected traffic went around the proxy")
    client.start_proxy()
    eventually("requests are answered", lambda: "hello from web-1\n" in _answering(mesh), within=10)

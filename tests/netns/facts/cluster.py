"""A mesh that follows a Kubernetes API server: discovery, identity, policy, and outages of the server."""

import os
import signal
import time

from cluster import WEB_ADDRESS, Cluster
from load import Load
from mesh import HTTP, Pod, allow, identity, server
from processes import end, eventually, expect, needs

URL = f"http://{WEB_ADDRESS}:{HTTP}/"
ONE, TWO = "hello from cluster-web-1\n", "hello from cluster-web-2\n"
# The server's outage is noticed, and it is asked again after at most a few seconds.
PATIENCE = 15


def _cluster(mesh):
    """The cluster, opened by the first who needs it."""
    if mesh.cluster is None:
        cluster = Cluster(mesh)
        cluster.open()
        mesh.cluster = cluster
        eventually("both replicas answer", lambda: _answers(cluster) == {ONE, TWO}, PATIENCE)
    return mesh.cluster


def _answers(cluster):
    client = cluster.pods["client"]
    return {client.run("curl", "-sS", "-m", "3", URL, check=False).stdout for _ in range(12)}


def _status(cluster):
    client = cluster.pods["client"]
    write = ["-o", "/dev/null", "-w", "%{http_code}"]
    return client.run("curl", "-s", "-m", "5", *write, URL, check=False).stdout


def _lead_to(cluster, *names):
    cluster.api_server.apply(cluster.slice(*(cluster.pods[name] for name in names)))


@needs("api_server")
def pods_of_an_api_server_speak_mutual_tls_by_its_token_reviews(mesh):
    cluster = _cluster(mesh)
    client, web = cluster.pods["client"], [cluster.pods["web-1"], cluster.pods["web-2"]]
    outbound = {"direction": "outbound", "tls": "true", "server_id": identity("web"),
                "dst_service": "web", "dst_namespace": "shop"}
    inbound = {"direction": "inbound", "tls": "true", "client_id": identity("client")}
    counts = lambda: (client.metrics().sum("request_total", **outbound),
                      sum(pod.metrics().sum("request_total", **inbound) for pod in web))
    before = counts()
    _answers(cluster)
    wanted = tuple(count + 12 for count in before)
    eventually("both sides count twelve more", lambda: counts() == wanted, within=3)
    issued = cluster.metrics().sum("weft_control_certificates_issued_total")
    expect(issued >= 3, f"{issued} certificates for three pods")


@needs("api_server")
def a_token_that_the_api_server_does_not_know_gives_no_identity(mesh):
    cluster = _cluster(mesh)
    pod = Pod(cluster, "cluster-stranger", 53, "web", redirect=False)
    forged = os.path.join(cluster.directory, "forged.token")
    pod.token_file = cluster.write_token(forged, "simulated-token/shop/web/1")
    refused = lambda: cluster.metrics().sum("weft_control_certificates_refused_total")
    before = refused()
    pod.start_proxy(wait=False)
    eventually("it is refused", lambda: refused() > before, within=10)
    expect(not pod.is_ready(), "it is ready without an identity")
    end(pod.proxy, signal.SIGKILL)


@needs("api_server")
def endpoints_follow_the_slice_of_an_api_server(mesh):
    cluster = _cluster(mesh)
    _lead_to(cluster, "web-1")
    try:
        eventually("one replica is left", lambda: _answers(cluster) == {ONE}, within=3)
    finally:
        _lead_to(cluster, "web-1", "web-2")
    eventually("both answer again", lambda: _answers(cluster) == {ONE, TWO}, within=3)


@needs("api_server")
def an_authorization_policy_of_an_api_server_denies(mesh):
    cluster = _cluster(mesh)
    policy = [server("web", "web", HTTP), *allow("web", "data")]
    cluster.api_server.apply(*policy)
    try:
        eventually("the client is denied", lambda: _status(cluster) == "403", within=5)
        cluster.api_server.apply(*allow("web", "client"))
        eventually("the client is allowed", lambda: _status(cluster) == "200", within=5)
    finally:
        cluster.api_server.delete(*policy)
    eventually("everybody is allowed", lambda: _status(cluster) == "200", within=5)


@needs("api_server", "h2load")
def an_api_server_that_is_killed_and_started_again_costs_no_request(mesh):
    cluster = _cluster(mesh)
    load = Load(cluster.pods["client"], URL, seconds=8)
    time.sleep(1)
    cluster.api_server.kill()
    time.sleep(1.5)
    expect(_answers(cluster) <= {ONE, TWO}, "new connections, with no API server")
    cluster.api_server.start()
    _lead_to(cluster, "web-1")
    try:
        eventually("the change is heard", lambda: _answers(cluster) == {ONE}, PATIENCE)
    finally:
        _lead_to(cluster, "web-1", "web-2")
    good, bad, said = load.finish()
    expect(bad == 0, f"{bad} of {good + bad} failed: {said}")
    eventually("both answer again", lambda: _answers(cluster) == {ONE, TWO}, PATIENCE)


@needs("api_server", "h2load")
def an_api_server_that_is_cut_off_for_a_while_costs_no_request(mesh):
    cluster = _cluster(mesh)
    load = Load(cluster.pods["client"], URL, seconds=8)
    time.sleep(1)
    cluster.api_server.cut_off()
    try:
        # What changes meanwhile is heard of afterwards.
        _lead_to(cluster, "web-2")
        time.sleep(2)
        expect(not cluster.reaches_api_server(), "it is not cut off")
        expect(_answers(cluster) <= {ONE, TWO}, "what was known is kept")
    finally:
        cluster.api_server.mend()
    try:
        eventually("the change is heard", lambda: _answers(cluster) == {TWO}, PATIENCE)
    finally:
        _lead_to(cluster, "web-1", "web-2")
    good, bad, said = load.finish()
    expect(bad == 0, f"{bad} of {good + bad} failed: {said}")
    eventually("both answer again", lambda: _answers(cluster) == {ONE, TWO}, PATIENCE)

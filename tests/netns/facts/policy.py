"""Authorization: who may use a port, per request and per connection, and when that changes."""

import json
import os
import subprocess
import sys

from mesh import DATA, ECHO, GUARDED, MAIL, WEB, allow, server
from processes import eventually, expect

GUARDED_URL = f"http://{WEB}:{GUARDED}/"


def _status(pod, url):
    said = pod.run("curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", url, check=False)
    return said.stdout


def only_those_whom_policy_allows_get_an_answer(mesh):
    client, outsider = mesh.pods["client"], mesh.pods["outsider"]
    expect(_status(client, GUARDED_URL) == "200", "before there is a Server")
    try:
        mesh.write("policy", server("guarded", "web", GUARDED), *allow("guarded", "client"))
        direct = f"http://10.88.0.11:{GUARDED}/"
        eventually("what is not meshed is denied", lambda: _status(outsider, direct) == "403", 5)
        expect(_status(client, GUARDED_URL) == "200", "an allowed client is denied")
        denied = mesh.pods["web-1"].metrics().sum("inbound_http_authz_deny_total")
        expect(denied >= 1, "the denial is not counted")
        mesh.write("policy", server("guarded", "web", GUARDED), *allow("guarded", "data"))
        eventually("the client is denied", lambda: _status(client, GUARDED_URL) == "403", 5)
        expect(_status(client, f"http://{WEB}:{ECHO}/") == "200", "another port is denied")
    finally:
        mesh.remove("policy")
    eventually("all is allowed again", lambda: _status(client, GUARDED_URL) == "200", 5)


def a_live_connection_ends_when_policy_revokes_it(mesh):
    client = mesh.pods["client"]
    clients = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "clients.py")
    command = [sys.executable, clients, "hold", DATA, str(MAIL)]
    held = subprocess.Popen(
        ["ip", "netns", "exec", client.namespace, *command], stdout=subprocess.PIPE, text=True
    )
    mesh.processes.started.append(held)
    greetings = json.loads(held.stdout.readline())
    expect(greetings == ["220 mail ready", "250 NOOP"], greetings)
    try:
        mesh.write("policy", server("mail", "data", MAIL), *allow("mail", "web"))
        told = json.loads(held.stdout.readline())
        expect(told["ended"], told)
        data = mesh.pods["data"].metrics()
        expect(data.sum("inbound_tcp_authz_terminate_total") >= 1, "the end is not counted")
        # A new one is not let in either.
        found = client.client("raw", DATA, MAIL, "")
        expect(found == {"received": "", "ended": True}, found)
    finally:
        mesh.remove("policy")
        held.wait(10)
    said = lambda: "220" in client.client("raw", DATA, MAIL, r"QUIT\r\n")["received"]
    eventually("connections are let in again", said, within=5)

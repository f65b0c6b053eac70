"""Spans of requests, sent over mesh TLS to a collector that is not ours."""

import json
import os
import sys
import time

from mesh import COLLECTOR, ECHO, WEB, identity
from processes import eventually, expect, needs

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _collector(mesh):
    """The file that the collector in the pod `data` writes to; starts it where it does not run."""
    path = os.path.join(mesh.directory, "spans.jsonl")
    if not os.path.exists(path):
        open(path, "w").close()
        program = os.path.join(HERE, "collector.py")
        mesh.pods["data"].start("collector", sys.executable, program, str(COLLECTOR), path)
    return path


def _spans(path, trace):
    spans = [json.loads(line) for line in open(path, encoding="utf-8")]
    return {span["kind"]: span for span in spans if span["trace"] == trace}


def _traced(mesh, trace, *headers):
    """Sends a request of a trace; the headers that the application saw, and the spans of both sides."""
    path = _collector(mesh)
    arguments = [argument for header in headers for argument in ("-H", header)]
    url = f"http://{WEB}:{ECHO}/a?token=hidden&b=c"
    said = mesh.pods["client"].run("curl", "-sS", "-m", "15", *arguments, url).stdout
    both = lambda: len(_spans(path, trace)) == 2
    eventually("both proxies have told of the request", both, within=30)
    return json.loads(said)["headers"], _spans(path, trace)


@needs("grpc", "opentelemetry")
def spans_of_both_proxies_reach_a_collector_in_the_mesh(mesh):
    before = time.time_ns()
    w3c = f"traceparent: 00-{TRACE}-{CALLER}-01"
    seen, spans = _traced(mesh, TRACE, w3c, "tracestate: vendor=1", "user-agent: test")
    client, server = spans["SPAN_KIND_CLIENT"], spans["SPAN_KIND_SERVER"]
    expect(client["parent"] == CALLER and server["parent"] == client["span"], f"{client} {server}")
    expect(seen["traceparent"] == f"00-{TRACE}-{server['span']}-01", seen)
    expect(seen["tracestate"] == "vendor=1" == client["state"], client)
    wanted = {
        "http.request.method": "GET", "http.response.status_code": 200, "network.transport": "tcp",
        "url.full": f"http://{WEB}:{ECHO}/a?token=REDACTED&b=c", "user_agent.original": "test",
    }
    for span in (client, server):
        expect(wanted.items() <= span["attributes"].items(), span)
        expect(0 < span["took_ns"] < 10e9 and abs(span["began_ns"] - before) < 30e9, span)
        expect(span["resource"]["service.name"] == "linkerd-proxy" and span["status"] == 0, span)
    expect(client["resource"]["pod"] == "client", client)
    data = mesh.pods["data"].metrics()
    expect(data.sum("tcp_open_total", direction="inbound", client_id=identity("client")) > 0, "not over mesh TLS")


@needs("grpc", "opentelemetry")
def traces_of_b3_go_on_as_b3(mesh):
    trace = "1" * 32
    seen, spans = _traced(mesh, trace, f"b3: {trace}-{CALLER}-1")
    server = spans["SPAN_KIND_SERVER"]
    expect(seen["b3"] == f"{trace}-{server['span']}-1-{server['parent']}", seen)
    expect("traceparent" not in seen, seen)

"""HTTP/1, HTTP/2, gRPC and WebSocket through both proxies."""

import hashlib
import json
import os
import re
import time

from mesh import ECHO, GRPC, HTTP, HTTP2, SOCKETS, WEB, WEB6, WEB_NAME, identity
from processes import Failed, eventually, expect, needs

BODY = bytes(range(256)) * 4096  # 1 MiB
ECHO_URL = f"http://{WEB}:{ECHO}"


def _curl(mesh, *arguments, text=True):
    client = mesh.pods["client"]
    return client.run("curl", "-sS", "-m", "15", *arguments, text=text)


def _echoed(mesh, *arguments):
    return json.loads(_curl(mesh, *arguments).stdout)


def _file(mesh):
    path = os.path.join(mesh.directory, "upload")
    if not os.path.exists(path):
        with open(path, "wb") as file:
            file.write(BODY)
    return path


def a_request_of_http_1_1_is_answered_by_every_replica(mesh):
    # Of requests that follow one another the quicker replica gets nearly all: the other is tried again when
    # it has lain idle for a while.
    answers, end = set(), time.monotonic() + 20
    while len(answers) < 2 and time.monotonic() < end:
        answers.add(_curl(mesh, f"http://{WEB}:{HTTP}/").stdout)
    expect(answers == {"hello from web-1\n", "hello from web-2\n"}, f"answers: {answers}")


def a_request_of_http_1_0_is_answered(mesh):
    said = _curl(mesh, "-0", "-i", f"{ECHO_URL}/old").stdout
    expect(" 200 " in said and '"path": "/old"' in said, said)


def head_has_the_length_of_the_body_and_no_body(mesh):
    said = _curl(mesh, "-I", f"http://{WEB}:{HTTP}/1m").stdout
    expect(re.search(r"content-length: 1048576", said, re.I), said)


def an_upload_arrives_whole_with_its_length(mesh):
    said = _echoed(mesh, "--data-binary", f"@{_file(mesh)}", f"{ECHO_URL}/up")
    expect(said["sha256"] == hashlib.sha256(BODY).hexdigest(), said)
    expect(said["headers"]["content-length"] == str(len(BODY)), said)


def an_upload_in_chunks_arrives_whole(mesh):
    chunked = ["-H", "transfer-encoding: chunked", "-T", _file(mesh)]
    said = _echoed(mesh, *chunked, f"{ECHO_URL}/up")
    expect(said["sha256"] == hashlib.sha256(BODY).hexdigest(), said)
    expect("content-length" not in said["headers"], said)


def expect_100_continue_is_answered_before_the_body(mesh):
    arguments = ["-v", "-H", "expect: 100-continue", "--expect100-timeout", "10"]
    began = _curl(mesh, *arguments, "-T", _file(mesh), f"{ECHO_URL}/up")
    expect("100 Continue" in began.stderr, began.stderr)
    said = json.loads(began.stdout)
    expect(said["sha256"] == hashlib.sha256(BODY).hexdigest(), said)


def a_response_in_chunks_arrives_whole(mesh):
    said = _curl(mesh, f"{ECHO_URL}/chunked").stdout
    expect(said == "".join(f"chunk-{n:02}" for n in range(10)), said)


def a_download_arrives_whole(mesh):
    for port, version in ((HTTP, "--http1.1"), (HTTP2, "--http2-prior-knowledge")):
        said = _curl(mesh, version, f"http://{WEB}:{port}/1m", text=False).stdout
        expect(said == BODY, f"{version}: {len(said)} bytes")


def http_2_with_prior_knowledge_is_answered(mesh):
    write = ["-o", "/dev/null", "-w", "%{http_version} %{http_code}"]
    said = _curl(mesh, "--http2-prior-knowledge", *write, f"http://{WEB}:{HTTP2}/").stdout
    expect(said == "2 200", said)


def an_ipv6_service_is_reached(mesh):
    before = mesh.pods["client"].metrics().sum("request_total", tls="true")
    said = _curl(mesh, "-g", f"http://[{WEB6}]:{HTTP}/").stdout
    expect(said.startswith("hello from web-"), said)
    after = mesh.pods["client"].metrics().sum("request_total", tls="true")
    expect(after == before + 1, f"meshed requests: {before}, then {after}")


def headers_arrive_as_they_were_sent(mesh):
    sent = {"x-one": "1", "accept": "text/plain, */*;q=0.1", "cookie": "a=b; c=d",
            "host": "other.example", "x-empty": ""}
    flags = [flag for name, value in sent.items()
             for flag in ("-H", f"{name}: {value}" if value else f"{name};")]
    said = _echoed(mesh, *flags, "-A", "agent", f"{ECHO_URL}/headers?q=%20")
    expect(said["path"] == "/headers?q=%20", said)
    told = {name: value for name, value in said["headers"].items() if name != "user-agent"}
    expect(told.pop("l5d-client-id", None) == identity("client"), said)
    expect(told == sent, said)


def headers_of_32_kib_are_passed_on(mesh):
    said = _echoed(mesh, "-H", f"x-large: {'x' * 32000}", f"{ECHO_URL}/large")
    expect(len(said["headers"]["x-large"]) == 32000, "cut off")


def headers_beyond_the_bound_are_refused(mesh):
    large = [flag for n in range(12) for flag in ("-H", f"x-large-{n}: {'x' * 8000}")]
    said = _curl(mesh, *large, "-o", "/dev/null", "-w", "%{http_code}", f"{ECHO_URL}/").stdout
    expect(said == "431", said)


def pipelined_requests_are_answered_in_order(mesh):
    request = r"GET /{} HTTP/1.1\r\nhost: web\r\n{}\r\n"
    last = r"connection: close\r\n"
    sent = request.format(1, "") + request.format(2, "") + request.format(3, last)
    said = mesh.pods["client"].client("raw", WEB, ECHO, sent)
    paths = re.findall(r'"path": "/(\d)"', said["received"])
    expect(paths == ["1", "2", "3"] and said["ended"], said)


def a_client_that_ended_its_side_is_answered(mesh):
    request = r"GET /half HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n"
    said = mesh.pods["client"].client("half-close", WEB, ECHO, request)
    expect('"path": "/half"' in said["received"], said)


def smuggled_requests_are_refused(mesh):
    head = r"POST / HTTP/1.1\r\nhost: web\r\n"
    smuggled = {
        "both lengths": head + r"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "two lengths": head + r"content-length: 4\r\ncontent-length: 5\r\n\r\nabcde",
        "folded field": head + r"x-a: b\r\n c: d\r\ncontent-length: 0\r\n\r\n",
        "bare line feed": r"GET / HTTP/1.1\r\nhost: web\nx-a: b\r\n\r\n",
        "space before colon": head + r"content-length : 4\r\n\r\nabcd",
        "chunked is not last": head + r"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    }
    for name, text in smuggled.items():
        said = mesh.pods["client"].client("raw", WEB, ECHO, text)
        status = said["received"].split("\r\n")[0]
        refused = status.startswith(("HTTP/1.1 400", "HTTP/1.1 501"))
        expect(refused and said["ended"], f"{name}: {said}")


@needs("h2load")
def many_requests_over_many_connections_are_all_answered(mesh):
    for port, flags in ((HTTP, ["--h1", "-m", "1"]), (HTTP2, ["-m", "10"])):
        load = ["-n", "3000", "-c", "20", *flags, f"http://{WEB}:{port}/"]
        said = mesh.pods["client"].run("h2load", *load, timeout=50).stdout
        expect("3000 succeeded, 0 failed, 0 errored, 0 timeout" in said, said)
        expect("status codes: 3000 2xx" in said, said)


@needs("grpc")
def grpc_calls_of_every_kind_work(mesh):
    found = mesh.pods["client"].client("grpc", f"{WEB}:{GRPC}", timeout=50)
    wanted = {
        "unary": "echo:a", "head": "1", "trail": "2",
        "failure": ["FAILED_PRECONDITION", "not like this"],
        "server_stream": True, "client_stream": 4950, "bidi": True,
        "deadline": "DEADLINE_EXCEEDED", "cancelled": True, "servers_told": True,
    }
    expect(0.4 < found.pop("deadline_after") < 2, "the deadline is kept")
    expect(found == wanted, found)


@needs("websockets")
def a_websocket_works(mesh):
    found = mesh.pods["client"].client("sockets", f"ws://{WEB}:{SOCKETS}/")
    expect(found["echoed"] == [True, True, True], found)
    expect(found["close_code"] == 1000 and found["ping_s"] < 2, found)


def an_explicit_http_proxy_takes_names_and_tunnels(mesh):
    proxied = ["-x", "http://127.0.0.1:4145"]
    said = _curl(mesh, *proxied, f"http://{WEB_NAME}:{HTTP}/").stdout
    expect(said.startswith("hello from web-"), said)
    tunnelled = _curl(mesh, *proxied, "-p", f"http://{WEB_NAME}:{HTTP}/").stdout
    expect(tunnelled.startswith("hello from web-"), tunnelled)


def what_is_not_meshed_is_answered_too(mesh):
    outsider = mesh.pods["outsider"]
    said = json.loads(outsider.run("curl", "-sS", "-m", "5", f"http://10.88.0.11:{ECHO}/").stdout)
    expect("l5d-client-id" not in said["headers"], said)


def both_proxies_count_a_request_as_secured(mesh):
    client = mesh.pods["client"]
    servers = [mesh.pods["web-1"], mesh.pods["web-2"]]
    outbound = {"direction": "outbound", "tls": "true", "server_id": identity("web"),
                "dst_service": "web", "dst_namespace": "shop"}
    inbound = {"direction": "inbound", "tls": "true", "client_id": identity("client")}

    def counts():
        sent = client.metrics().sum("request_total", **outbound)
        received = sum(pod.metrics().sum("request_total", **inbound) for pod in servers)
        answered = client.metrics().sum("response_total", **outbound, status_code="200")
        return sent, received, answered

    before = counts()
    for _ in range(10):
        _curl(mesh, f"http://{WEB}:{HTTP}/")
    wanted = tuple(count + 10 for count in before)

    def counted():
        if counts() != wanted:
            raise Failed(f"{counts()}, not {wanted}")
        return True

    eventually("ten more requests are counted", counted, within=3)

"""weft tap sees requests as they pass, over mutual TLS, and nobody else does."""

from mesh import ECHO, NAMESPACE, WEB
from processes import end, eventually, expect, run

API = "127.0.0.1:8084"


class _Tap:
    """A running weft tap, and what it said so far."""

    taps = 0

    def __init__(self, mesh, *arguments):
        _Tap.taps += 1
        self.name, self.mesh = f"tap-{_Tap.taps}", mesh
        command = [mesh.program("weft"), "tap", *arguments, "-n", NAMESPACE, "--api-addr", API]
        self.process = mesh.processes.start(self.name, command, namespace=mesh.host)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.process)

    def said(self):
        with open(self.mesh.processes.log(self.name)) as log:
            return log.read()

    def sees(self, *parts):
        """A line with all of these, that is there before long; requests are sent until then."""
        found = lambda: [line for line in self.said().splitlines() if all(p in line for p in parts)]

        def check():
            _ask(self.mesh, "/seen")
            return found()

        eventually(f"weft tap shows {parts}", check, within=15, every=0.2)
        return found()[0]


def _ask(mesh, path, *more):
    client = mesh.pods["client"]
    return client.run("curl", "-sS", "-m", "5", *more, f"http://{WEB}:{ECHO}{path}").stdout


def weft_tap_shows_a_request_at_both_of_its_ends(mesh):
    with _Tap(mesh, "ns/" + NAMESPACE, "-o", "wide") as tap:
        line = tap.sees("req ", "proxy=out", ":path=/seen")
        expect("tls=true" in line and ":method=GET" in line, line)
        expect("src_ns=" + NAMESPACE in line and "dst_ns=" + NAMESPACE in line, line)
        line = tap.sees("req ", "proxy=in ", ":path=/seen")
        expect("tls=true" in line, line)
        tap.sees("rsp ", ":status=200")
        tap.sees("end ", "response-length=")


def weft_tap_shows_what_matches_alone(mesh):
    with _Tap(mesh, "svc/web", "--path", "/seen", "--method", "GET", "-o", "json") as tap:
        _ask(mesh, "/unseen")
        tap.sees('"path": "/seen"')
        expect("/unseen" not in tap.said(), tap.said())
        expect('"client_id": "client.' in tap.said(), tap.said())


def weft_tap_of_what_is_not_there_fails_with_the_reason(mesh):
    command = [mesh.program("weft"), "tap", "deploy/none", "-n", NAMESPACE, "--api-addr", API]
    failed = run(command, namespace=mesh.host, check=False)
    expect(failed.returncode != 0, failed)
    expect("there is no running pod of deployment" in failed.stderr, failed.stderr)


def a_proxys_taps_are_closed_to_plaintext(mesh):
    address = f"http://10.88.0.{mesh.pods['web-1'].number}:4190/"
    said = mesh.pods["outsider"].run("curl", "-sS", "-m", "5", address, check=False)
    expect(said.returncode != 0, said)

"""Clients that run in a pod: `python3 clients.py WHAT ARGUMENTS…` prints what it found out as JSON."""

import asyncio
import json
import socket
import sys
import threading
import time


def mail(address, port):
    """Talks to a server that speaks first; how long each answer took."""
    began = time.monotonic()
    with socket.create_connection((address, int(port)), timeout=15) as connection:
        stream = connection.makefile("rwb")
        banner = stream.readline().decode().strip()
        banner_after = time.monotonic() - began
        answers = []
        for line in (b"EHLO here", b"NOOP", b"QUIT"):
            stream.write(line + b"\r\n")
            stream.flush()
            answers.append(stream.readline().decode().strip())
        return {"banner": banner, "banner_after": banner_after, "answers": answers,
                "end": stream.read().decode()}


def mails(address, port, count):
    """Talks to it so many times; how often it said goodbye."""
    return sum(mail(address, port)["answers"][-1] == "221 bye" for _ in range(int(count)))


def raw(address, port, text, *, patience=3.0):
    """Sends bytes (with Python's escapes) and reads until the end, or until nothing comes."""
    sent = text.encode().decode("unicode_escape").encode("latin-1")
    with socket.create_connection((address, int(port)), timeout=5) as connection:
        connection.sendall(sent)
        connection.settimeout(patience)
        received, ended = b"", False
        try:
            while part := connection.recv(65536):
                received += part
            ended = True
        except TimeoutError:
            pass
        except ConnectionResetError:
            ended = True
        return {"received": received.decode("latin-1"), "ended": ended}


def reach(way, address, *ports):
    """At which port of the server one comes out who goes to each of these; none: at none."""
    found = []
    for port in ports:
        kind = socket.SOCK_DGRAM if way == "udp" else socket.SOCK_STREAM
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, kind) as client:
            client.settimeout(2)
            try:
                client.connect((address, int(port)))
                client.send(b"?") if way == "udp" else None
                found.append(int(client.recv(16)))
            except OSError:
                found.append(None)
    return found


def half_close(address, port, text):
    """Sends bytes, ends its own direction, and reads the answer to the end."""
    sent = text.encode().decode("unicode_escape").encode("latin-1")
    with socket.create_connection((address, int(port)), timeout=5) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(5)
        received = b""
        while part := connection.recv(65536):
            received += part
        return {"received": received.decode("latin-1")}


def hold(address, port):
    """Greets a server that speaks first, prints the greetings, and waits for the connection's end."""
    with socket.create_connection((address, int(port)), timeout=10) as connection:
        connection.sendall(b"NOOP\r\n")
        lines = connection.makefile("r")
        print(json.dumps([lines.readline().strip(), lines.readline().strip()]), flush=True)
        connection.settimeout(90)
        try:
            rest = connection.recv(1000)
        except ConnectionResetError:
            rest = b""
        return {"ended": rest == b""}


def sockets(url):
    """Text, binary, a large message, a ping and a close over a WebSocket."""
    from websockets.asyncio.client import connect

    async def talk():
        async with connect(url, max_size=1 << 22, open_timeout=10) as connection:
            echoed = []
            for message in ("hello", b"\x00\xff", "x" * 1_000_000):
                await connection.send(message)
                echoed.append(await connection.recv() == message)
            pong = await connection.ping()
            latency = await asyncio.wait_for(pong, 5)
        return {"echoed": echoed, "ping_s": latency, "close_code": connection.close_code}

    return asyncio.run(talk())


def grpc(target):
    """Every kind of call, a failure, a deadline and a cancellation."""
    import grpc as g

    def status(call):
        try:
            call()
        except g.RpcError as error:
            return error.code().name, error.details()
        return "OK", ""

    with g.insecure_channel(target) as channel:
        unary = channel.unary_unary("/test.Echo/Unary")
        reply, call = unary.with_call(b"a", timeout=5)
        found = {
            "unary": reply.decode(),
            "head": dict(call.initial_metadata()).get("x-head"),
            "trail": dict(call.trailing_metadata()).get("x-trail"),
        }
        fail = channel.unary_unary("/test.Echo/Fail")
        found["failure"] = status(lambda: fail(b"", timeout=5))
        stream = channel.unary_stream("/test.Echo/ServerStream")
        found["server_stream"] = [int(each) for each in stream(b"1000", timeout=10)] == list(
            range(1000)
        )
        client_stream = channel.stream_unary("/test.Echo/ClientStream")
        numbers = (b"%d" % number for number in range(100))
        found["client_stream"] = int(client_stream(numbers, timeout=10))
        found["bidi"] = _in_turn(channel.stream_stream("/test.Echo/Bidi"))

        sleep = channel.unary_unary("/test.Echo/Sleep")
        began = time.monotonic()
        found["deadline"] = status(lambda: sleep(b"", timeout=0.5))[0]
        found["deadline_after"] = time.monotonic() - began
        cancelled = channel.unary_unary("/test.Echo/Cancelled")
        pending = sleep.future(b"", timeout=10)
        time.sleep(0.3)
        pending.cancel()
        found["cancelled"] = pending.cancelled()
        found["servers_told"] = _eventually(lambda: _over_replicas(cancelled) >= 2)
        return found


def calls(target, good, bad):
    """So many calls that are answered, and so many that fail."""
    import grpc as g

    said = []
    with g.insecure_channel(target) as channel:
        unary, fail = (channel.unary_unary(f"/test.Echo/{name}") for name in ("Unary", "Fail"))
        asked = [(unary, b"a")] * int(good) + [(fail, b"unavailable")] * int(bad)
        for method, request in asked:
            try:
                method(request, timeout=5)
                said.append("OK")
            except g.RpcError as error:
                said.append(error.code().name)
    return {status: said.count(status) for status in sorted(set(said))}


def _in_turn(method):
    """A message out only after the answer to the last one came in."""
    answered = threading.Semaphore(1)

    def requests():
        for number in range(20):
            answered.acquire()
            yield b"%d" % number

    answers = []
    for answer in method(requests(), timeout=10):
        answers.append(answer)
        answered.release()
    return answers == [b"echo:%d" % number for number in range(20)]


def _over_replicas(cancelled):
    """Calls are balanced over the servers, each of which counts its own."""
    counts = dict(cancelled(b"", timeout=5).split() for _ in range(12))
    return sum(map(int, counts.values()))


def _eventually(check):
    for _ in range(50):
        if check():
            return True
        time.sleep(0.1)
    return False


if __name__ == "__main__":
    what = {"mail": mail, "mails": mails, "raw": raw, "half-close": half_close, "hold": hold, "reach": reach,
            "sockets": sockets, "grpc": grpc, "calls": calls}[sys.argv[1]]
    print(json.dumps(what(*sys.argv[2:])))

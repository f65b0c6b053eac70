"""The applications behind the proxies. They know nothing of a mesh.

`python3 servers.py web CERT KEY`, `python3 servers.py mail` or `python3 servers.py ports PORT…`.
"""

import asyncio
import hashlib
import json
import os
import socket
import ssl
import sys
import threading
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ECHO, GUARDED, COUNTED, SOCKETS, SECURE, GRPC, MAIL = 8081, 8090, 8091, 8083, 8443, 50051, 2525


class DualStack(ThreadingHTTPServer):
    """Serves IPv6 and IPv4."""

    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class Echo(BaseHTTPRequestHandler):
    """Says what it was sent, so that clients can see what became of it on the way."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self):
        body = self.body()
        if self.path == "/chunked":
            return self.answer_in_chunks()
        if self.path == "/slow":
            time.sleep(1)
        if self.path.startswith("/fail"):
            self.send_response(503)
            self.send_header("content-length", "0")
            return self.end_headers()
        said = {
            "method": self.command,
            "path": self.path,
            "version": self.request_version,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "length": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        text = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer

    def answer_in_chunks(self):
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.send_header("trailer", "x-sum")
        self.end_headers()
        for number in range(10):
            self.wfile.write(b"8\r\nchunk-%02d\r\n" % number)
            self.wfile.flush()
        self.wfile.write(b"0\r\nx-sum: 80\r\n\r\n")

    def body(self):
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body


def serve_http(port, certificate=None):
    server = DualStack(("::", port), Echo)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def serve_grpc(port):
    import grpc

    def unary(request, context):
        context.send_initial_metadata((("x-head", "1"),))
        context.set_trailing_metadata((("x-trail", "2"),))
        return b"echo:" + request

    def fail(request, context):
        is_away = request == b"unavailable"
        code = grpc.StatusCode.UNAVAILABLE if is_away else grpc.StatusCode.FAILED_PRECONDITION
        context.abort(code, "not like this")

    def server_stream(request, _):
        for number in range(int(request)):
            yield b"%d" % number

    def client_stream(requests, _):
        return b"%d" % sum(int(each) for each in requests)

    def bidi(requests, _):
        for each in requests:
            yield b"echo:" + each

    seen = {"cancelled": 0}

    def sleep(_, context):
        ended = threading.Event()
        context.add_callback(ended.set)
        if ended.wait(10):
            seen["cancelled"] += 1
        return b""

    def cancelled(_, __):
        return b"%d %d" % (os.getpid(), seen["cancelled"])

    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
        "Sleep": grpc.unary_unary_rpc_method_handler(sleep),
        "Cancelled": grpc.unary_unary_rpc_method_handler(cancelled),
    }
    server = grpc.server(futures.ThreadPoolExecutor(32))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Echo", handlers),)
    )
    server.add_insecure_port(f"[::]:{port}")
    server.start()
    return server


async def serve_sockets(port):
    from websockets.asyncio.server import serve

    async def echo(connection):
        async for message in connection:
            await connection.send(message)

    async with serve(echo, None, port, max_size=1 << 22):
        await asyncio.Future()


async def serve_mail(port):
    """A server that speaks first, as SMTP, MySQL and SSH do."""

    async def talk(reader, writer):
        writer.write(b"220 mail ready\r\n")
        while line := await reader.readline():
            if line.strip() == b"QUIT":
                writer.write(b"221 bye\r\n")
                break
            writer.write(b"250 " + line.strip() + b"\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "0.0.0.0", port)
    async with server:
        await server.serve_forever()


async def serve_ports(ports):
    """Says to everyone at which port it was found; of datagrams, to whoever sends one."""

    class Datagrams(asyncio.DatagramProtocol):
        def __init__(self, port):
            self.port = port

        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, _, sender):
            self.transport.sendto(b"%d" % self.port, sender)

    loop = asyncio.get_running_loop()
    for port in ports:

        async def say(_, writer, port=port):
            writer.write(b"%d" % port)
            writer.close()

        for address in ("0.0.0.0", "::"):
            await asyncio.start_server(say, address, port)
        # Takes IPv4 too.
        await loop.create_datagram_endpoint(lambda port=port: Datagrams(port), ("::", port))
    await asyncio.Event().wait()


def main():
    if sys.argv[1] == "ports":
        return asyncio.run(serve_ports([int(port) for port in sys.argv[2:]]))
    if sys.argv[1] == "mail":
        return asyncio.run(serve_mail(MAIL))
    serve_http(ECHO)
    serve_http(GUARDED)
    serve_http(COUNTED)
    serve_http(SECURE, certificate=sys.argv[2:4])
    _grpc = serve_grpc(GRPC)
    asyncio.run(serve_sockets(SOCKETS))


if __name__ == "__main__":
    main()

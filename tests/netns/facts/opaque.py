"""Connections of bytes through both proxies: databases, servers that speak first, TLS."""

from mesh import DATA, MAIL, POSTGRES, POSTGRES_UNMARKED, REDIS, REDIS_UNMARKED, SECURE, WEB, identity
from processes import expect, find, needs

# Far below the 10 s that Linkerd waits for a client that waits for its server. An outsider waits for a
# second: it might be a proxy whose first packets were lost.
PROMPT_S = 2.5


@needs("redis-server", "redis-cli")
def redis_works_on_a_marked_and_on_an_unmarked_port(mesh):
    for port in (REDIS, REDIS_UNMARKED):
        redis = ["redis-cli", "-h", DATA, "-p", str(port)]
        run = mesh.pods["client"].run
        expect(run(*redis, "set", "key", "value").stdout == "OK\n", port)
        expect(run(*redis, "get", "key").stdout == "value\n", port)
        pipelined = b"".join(b"incr counter\r\n" for _ in range(1000))
        said = run(*redis, stdin=pipelined).stdout.split()
        expect(said == [str(n) for n in range(1, 1001)], f"{port}: {said[-3:]}")


@needs("postgres", "psql")
def postgresql_works_on_a_marked_and_on_an_unmarked_port(mesh):
    for port in (POSTGRES, POSTGRES_UNMARKED):
        query = "select sum(n) from generate_series(1, 100000) n"
        where = ["-h", DATA, "-p", str(port), "-U", "postgres"]
        said = mesh.pods["client"].run(find("psql"), *where, "-tAc", query).stdout
        expect(said == "5000050000\n", f"{port}: {said}")


def a_server_that_speaks_first_on_an_unmarked_port_does_not_stall(mesh):
    for pod in ("client", "outsider"):
        address = DATA if pod == "client" else "10.88.0.21"
        found = mesh.pods[pod].client("mail", address, MAIL)
        expect(found["banner"] == "220 mail ready", found)
        expect(found["banner_after"] < PROMPT_S, f"{pod}: banner after {found['banner_after']} s")
        expect(found["answers"] == ["250 EHLO here", "250 NOOP", "221 bye"], found)
        expect(found["end"] == "", found)


def tls_of_the_application_is_passed_through(mesh):
    url = f"https://{WEB}:{SECURE}/"
    said = mesh.pods["client"].run("curl", "-skv", "-m", "10", url)
    expect("CN=web.example" in said.stderr.replace(" ", ""), said.stderr)
    expect('"path": "/"' in said.stdout, said.stdout)
    named = ["--resolve", f"web.example:{SECURE}:{WEB}", f"https://web.example:{SECURE}/"]
    said = mesh.pods["client"].run("curl", "-skv", "-m", "10", *named)
    expect('"path": "/"' in said.stdout, said.stdout)


def bytes_are_counted_as_secured(mesh):
    client, data = mesh.pods["client"], mesh.pods["data"]
    out = {"direction": "outbound", "peer": "dst", "tls": "true", "server_id": identity("data")}
    inside = {"direction": "inbound", "peer": "src", "tls": "true",
              "client_id": identity("client")}
    before = [client.metrics().sum("tcp_open_total", **out),
              data.metrics().sum("tcp_open_total", **inside)]
    client.client("mail", DATA, MAIL)
    after = [client.metrics().sum("tcp_open_total", **out),
             data.metrics().sum("tcp_open_total", **inside)]
    expect(all(b >= a + 1 for a, b in zip(before, after)), f"{before}, then {after}")
    expect(data.metrics().sum("tcp_read_bytes_total", **inside) > 0, "no bytes are counted")

"""The applications in the pods: nginx, redis, PostgreSQL, and those of servers.py."""

import os
import pwd
import sys

from mesh import HTTP, HTTP2, POSTGRES, POSTGRES_UNMARKED, REDIS, REDIS_UNMARKED
from processes import eventually, find, has, run

SERVERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "servers.py")
# PostgreSQL runs under a user who has a name, and never as root.
DATABASE_UID = pwd.getpwnam("nobody").pw_uid

NGINX = """
daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000; keepalive_timeout 600s;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  server {{ listen [::]:{http} ipv6only=off; listen [::]:{http2} ipv6only=off http2;
    root {dir}; location = / {{ default_type text/plain; return 200 "hello from {name}\\n"; }} }} }}
"""


def open_applications(mesh):
    """Starts the applications, then the proxies."""
    certificate = [os.path.join(mesh.directory, name) for name in ("tls.crt", "tls.key")]
    subject = ["-subj", "/CN=web.example", "-days", "1", "-nodes"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    run(["openssl", "req", "-x509", *key, *subject, "-out", certificate[0], "-keyout", certificate[1]])
    for name in ("web-1", "web-2"):
        start_nginx(mesh, mesh.pods[name])
        mesh.pods[name].start("servers", sys.executable, SERVERS, "web", *certificate)
    data = mesh.pods["data"]
    data.start("mail", sys.executable, SERVERS, "mail")
    if has("redis-server"):
        for port in (REDIS, REDIS_UNMARKED):
            options = ["--save", "", "--bind", "0.0.0.0", "--protected-mode", "no"]
            data.start(f"redis-{port}", find("redis-server"), "--port", str(port), *options)
    if has("postgres") and has("initdb"):
        for port in (POSTGRES, POSTGRES_UNMARKED):
            start_postgres(mesh, data, port)
    for pod in mesh.pods.values():
        if pod.name != "outsider":
            pod.start_proxy()
    client = mesh.pods["client"]
    asked = lambda: client.run("curl", "-sf", "-m", "3", "http://10.96.0.1:8080/").stdout
    eventually("a first request is answered", asked, within=15)


def start_nginx(mesh, pod):
    directory = os.path.join(mesh.directory, f"{pod.name}-nginx")
    os.makedirs(directory, exist_ok=True)
    os.chmod(directory, 0o755)
    with open(os.path.join(directory, "1m"), "wb") as file:
        file.write(bytes(range(256)) * 4096)
    conf = os.path.join(directory, "nginx.conf")
    with open(conf, "w") as file:
        file.write(NGINX.format(dir=directory, http=HTTP, http2=HTTP2, name=pod.name))
    return pod.start("nginx", find("nginx") or "/usr/sbin/nginx", "-c", conf, "-e", "stderr")


def start_postgres(mesh, pod, port):
    directory = os.path.join(mesh.directory, f"postgres-{port}")
    os.makedirs(directory)
    os.chown(directory, DATABASE_UID, DATABASE_UID)
    options = ["-D", directory, "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8"]
    run([find("initdb"), *options], uid=DATABASE_UID, timeout=60)
    with open(os.path.join(directory, "pg_hba.conf"), "a") as file:
        file.write("host all all 0.0.0.0/0 trust\n")
    options = ["-D", directory, "-p", str(port), "-h", "0.0.0.0", "-k", directory]
    fast = ["-c", "fsync=off", "-c", "shared_buffers=16MB"]
    pod.start(f"postgres-{port}", find("postgres"), *options, *fast, uid=DATABASE_UID)

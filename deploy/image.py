#!/usr/bin/env python3
"""Makes Weft's image without a container engine and without network: programs, the libraries that
they need, and nothing else. The same programs make the same image, byte for byte.

  image.py --bin target/release -t weft/weft:0.1.0 -o weft.tar   an archive for `docker load`,
                                                                 `ctr images import`, `podman load`
                                                                 or skopeo: OCI layout and Docker's
  image.py --bin target/release --root DIR                       the tree alone, for a Dockerfile

Beside weft, weft-proxy and weft-init it takes nft and iptables, which weft-init uses, from the
host (--no-firewall: without). Runs on Linux with glibc; ldd says which libraries are needed.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

PROGRAMS = ["weft", "weft-proxy", "weft-init"]
FIREWALLS = ["/usr/sbin/nft", "/usr/sbin/xtables-nft-multi", "/usr/sbin/xtables-legacy-multi"]
# iptables and its kin are one program by several names.
LINKS = {
    "xtables-nft-multi": ["iptables-nft", "ip6tables-nft", "iptables-nft-save", "ip6tables-nft-save",
                          "iptables-nft-restore", "ip6tables-nft-restore",
                          "iptables", "ip6tables", "iptables-save", "ip6tables-save",
                          "iptables-restore", "ip6tables-restore"],
    "xtables-legacy-multi": ["iptables-legacy", "ip6tables-legacy", "iptables-legacy-save",
                             "ip6tables-legacy-save", "iptables-legacy-restore",
                             "ip6tables-legacy-restore"],
}
# What iptables needs of its extensions: ports, owners, interfaces, redirection, comments.
EXTENSIONS = ["libxt_tcp.so", "libxt_multiport.so", "libxt_owner.so", "libxt_comment.so",
              "libxt_REDIRECT.so", "libipt_REDIRECT.so", "libip6t_REDIRECT.so", "libxt_standard.so"]
AUTHORITIES = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"]
USER = 65532
FILES = {
    "etc/passwd": "root:x:0:0:root:/:/sbin/nologin\n"
                  "proxy:x:2102:2102:proxy:/:/sbin/nologin\n"
                  "nonroot:x:65532:65532:nonroot:/:/sbin/nologin\n",
    "etc/group": "root:x:0:\nproxy:x:2102:\nnonroot:x:65532:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def libraries(program):
    """The libraries that a program or library is linked with, its loader included."""
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    missing = re.findall(r"(\S+) => not found", told.stdout)
    if missing:
        sys.exit(f"{program} needs {', '.join(missing)}, which is not installed")
    return re.findall(r"(?:=> )?(/[^ ]+) \(0x", told.stdout) if told.returncode == 0 else []


class Tree:
    """What the image holds, by path: (mode, content) of files, targets of links."""

    def __init__(self):
        self.files, self.links, self.folders = {}, {}, {}

    def program(self, source, path):
        with open(source, "rb") as file:
            self.files[path] = (0o755, file.read())
        for library in libraries(source):
            self.library(library)

    def library(self, source):
        # Where the loader looks for it, whatever links lead there on this host.
        path = re.sub(r"^(lib|lib64)/", r"usr/\1/", source.lstrip("/"))
        if path not in self.files:
            with open(os.path.realpath(source), "rb") as file:
                self.files[path] = (0o755, file.read())

    def write(self, root):
        for path, mode in self.folders.items():
            os.makedirs(os.path.join(root, path), exist_ok=True)
            os.chmod(os.path.join(root, path), mode)
        for path, (mode, content) in self.files.items():
            target = os.path.join(root, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as file:
                file.write(content)
            os.chmod(target, mode)
        for path, to in self.links.items():
            os.makedirs(os.path.dirname(os.path.join(root, path)) or root, exist_ok=True)
            os.symlink(to, os.path.join(root, path))

    def tar(self):
        parents = {}
        for path in [*self.files, *self.links, *self.folders]:
            while (path := os.path.dirname(path)):
                parents[path] = 0o755
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for path, mode in sorted({**parents, **self.folders}.items()):
                entry = tarfile.TarInfo(path)
                entry.type, entry.mode = tarfile.DIRTYPE, mode
                tar.addfile(entry)
            for path, (mode, content) in sorted(self.files.items()):
                entry = tarfile.TarInfo(path)
                entry.mode, entry.size = mode, len(content)
                tar.addfile(entry, io.BytesIO(content))
            for path, to in sorted(self.links.items()):
                entry = tarfile.TarInfo(path)
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, to, 0o777
                tar.addfile(entry)
        return layer.getvalue()


def stripped(source, folder):
    """A program without its symbols, where `strip` is there to take them."""
    if not shutil.which("strip"):
        return source
    target = os.path.join(folder, os.path.basename(source))
    subprocess.run(["strip", "-o", target, source], check=True)
    return target


def gather(options, folder):
    tree = Tree()
    # Today's systems have these as links, and the loader's path begins with one of them.
    tree.links.update({name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib64")})
    for path, text in FILES.items():
        tree.files[path] = (0o644, text.encode())
    for path, mode in {"tmp": 0o1777, "run": 0o755, "proc": 0o555, "sys": 0o555, "dev": 0o755,
                       "var/run/linkerd": 0o755, "var/lib/weft": 0o1777, "usr/lib64": 0o755}.items():
        tree.folders[path] = mode
    for program in PROGRAMS:
        source = os.path.join(options.bin, program)
        if not os.path.exists(source):
            sys.exit(f"{source} is not there: cargo build --release --bins")
        tree.program(stripped(source, folder), f"usr/bin/{program}")
    for authorities in AUTHORITIES:
        if os.path.exists(authorities):
            with open(authorities, "rb") as file:
                tree.files[AUTHORITIES[0].lstrip("/")] = (0o644, file.read())
            break
    if options.firewall:
        firewalls(tree)
    return tree


def firewalls(tree):
    found = [path for path in FIREWALLS if os.path.exists(path)]
    if not found:
        sys.exit("neither nft nor iptables is here for weft-init: install nftables, or say "
                 "--no-firewall and use a CNI plugin")
    for path in found:
        name = os.path.basename(path)
        tree.program(path, f"usr/sbin/{name}")
        for link in LINKS.get(name, []):
            tree.links[f"usr/sbin/{link}"] = name
    for folder, _, names in os.walk("/usr/lib"):
        if os.path.basename(folder) == "xtables":
            for name in EXTENSIONS:
                if name in names:
                    tree.library(os.path.join(folder, name))


def archive(tree, options):
    layer = tree.tar()
    packed = gzip.compress(layer, mtime=0)
    machine = platform.machine()
    config = json.dumps({
        "architecture": ARCHITECTURES.get(machine, machine), "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "User": f"{USER}:{USER}", "WorkingDir": "/", "Entrypoint": ["/usr/bin/weft"],
            "Env": ["PATH=/usr/bin:/usr/sbin"],
            "Labels": {"org.opencontainers.image.title": "weft",
                       "org.opencontainers.image.licenses": "Apache-2.0"},
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "deploy/image.py"}],
    }).encode()
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("application/vnd.oci.image.config.v1+json", config),
        "layers": [described("application/vnd.oci.image.layer.v1.tar+gzip", packed)],
    }).encode()
    index = json.dumps({"schemaVersion": 2, "manifests": [{
        **described("application/vnd.oci.image.manifest.v1+json", manifest),
        "annotations": {"org.opencontainers.image.ref.name": options.tag.rpartition(":")[2],
                        "io.containerd.image.name": options.tag},
    }]}).encode()
    docker = json.dumps([{"Config": blob(config), "RepoTags": [options.tag],
                          "Layers": [blob(packed)]}]).encode()
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index,
             "manifest.json": docker}
    files.update({blob(content): content for content in (config, manifest, packed)})
    with tarfile.open(options.output, "w", format=tarfile.GNU_FORMAT) as tar:
        for path, content in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.mode, entry.size = 0o644, len(content)
            tar.addfile(entry, io.BytesIO(content))
    print(f"{options.tag}: {mebibytes(len(packed))} packed, {mebibytes(len(layer))} unpacked")
    for path, (_, content) in sorted(tree.files.items(), key=lambda item: -len(item[1][1]))[:8]:
        print(f"  {mebibytes(len(content)):>10} {path}")


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def blob(content):
    return "blobs/" + digest(content).replace(":", "/")


def described(media_type, content):
    return {"mediaType": media_type, "digest": digest(content), "size": len(content)}


def mebibytes(size):
    return f"{size / 2**20:.1f} MiB"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, help="folder of weft, weft-proxy and weft-init")
    parser.add_argument("-t", "--tag", help="the image's name, such as weft/weft:0.1.0")
    parser.add_argument("-o", "--output", help="the archive to write")
    parser.add_argument("--root", help="the folder to write the tree into, in place of an archive")
    parser.add_argument("--no-firewall", dest="firewall", action="store_false",
                        help="without nft and iptables")
    parser.add_argument("--packed-mib-max", type=float, help="fail where the archive is larger")
    options = parser.parse_args()
    if not options.root and not (options.tag and options.output):
        parser.error("give --root, or --tag and --output")
    with tempfile.TemporaryDirectory() as folder:
        tree = gather(options, folder)
    if options.root:
        tree.write(options.root)
    else:
        archive(tree, options)
        packed = os.path.getsize(options.output)
        if options.packed_mib_max and packed > options.packed_mib_max * 2**20:
            sys.exit(f"image.py: {options.output} has {mebibytes(packed)}, more than {options.packed_mib_max} MiB")


if __name__ == "__main__":
    main()

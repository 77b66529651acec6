"""Builds the package: stubs are made from the .proto files, so that none lie in the repository."""

import importlib.metadata
import os
import re
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = os.path.dirname(os.path.abspath(__file__))
# A source distribution carries the protocol and the version; in the repository they lie above us.
IS_SDIST = os.path.isdir(os.path.join(HERE, "proto"))
PROTO = os.path.join(HERE, "proto") if IS_SDIST else os.path.join(HERE, "..", "..", "proto")
VERSION_FILE = os.path.join(HERE, "VERSION" if IS_SDIST else "../../CMakeLists.txt")
OURS = ["moelight/v1/%s.proto" % name for name in ("types", "batch_job", "inference", "admin")]


def read_version():
    with open(VERSION_FILE, encoding="utf-8") as file:
        text = file.read()
    if IS_SDIST:
        return text.strip()
    return re.search(r"project\(moelight VERSION ([\d.]+)", text).group(1)


def dependencies():
    """What runs the stubs: at least the releases that made them, and for protobuf also the next
    major version, which is promised to understand them."""
    made_by = {}
    for requirement in importlib.metadata.requires("grpcio-tools"):
        match = re.match(r"(grpcio|protobuf)\b.*>=([\d.]+)", requirement)
        if match:
            made_by[match.group(1)] = match.group(2)
    next_major = int(made_by["protobuf"].split(".")[0]) + 1
    return ["grpcio>=" + made_by["grpcio"],
            "protobuf>=%s,<%d" % (made_by["protobuf"], next_major + 1),
            "googleapis-common-protos>=1.63"]


class BuildWithStubs(build_py):
    """Adds moelight/v1 to the modules."""

    def run(self):
        super().run()
        if getattr(self, "editable_mode", False):
            raise SystemExit("moelight has generated modules: pip install without -e")
        from grpc_tools import protoc
        include = os.path.join(os.path.dirname(protoc.__file__), "_proto")
        out = self.build_lib
        code = protoc.main(["protoc", "-I", PROTO, "-I", include, "--python_out", out,
                            "--pyi_out", out, "--grpc_python_out", out, *OURS])
        if code != 0:
            raise SystemExit("protoc failed on %s" % PROTO)
        package = os.path.join(out, "moelight", "v1", "__init__.py")
        with open(package, "w", encoding="utf-8") as file:
            file.write('"""The protocol as it is, generated from proto/moelight/v1."""\n')


class SdistWithProtocol(sdist):
    """Takes along what the build needs from outside of this folder."""

    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        for name in [*OURS, "google/rpc/status.proto", "google/rpc/error_details.proto"]:
            target = os.path.join(base_dir, "proto", name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(os.path.join(PROTO, name), target)
        with open(os.path.join(base_dir, "VERSION"), "w", encoding="utf-8") as file:
            file.write(read_version() + "\n")


setup(version=read_version(), install_requires=dependencies(),
      extras_require={"progress": ["tqdm"]},
      cmdclass={"build_py": BuildWithStubs, "sdist": SdistWithProtocol})

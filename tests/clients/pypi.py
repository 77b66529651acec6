"""Runs a test with packages from PyPI, in a virtual environment beside the build.

A test that needs it calls enter() first: that returns within the environment, and does not return
outside of it. The environment is made once for all tests and again when what it holds has changed.
Where PyPI cannot be reached, the test is skipped: it says so and exits with SKIPPED.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PACKAGE = os.path.join(ROOT, "deploy", "python")
SKIPPED = 77  # SKIP_RETURN_CODE in CMakeLists.txt

# What the tests use beside our own package: the last two to build it without pip and to make stubs
# as its README says.
REQUIREMENTS = ["tritonclient[grpc]", "tqdm", "setuptools", "grpcio-tools~=1.76.0"]


def enter():
    """Goes on in the environment, which lies beside bin/ of the daemon that is tested."""
    if len(sys.argv) < 3:
        sys.exit("usage: %s MOELIGHTD PROTOC [unittest arguments]" % sys.argv[0])
    build = os.path.dirname(os.path.dirname(os.path.abspath(sys.argv[1])))
    folder = os.path.join(build, "clients-venv")
    if os.path.realpath(sys.prefix) == os.path.realpath(folder):
        return
    with open(folder + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
        _make(folder)
    python = os.path.join(folder, "bin", "python")
    os.execv(python, [python, *sys.argv])


def _make(folder):
    stamp = os.path.join(folder, "stamp")
    wanted = _fingerprint()
    if os.path.exists(stamp):
        with open(stamp) as file:
            if file.read() == wanted:
                return
    shutil.rmtree(folder, ignore_errors=True)
    # Without pip of its own, which would take longer than the rest: this one installs into it.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    problem = _install(folder, REQUIREMENTS)
    if problem:
        print("skipped: packages from PyPI cannot be installed here:\n" + problem[-2000:])
        sys.exit(SKIPPED)
    with tempfile.TemporaryDirectory(prefix="moelight-package-") as copy:
        problem = _install(folder, [copy_of_package(copy)])
    if problem:
        sys.exit("pip install deploy/python fails:\n" + problem)
    with open(stamp, "w") as file:
        file.write(wanted)


def copy_of_package(folder):
    """deploy/python and what it is built from, because a build leaves files beside its sources."""
    shutil.copytree(os.path.join(ROOT, "proto"), os.path.join(folder, "proto"))
    shutil.copyfile(os.path.join(ROOT, "CMakeLists.txt"), os.path.join(folder, "CMakeLists.txt"))
    package = os.path.join(folder, "deploy", "python")
    shutil.copytree(PACKAGE, package, ignore=_ignore_built)
    return package


# What a build in the source folder leaves there.
_ignore_built = shutil.ignore_patterns("build", "dist", "*.egg-info", "__pycache__")


def _install(folder, what):
    """What pip said if it failed, otherwise nothing."""
    pip = [sys.executable, "-m", "pip", "--python", os.path.join(folder, "bin", "python")]
    run = subprocess.run([*pip, "install", "--quiet", "--retries", "1", "--timeout", "20", *what],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return run.stdout if run.returncode else ""


def _fingerprint():
    """Changes with the requirements and with every file that our package is made of."""
    digest = hashlib.sha256(" ".join([sys.version, *REQUIREMENTS]).encode())
    with open(os.path.join(ROOT, "CMakeLists.txt"), "rb") as file:
        digest.update(file.read())
    for top in (PACKAGE, os.path.join(ROOT, "proto")):
        for folder, folders, names in os.walk(top):
            built = _ignore_built(folder, folders)
            folders[:] = sorted(name for name in folders if name not in built)
            for name in sorted(names):
                with open(os.path.join(folder, name), "rb") as file:
                    digest.update(os.path.join(folder, name).encode() + file.read())
    return digest.hexdigest()

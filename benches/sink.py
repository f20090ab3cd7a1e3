"""Builds the programs of this package and runs its server: for the scripts beside it. Python's standard library only."""

import contextlib
import json
import os
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target")) / "release"


def build():
    """Builds the programs as an application would: in release mode."""
    subprocess.run(["cargo", "build", "--locked", "--release", "--bins", "--quiet"], cwd=HERE, check=True)


@contextlib.contextmanager
def sink():
    """Runs the server; yields its port and the file that its certificate is in."""
    with tempfile.TemporaryDirectory() as directory:
        certificate = Path(directory) / "root.pem"
        command = [PROGRAMS / "sink", certificate]
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            yield server.stdout.readline().strip(), str(certificate)
        finally:
            server.stdin.close()
            server.wait(timeout=30)


def run(*command):
    """Runs a program that prints JSON, and returns it."""
    done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True, timeout=300)
    return json.loads(done.stdout.strip().splitlines()[-1])


def save(name, content):
    """Writes figures to the directory that the variable FIGURES names; without it nowhere."""
    if directory := os.environ.get("FIGURES"):
        path = Path(directory)
        path.mkdir(parents=True, exist_ok=True)
        (path / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")

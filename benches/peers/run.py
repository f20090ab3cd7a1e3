#!/usr/bin/env python3
"""Sends the same messages to the same server from whole processes: this crate, nodemailer (npm) and aiosmtplib (PyPI), which are
installed into a temporary directory. Needs npm and Python's venv; a peer that cannot be installed is named and left out."""

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from sink import PROGRAMS, build, run, save, sink  # noqa: E402

NODEMAILER = "nodemailer@10"
AIOSMTPLIB = "aiosmtplib==5.*"
OCTETS = 2048
MESSAGES = 300
ROUNDS = 3


def install(directory):
    """Installs what can be had; returns the commands of the peers, to be completed with port and certificate."""
    commands = {}
    try:
        (directory / "package.json").write_text("{}\n")
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent", NODEMAILER], cwd=directory, check=True)
        commands["nodemailer"] = lambda *at: ["node", HERE / "nodemailer.mjs", directory, *at, OCTETS, MESSAGES, 1]
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"LEFT OUT: nodemailer cannot be installed: {error}")
    try:
        subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True)
        python = directory / "venv/bin/python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", AIOSMTPLIB], check=True)
        commands["aiosmtplib"] = lambda *at: [python, HERE / "aiosmtplib_peer.py", *at, OCTETS, MESSAGES]
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"LEFT OUT: aiosmtplib cannot be installed: {error}")
    for client in ("chunking", "data", "lettre", "mail-send"):
        commands[client] = lambda *at, client=client: [PROGRAMS / "send", client, *at, 1, OCTETS, MESSAGES]
    return commands


def main():
    build()
    figures = {}
    with tempfile.TemporaryDirectory() as directory, sink() as (port, certificate):
        commands = install(Path(directory))
        for _ in range(ROUNDS):
            for name, command in commands.items():
                done = run(*command(port, certificate))
                figures.setdefault(name, []).append(round(done["messages"] / done["seconds"], 1))
    for name, rates in figures.items():
        print(f"{name:<12} {sorted(rates)[len(rates) // 2]:>10.1f} messages/s of {rates}")
    save("peers", figures)


if __name__ == "__main__":
    main()

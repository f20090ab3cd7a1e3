#!/usr/bin/env python3
"""Counts the instructions and system calls of a warm submission with valgrind's callgrind, and fails when they have grown.

Compares a run of few messages with one of more, so that sign-in and start-up drop out. The last counts are in callgrind.json;
`--save` writes them anew, `--where` prints which source files the instructions belong to. The counts depend on compiler and
processor (valgrind tells libraries what the machine can do) and not on its load. By another compiler or on another kind of
processor, nothing is compared; without valgrind nothing is counted. Both are said, and pass.
"""

import collections
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from sink import HERE, PROGRAMS, build, save, sink

LAST = HERE / "callgrind.json"
FEW, MORE = 50, 250
# Gathers randomness when the process starts, by as many rounds as chance wants.
CHANCE = "jitterentropy"
OCTETS = 2048
# What may be blamed on nothing: a hash table that grows, a reply that came in two pieces.
GROWTH = 1.02
CASES = [("chunking", 1), ("data", 1), ("chunking", 100), ("lettre-no-delay", 1)]
CALLS = {"send", "sendmsg", "write", "writev", "recv", "recvmsg", "read", "readv", "epoll_wait", "epoll_pwait"}


def profile(client, recipients, messages, port, certificate, directory):
    """Runs one client under callgrind; returns instructions by source file, and calls by name of the C function."""
    out = Path(directory) / f"{client}-{recipients}-{messages}.out"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", PROGRAMS / "send"]
    command += [client, port, certificate, recipients, OCTETS, messages]
    subprocess.run([str(part) for part in command], check=True, capture_output=True, timeout=300)
    return read(out.read_text())


def read(text):
    """Reads callgrind's format (valgrind.org/docs/manual/cl-format.html): cost lines belong to the file named last."""
    names = {}

    def name(kind, value):
        key, _, given = value.partition(" ")
        if given:
            names[kind, key] = given
        return names.get((kind, key), key)

    instructions, calls = collections.Counter(), collections.Counter()
    file = called = ""
    obj = ""
    inclusive = False
    for line in text.splitlines():
        field, equals, value = line.partition("=")
        if equals and field in ("fl", "fi", "fe"):
            file = name("file", value)
        elif equals and field in ("cfi", "cfl"):
            name("file", value)
        elif equals and field == "ob":
            obj = name("object", value)
        elif equals and field == "cob":
            name("object", value)
        elif equals and field == "fn":
            name("function", value)
        elif equals and field == "cfn":
            called = name("function", value)
        elif equals and field == "calls":
            plain = called.split("@")[0].removeprefix("__libc_").split("'")[0]
            if plain in CALLS:
                calls[plain] += int(value.split()[0])
            inclusive = True
        elif line[:1] in "+-*0123456789" and " " in line:
            if inclusive:
                inclusive = False  # What the called function cost is counted there.
            elif CHANCE not in file:
                instructions[place(file, obj)] += int(line.split()[1])
    return instructions, calls


def place(file, obj):
    """Names where a source file belongs: this crate's file, a crate, the standard library, or a library."""
    if found := re.search(r"/registry/src/[^/]+/([^/]+)-\d+\.\d", file):
        return found[1]
    if "/rustc/" in file or "/library/" in file:
        return "std"
    if found := re.search(r"(?:^|/)(src/(?:smtp|mailer|pool|clock|limits|token|error|outcome|tls|config)\b.*)", file):
        return found[1]
    return Path(obj).name or file


def conditions():
    rustc = subprocess.run(["rustc", "--version"], cwd=HERE, check=True, capture_output=True, text=True).stdout.split()[1]
    return f"rustc {rustc} on {platform.machine()}"


def main():
    if not shutil.which("valgrind"):
        print("SKIPPED: valgrind is not installed, so no instructions were counted")
        return 0
    build()
    found, places = {}, {}
    with sink() as (port, certificate), tempfile.TemporaryDirectory() as directory:
        for client, recipients in CASES:
            few, more = (profile(client, recipients, count, port, certificate, directory) for count in (FEW, MORE))
            each = MORE - FEW
            case = f"{client}, {recipients}"
            calls = {name: round((more[1][name] - few[1][name]) / each, 2) for name in sorted(more[1])}
            found[case] = {
                "instructions": (more[0].total() - few[0].total()) // each,
                "calls": {name: count for name, count in calls.items() if count},
            }
            places[case] = {where: (more[0][where] - few[0][where]) // each for where in more[0]}
            print(f"{case} recipients: {found[case]}")
    if "--where" in sys.argv:
        for case, where in places.items():
            print(f"\n{case} recipients, instructions of a message by source:")
            for source, count in sorted(where.items(), key=lambda item: -item[1])[:32]:
                print(f"{count:10} {source}")
    save("callgrind", found)
    if "--save" in sys.argv:
        LAST.write_text(json.dumps({"with": conditions(), "cases": found}, indent=2) + "\n")
        return 0
    kept = json.loads(LAST.read_text())
    if kept["with"] != conditions():
        print(f"NOT COMPARED: the last counts were taken with {kept['with']}, these with {conditions()}; --save keeps these")
        return 0
    grown = 0
    for case in found:
        if case.startswith("lettre"):
            continue  # For comparison only.
        last = kept["cases"][case]
        now, most = found[case]["instructions"], last["instructions"] * GROWTH
        if now > most:
            print(f"{case} recipients: {now} instructions a message, more than {last['instructions']} and 2 % of that")
            grown += 1
        for name, count in found[case]["calls"].items():
            if count > last["calls"].get(name, 0) + 0.1:
                print(f"{case} recipients: {count} calls of {name} a message, more than {last['calls'].get(name, 0)}")
                grown += 1
    if grown:
        print("If that is meant, run benches/callgrind.py --save and say why in the commit.")
    return min(grown, 1)


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Runs tests/allocations.rs and keeps the counts that it prints."""

import subprocess

from sink import HERE, save


def main():
    command = ["cargo", "test", "--locked", "--test", "allocations", "--", "--nocapture", "--test-threads", "1"]
    done = subprocess.run(command, cwd=HERE.parent, check=True, capture_output=True, text=True)
    lines = sorted(line[line.index("Auto"):] if "Auto" in line else line[line.index("Off"):]
                   for line in done.stdout.splitlines() if " octets" in line and ("Auto" in line or "Off" in line))
    for line in lines:
        print(line)
    save("allocations", [line.replace("Auto", "CHUNKING", 1).replace("Off", "DATA", 1) for line in lines])


if __name__ == "__main__":
    main()

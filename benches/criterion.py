#!/usr/bin/env python3
"""Collects criterion's estimates: the median of each benchmark in nanoseconds."""

import json

from sink import PROGRAMS, save


def main():
    found = {}
    for path in sorted((PROGRAMS.parent / "criterion").glob("*/new/estimates.json")):
        name = json.loads((path.parent / "benchmark.json").read_text())["title"]
        found[name] = json.loads(path.read_text())["median"]["point_estimate"]
        print(f"{found[name]:12.1f} ns {name}")
    save("micro", found)


if __name__ == "__main__":
    main()

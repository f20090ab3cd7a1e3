#!/usr/bin/env python3
"""Notes what the figures were measured on: processor, cores, system, compiler, versions, and the load before it began."""

import json
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path

from sink import HERE, save


def main():
    processor = next(line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    metadata = subprocess.run(["cargo", "metadata", "--locked", "--format-version", "1"], cwd=HERE, check=True, capture_output=True, text=True)
    versions = {package["name"]: package["version"] for package in json.loads(metadata.stdout)["packages"]}
    rustc = subprocess.run(["rustc", "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
    save("machine", {
        "Date": date.today().isoformat(),
        "Machine": f"{processor}, {len([line for line in Path('/proc/cpuinfo').read_text().splitlines() if line.startswith('processor')])} cores, {platform.system()} {platform.release()}",
        "Compiler": f"rustc {rustc}, release mode",
        "Versions": ", ".join(f"{name} {versions[name]}" for name in ("smtp-oauth", "lettre", "mail-send", "rustls", "tokio")),
        "Load of the machine before the run": sys.argv[1],
    })


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Measures what the crate costs to build, with default features, beside lettre, oauth2 and reqwest put together by hand: crates
in the tree, and seconds of a clean build in release mode. `--count` builds nothing. Works in a temporary directory."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sink import HERE, save

PACKAGES = {
    "smtp-oauth": f'smtp-oauth = {{ path = "{HERE.parent}" }}',
    "lettre + oauth2 + reqwest": """
lettre = { version = "0.11.22", default-features = false, features = ["aws-lc-rs", "builder", "hostname", "pool", "rustls-platform-verifier", "smtp-transport", "tokio1-rustls"] }
oauth2 = { version = "5", default-features = false }
reqwest = { version = "0.13.5", default-features = false, features = ["json", "rustls"] }
tokio = { version = "1.51", features = ["macros", "rt-multi-thread"] }
""",
}


def measure(name, dependencies, builds):
    with tempfile.TemporaryDirectory() as directory:
        package = Path(directory)
        (package / "src").mkdir()
        (package / "src/main.rs").write_text("fn main() {}\n")
        (package / "Cargo.toml").write_text(
            f'[package]\nname = "cost"\nversion = "0.0.0"\nedition = "2024"\n\n[dependencies]\n{dependencies}\n\n[workspace]\n'
        )
        tree = subprocess.run(
            ["cargo", "tree", "--prefix", "none", "--edges", "normal,build", "--no-dedupe"],
            cwd=package, check=True, capture_output=True, text=True,
        ).stdout
        crates = {line.split(" (")[0] for line in tree.splitlines()} - {"cost v0.0.0"}
        figure = {"name": name, "crates": len(crates), "seconds": None}
        if builds:
            subprocess.run(["cargo", "fetch", "--quiet"], cwd=package, check=True)
            environment = {**os.environ, "CARGO_TARGET_DIR": str(package / "target")}
            started = time.monotonic()
            subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=package, check=True, env=environment)
            figure["seconds"] = round(time.monotonic() - started, 1)
        return figure


def main():
    figures = [measure(name, dependencies, "--count" not in sys.argv) for name, dependencies in PACKAGES.items()]
    for figure in figures:
        print(figure)
    save("build_cost", figures)


if __name__ == "__main__":
    main()

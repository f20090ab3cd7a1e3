#!/usr/bin/env python3
"""Sends over one warm connection while client and server share one core: what both cost, without the time that it takes to wake
another core, which varies by chance and hides the difference. Linux only."""

import os

from sink import PROGRAMS, build, run, save, sink

OCTETS = 2048
MESSAGES = 4000
ROUNDS = 5
RECIPIENTS = [1, 5, 10, 100]
CLIENTS = ["chunking", "data", "lettre-no-delay", "canned"]


def main():
    build()
    # The programs inherit it.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    figures = []
    with sink() as (port, certificate):
        for recipients in RECIPIENTS:
            best = {}
            for _ in range(ROUNDS):
                for client in CLIENTS:
                    done = run(PROGRAMS / "send", client, port, certificate, recipients, OCTETS, MESSAGES)
                    best[client] = max(best.get(client, 0), round(done["messages"] / done["seconds"], 1))
            figures.append({"recipients": recipients, **best})
            print(figures[-1])
    save("one_core", figures)


if __name__ == "__main__":
    main()

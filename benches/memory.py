#!/usr/bin/env python3
"""Measures memory: the peak of a process that sends 25 MiB, beyond that of one that sends 2 KiB and the message itself, and
what each of 1,000 idle mailers takes."""

from sink import PROGRAMS, build, run, save, sink

KIB = 1024
LARGE = 25 * KIB * KIB
CLIENTS = ["chunking", "data", "lettre", "lettre-no-delay", "mail-send"]


def main():
    build()
    figures = {"message": [], "mailers": None}
    with sink() as (port, certificate):
        for client in CLIENTS:
            peaks = [run(PROGRAMS / "send", client, port, certificate, 1, octets, 2)["peak_kib"] for octets in (2 * KIB, LARGE)]
            beyond = peaks[1] - peaks[0] - LARGE // KIB
            figures["message"].append({"client": client, "small_peak_kib": peaks[0], "large_peak_kib": peaks[1], "beyond_kib": beyond})
            print(f"{client:<16} 2 KiB: {peaks[0]:>7} KiB, 25 MiB: {peaks[1]:>7} KiB, {beyond:>6} KiB beyond the message")
        figures["mailers"] = run(PROGRAMS / "mailers", port, certificate, 1000)
        print(figures["mailers"])
    save("memory", figures)


if __name__ == "__main__":
    main()

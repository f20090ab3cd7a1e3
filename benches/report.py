#!/usr/bin/env python3
"""Makes docs/performance.md and its plots of the figures in benches/results. Invents nothing: what has no figure is not shown."""

import json
import re
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
DOCS = HERE.parent / "docs"
KIB = 1024

OWN, OWN_DATA, LETTRE, FREED, MAIL_SEND, CEILING = (
    "smtp-oauth, CHUNKING", "smtp-oauth, DATA", "lettre", "lettre, NODELAY", "mail-send", "canned octets",
)
COLOURS = {OWN: "#1b7f5a", OWN_DATA: "#62b58f", LETTRE: "#b0413e", FREED: "#d98880", MAIL_SEND: "#7d6b9e", CEILING: "#999999"}


def load(name):
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def size(octets):
    return f"{octets // KIB // KIB} MiB" if octets >= KIB * KIB else f"{octets // KIB} KiB"


def number(value):
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def people(count):
    return f"{count} recipient{'s' if count > 1 else ''}"


def table(head, rows):
    line = lambda cells: "| " + " | ".join(str(cell) for cell in cells) + " |"
    return "\n".join([line(head), line(["---"] + ["---:"] * (len(head) - 1)), *map(line, rows)])


def round_trips(figure):
    """How often a client waits for the server; from the protocol, not from the clock."""
    client, recipients = figure["client"], figure["recipients"]
    if figure["scenario"] == "first":
        # TCP and greeting 2, EHLO, STARTTLS, TLS 1.3, EHLO, AUTH; then the message.
        return 7 + {OWN: 1, OWN_DATA: 2}.get(client, 3 + recipients)
    large = figure["octets"] > 64 * KIB
    return {OWN: 2 if large else 1, OWN_DATA: 2, CEILING: 1, MAIL_SEND: 3 + recipients}.get(client, 4 + recipients)


def groups(figures, scenario):
    """Yields the cells of each case together."""
    cases = {}
    for figure in figures:
        if figure["scenario"] == scenario:
            key = (figure["round_trip_ms"], figure["octets"], figure["recipients"])
            cases.setdefault(key, {})[figure["client"]] = figure
    return cases


def bars(title, unit, rows, limits=()):
    """Draws horizontal bars on a logarithmic scale; `limits` are (row, value) marks of what physics allows."""
    import math

    values = [value for _, _, value in rows] + [value for _, value in limits]
    low = 10 ** math.floor(math.log10(min(values)) - 0.01)
    high = 10 ** math.ceil(math.log10(max(values)) + 0.01)
    left, width, step, top = 250, 470, 20, 48
    x = lambda value: left + width * math.log10(value / low) / math.log10(high / low)
    height = top + step * len(rows) + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="800" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="800" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="22" font-size="14">{escape(title)}</text>',
    ]
    tick = low
    while tick <= high * 1.001:
        parts.append(f'<line x1="{x(tick):.1f}" y1="{top - 8}" x2="{x(tick):.1f}" y2="{height - 30}" stroke="#e0e0e0"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{height - 14}" text-anchor="middle" fill="#555555">{tick:,g}</text>')
        tick *= 10
    parts.append(f'<text x="{left - 8}" y="{height - 14}" text-anchor="end" fill="#555555">{escape(unit)}</text>')
    marks = dict(limits)
    for at, (label, colour, value) in enumerate(rows):
        y = top + step * at
        parts.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{escape(label)}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{x(value) - left:.1f}" height="14" fill="{colour}"/>')
        parts.append(f'<text x="{x(max(value, marks.get(at, 0))) + 6:.1f}" y="{y + 12}">{number(value)}</text>')
        if at in marks:
            at_x = x(marks[at])
            parts.append(f'<line x1="{at_x:.1f}" y1="{y - 2}" x2="{at_x:.1f}" y2="{y + 16}" stroke="#000000" stroke-width="2"/>')
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def plot(name, text):
    directory = DOCS / "performance"
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.svg").write_text(text)
    return f"![{name}](performance/{name}.svg)"


def warm(figures):
    text = ["## A warm connection", "",
            "Messages a second over one connection. *Limit* is what the round trips of this crate's CHUNKING allow; without a delay it is",
            "what prepared octets reach, written by no client at all. Ratios are CHUNKING's to lettre and to a lettre with `TCP_NODELAY`."]
    by_delay = {}
    for key, cells in groups(figures, "warm").items():
        by_delay.setdefault(key[0], []).append((key, cells))
    for delay, cases in by_delay.items():
        rows, drawn, limits = [], [], []
        for (_, octets, recipients), cells in cases:
            own = cells[OWN]["messages_per_second"]
            limit = 1000 / delay / round_trips(cells[OWN]) if delay else cells[CEILING]["messages_per_second"]
            rate = lambda client: cells[client]["messages_per_second"]
            rows.append([
                f"{size(octets)}, {people(recipients)}", number(limit),
                *(number(rate(client)) for client in (OWN, OWN_DATA, LETTRE, FREED, MAIL_SEND)),
                f"{own / rate(LETTRE):.1f}", f"{own / rate(FREED):.1f}",
            ])
            if octets == 2 * KIB:
                for client in (OWN, OWN_DATA, LETTRE, FREED, MAIL_SEND):
                    if delay:
                        limits.append((len(drawn), 1000 / delay / round_trips(cells[client])))
                    drawn.append((f"{people(recipients)}: {client}", COLOURS[client], rate(client)))
        head = ["", "limit", "CHUNKING", "DATA", "lettre", "NODELAY", "mail-send", "÷ lettre", "÷ NODELAY"]
        name = f"warm-{delay}ms"
        drawing = bars(f"2 KiB, one connection, {delay} ms round trip" + (" (mark: what the client's round trips allow)" if delay else ""), "messages/s", drawn, limits)
        text += ["", f"### {delay} ms round trip", "", table(head, rows), "", plot(name, drawing)]
    return text


def one_core():
    found = load("one_core")
    if not found:
        return []
    clients = ["canned", "chunking", "data", "lettre-no-delay"]
    rows = [[people(row["recipients"]), *(number(row[client]) for client in clients),
             number(row["chunking"] / row["lettre-no-delay"]), number(row["chunking"] / row["canned"])] for row in found]
    return ["### One core", "",
            "Above, most of a message without delay is the time that it takes to wake the core on which the other side sleeps, once for each",
            "round trip. Here client and server are processes that share one core, so that only what both do counts; 2 KiB, messages a second.", "",
            table(["", "limit", "CHUNKING", "DATA", "NODELAY", "÷ NODELAY", "÷ limit"], rows)]


def first(figures):
    rows = []
    for (delay, _, _), cells in groups(figures, "first").items():
        for client, figure in cells.items():
            trips = round_trips(figure)
            rows.append([f"{delay} ms, {client}", trips, number(trips * delay) if delay else "", number(figure["median_us"] / 1000)])
    return ["## The first message", "", "From nothing: TCP, STARTTLS, TLS 1.3, AUTH with a token of 1,800 octets at hand, 2 KiB to one recipient.",
            "The first random number of a process is not in it: with `aws-lc-rs` it takes tens of milliseconds (21 here, 0.03 without), as aws-lc gathers entropy",
            "from the processor's jitter. A build with the variable `AWS_LC_SYS_NO_JITTER_ENTROPY=1`, or the feature `ring`, is spared that.", "",
            table(["", "round trips", "limit, ms", "median, ms"], rows)]


def pool(figures):
    rows = []
    for (delay, _, _), cells in groups(figures, "pool").items():
        for client, figure in cells.items():
            rows.append([f"{delay} ms, {client}", figure["connections"], number(figure["messages_per_second"]),
                         number(figure["messages_per_second"] / figure["connections"])])
    return ["## 200 tasks and a pool of 3", "",
            "2 KiB each. Exchange Online allows a mailbox three connections. lettre's limit caps idle connections only, so it opens more; behind a",
            "semaphore of three it is closer to what a mailbox allows. mail-send has no pool: three workers share the messages.", "",
            table(["", "connections opened", "messages/s", "for each connection"], rows)]


def overlap():
    found = load("overlap")
    if not found:
        return []
    rows = {}
    for cell in found:
        rows.setdefault((cell["way"], cell["overlap"]), {})[cell["round_trip_ms"]] = cell["messages_per_second"]
    delays = sorted({cell["round_trip_ms"] for cell in found})
    shown = [[f"{way}, {count} at a time", *(number(rates[delay]) for delay in delays)] for (way, count), rates in rows.items()]
    return ["## A batch that overlaps", "", "Messages a second of `submit_all` over one connection, 2 KiB to one recipient, with so many under way at a time",
            "(`Batch::overlap`); the best of three batches. By DATA no more than the next envelope ever is under way.", "",
            table(["", *(f"{delay} ms" for delay in delays)], shown)]


def cpu(figures):
    cells = groups(figures, "warm").get((0, 2 * KIB, 1))
    if not cells:
        return []
    rows = [[client, number(cells[client]["cpu_us_per_message"])] for client in (OWN, OWN_DATA, LETTRE, FREED, MAIL_SEND, CEILING)]
    drawn = [(client, COLOURS[client], cells[client]["cpu_us_per_message"]) for client in (OWN, OWN_DATA, LETTRE, FREED, MAIL_SEND, CEILING)]
    return ["## Processor time", "", "Of the client's thread, for each warm message of 2 KiB to one recipient over TLS without delay. A client that sleeps between",
            "messages finds its caches cold, which is part of what lettre and mail-send show here.", "",
            table(["", "µs a message"], rows), "", plot("cpu", bars("2 KiB over TLS: processor time of a message", "µs", drawn))]


def counts():
    text = []
    if found := load("allocations"):
        text += ["## Allocations", "", "Counted on the client's thread by `tests/allocations.rs`, which bounds them.", "", *(f"- {line}" for line in found)]
    if found := load("callgrind"):
        rows = []
        for case, figure in found.items():
            calls = ", ".join(f"{count:g} {name}" for name, count in figure["calls"].items())
            rows.append([f"{case} recipient(s)", f"{figure['instructions']:,}", calls])
        text += ["", "## Instructions and system calls", "", "Of one warm message of 2 KiB, by callgrind; `benches/callgrind.py` bounds them.", "",
                 table(["", "instructions", "calls"], rows)]
    return text


def memory():
    found = load("memory")
    if not found:
        return []
    rows = [[row["client"], f"{row['large_peak_kib']:,}", f"{row['beyond_kib']:,}"] for row in found["message"]]
    mailers = found["mailers"]
    return ["## Memory", "", "Peak of a process that sends 25 MiB, and what that is beyond the message and the process that sends 2 KiB.", "",
            table(["", "peak, KiB", "beyond, KiB"], rows), "",
            f"Each of {mailers['mailers']:,} idle mailers takes {number(mailers['built_kib_each'])} KiB when it is built, "
            f"{number(mailers['connected_kib_each'])} KiB with an idle connection."]


def micro():
    found = load("micro")
    if not found:
        return []
    return ["## Without a server", "", table(["", "ns"], [[name, number(value)] for name, value in found.items()])]


def others():
    text = []
    if found := load("peers"):
        rows = sorted(((name, sorted(rates)[len(rates) // 2]) for name, rates in found.items()), key=lambda row: -row[1])
        text += ["## Other languages", "", "Whole processes, one connection, XOAUTH2, 2 KiB, the same server, no delay.", "",
                 table(["", "messages/s"], [[name, number(rate)] for name, rate in rows])]
    if found := load("build_cost"):
        rows = [[row["name"], row["crates"], number(row["seconds"])] for row in found]
        head = ["", "crates", "seconds of a clean build in release mode"]
        # A run with `--count` has no seconds.
        timed = all(row["seconds"] for row in found)
        text += ["", "## Build", "", "Default features; crates of all dependencies.", "",
                 table(head if timed else head[:2], rows if timed else [row[:2] for row in rows])]
    return text


def main():
    figures = load("submission") or []
    machine = load("machine") or {}
    text = ["# Performance", "",
            "Made by `benches/report.py` of the figures in `benches/results`; not written by hand.", "",
            "To repeat everything: `benches/run.sh`, about twenty minutes; `benches/run.sh --quick`, about three minutes. The machine",
            "should have nothing else to do.", ""]
    text += [f"- {name}: {value}" for name, value in machine.items()]
    if not figures:
        text += ["", "Times are missing here: they were not measured yet on a machine that had nothing else to do. The counts below do not depend on",
                 "its load."]
    sections = [warm(figures), one_core(), first(figures), pool(figures), overlap(), cpu(figures)] if figures else []
    for section in [*sections, counts(), micro(), memory(), others()]:
        text += ["", *section] if section else []
    text += ["", "## What was not measured", "",
             "- A real network and a real Exchange Online. The delay is a line that holds every octet half a round trip, with unlimited",
             "  bandwidth and no loss; the server and the line run on the same machine as the client and take processor time from it.",
             "- Sign-in at Entra ID: the token is at hand in every client.",
             "- Building messages: every client is given the same finished octets.",
             "- TLS 1.2 and resumed sessions. Every first message is a full handshake of TLS 1.3.",
             "- Operating systems other than Linux."]
    (DOCS / "performance.md").write_text(re.sub(r"\n{3,}", "\n\n", "\n".join(text)) + "\n")


if __name__ == "__main__":
    main()

"""Sends MESSAGES messages to the sink with aiosmtplib over one connection and XOAUTH2; prints JSON."""

import asyncio
import json
import ssl
import sys
import time

import aiosmtplib


async def token():
    return "t" * 1800


async def main():
    port, certificate, octets, messages = sys.argv[1:]
    tls = ssl.create_default_context(cafile=certificate)
    client = aiosmtplib.SMTP(
        hostname="localhost",
        port=int(port),
        start_tls=True,
        tls_context=tls,
        username="svc-mail@contoso.com",
        oauth_token_generator=token,
    )
    head = "From: svc-mail@contoso.com\r\nTo: undisclosed-recipients:;\r\nSubject: Load\r\n\r\n"
    line = "x" * 76 + "\r\n"
    message = (head + line * (int(octets) // len(line) + 1))[: int(octets) - 2] + "\r\n"
    async with client:
        await client.sendmail("svc-mail@contoso.com", ["reader0@example.com"], message)
        started = time.perf_counter()
        for _ in range(int(messages)):
            await client.sendmail("svc-mail@contoso.com", ["reader0@example.com"], message)
        seconds = time.perf_counter() - started
    print(json.dumps({"client": "aiosmtplib", "messages": int(messages), "seconds": seconds}))


asyncio.run(main())

// Sends MESSAGES messages to the sink with nodemailer's pool of one connection and XOAUTH2; prints JSON.
import fs from "node:fs";
import { createRequire } from "node:module";

const [directory, port, certificate, octets, messages, connections] = process.argv.slice(2);
const nodemailer = createRequire(`${directory}/`)("nodemailer");
const ca = fs.readFileSync(certificate);
const transport = nodemailer.createTransport({
    pool: true,
    maxConnections: Number(connections),
    maxMessages: Infinity,
    host: "localhost",
    port: Number(port),
    secure: false,
    requireTLS: true,
    tls: { ca },
    auth: { type: "OAuth2", user: "svc-mail@contoso.com", accessToken: "t".repeat(1800) },
});
const head = "From: svc-mail@contoso.com\r\nTo: undisclosed-recipients:;\r\nSubject: Load\r\n\r\n";
const line = "x".repeat(76) + "\r\n";
const raw = Buffer.from((head + line.repeat(octets / line.length + 1)).slice(0, octets - 2) + "\r\n");
const mail = { envelope: { from: "svc-mail@contoso.com", to: ["reader0@example.com"] }, raw };

await transport.sendMail(mail);
const started = process.hrtime.bigint();
if (connections === "1") {
    for (let sent = 0; sent < messages; sent++) {
        await transport.sendMail(mail);
    }
} else {
    await Promise.all(Array.from({ length: Number(messages) }, () => transport.sendMail(mail)));
}
const seconds = Number(process.hrtime.bigint() - started) / 1e9;
console.log(JSON.stringify({ client: "nodemailer", messages: Number(messages), seconds }));
transport.close();

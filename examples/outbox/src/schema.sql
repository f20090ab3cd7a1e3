-- The outbox's own tables, for SQLite and PostgreSQL alike: {bytes} is BLOB or BYTEA. Times are milliseconds since 1970.

-- One row for each message; `state` alone decides what may happen to it.
CREATE TABLE IF NOT EXISTS outbox_messages (
    id          TEXT PRIMARY KEY,           -- a ULID: in the order of arrival
    dedup_key   TEXT UNIQUE,                -- the sender's idempotency key
    digest      TEXT NOT NULL,              -- tells a repeated message from another one with the same key
    sender      TEXT NOT NULL,
    recipients  TEXT NOT NULL,              -- a JSON array of addresses
    content     {bytes},                    -- RFC 5322; forgotten when sent or dropped
    state       TEXT NOT NULL,
    due         BIGINT NOT NULL,            -- not to be sent earlier
    attempts    BIGINT NOT NULL DEFAULT 0,
    claim       TEXT,                       -- names the last attempt: only that one may record its outcome
    worker      TEXT,                       -- whose attempt it is
    job         TEXT,                       -- the job in the queue that names this message
    reason      TEXT,                       -- why it is not sent
    refused     TEXT NOT NULL DEFAULT '[]', -- a JSON array of the recipients that did not get it
    created     BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS outbox_messages_due ON outbox_messages (state, due);

-- One row: whether anything may be sent at all.
CREATE TABLE IF NOT EXISTS outbox_queue (
    id          BIGINT PRIMARY KEY,
    paused      TEXT,                       -- why; NULL while it is not
    remedy      TEXT,
    hold_until  BIGINT NOT NULL DEFAULT 0
);
INSERT INTO outbox_queue (id) VALUES (1) ON CONFLICT (id) DO NOTHING;

-- The leases of the workers: one that has not renewed its own is dead.
CREATE TABLE IF NOT EXISTS outbox_workers (
    id          TEXT PRIMARY KEY,
    alive_until BIGINT NOT NULL
);

-- What each mailbox has sent within a day, for its limits.
CREATE TABLE IF NOT EXISTS outbox_sent (
    mailbox     TEXT NOT NULL,
    at          BIGINT NOT NULL,
    recipients  BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS outbox_sent_at ON outbox_sent (mailbox, at);

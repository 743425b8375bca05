#!/usr/bin/env python3
"""Produces the flights with confluent-kafka: idempotent, zstd, keyed by carrier.

Rides out a broker that is killed and comes back. Every delivery report becomes a line of the
ledger, `row partition offset`, when the broker has acknowledged it; row 0 is the first line of the
input. Ends with 0 when every row was acknowledged, else with 1 and the reason on stderr.
"""
import argparse
import json
import sys

from confluent_kafka import KafkaException, Producer

MESSAGE_TIMEOUT_MS = 300_000


def records(path, rows):
    """(row, key, timestamp, value) of the first `rows` lines; the value's bytes are the file's own."""
    with open(path, "rb") as lines:
        for row, line in zip(range(rows), lines):
            head, value = line.rstrip(b"\n").split(b',"value":', 1)
            fields = json.loads(head + b"}")
            yield row, fields["key"].encode(), fields["timestamp"], value[:-1]


class Ledger:
    """What the broker has acknowledged, in the order of the acknowledgements."""

    def __init__(self, path):
        self.file = open(path, "w", buffering=1 << 16)
        self.acked = 0
        self.failed = []

    def callback(self, row):
        def delivered(error, message):
            if error is not None:
                self.failed.append((row, error))
            else:
                self.acked += 1
                self.file.write(f"{row} {message.partition()} {message.offset()}\n")
        return delivered


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bootstrap", "topic", "input", "ledger"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--compression", default="zstd")
    options = parser.parse_args()

    fatal = []

    def on_error(error):
        if error.fatal():
            fatal.append(error)

    producer = Producer({
        "bootstrap.servers": options.bootstrap,
        "enable.idempotence": True,
        "compression.type": options.compression,
        "message.timeout.ms": MESSAGE_TIMEOUT_MS,
        "linger.ms": 5,
        "batch.size": 65_536,
        "queue.buffering.max.messages": 20_000,
        "reconnect.backoff.max.ms": 200,
        "error_cb": on_error,
    })
    ledger = Ledger(options.ledger)
    sent = 0
    for row, key, timestamp, value in records(options.input, options.rows):
        while not fatal:
            try:
                producer.produce(options.topic, value, key, timestamp=timestamp,
                                 headers=[("row", str(row).encode())], on_delivery=ledger.callback(row))
                break
            except BufferError:
                producer.poll(0.1)
                ledger.file.flush()
        if fatal:
            break
        sent += 1
        if sent % 200 == 0:
            producer.poll(0)
            ledger.file.flush()
    while producer.flush(0.2) > 0 and not fatal:
        ledger.file.flush()
    ledger.file.close()
    if fatal or ledger.failed or ledger.acked != options.rows:
        sys.exit(f"flights_produce: {ledger.acked} of {options.rows} acknowledged; fatal: {fatal[:1]}; "
                 f"failed: {len(ledger.failed)}, the first: {ledger.failed[:1]}")


if __name__ == "__main__":
    try:
        main()
    except KafkaException as failure:
        sys.exit(f"flights_produce: {failure}")

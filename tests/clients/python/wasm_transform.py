#!/usr/bin/env python3
"""A transform's work as a client, with confluent-kafka: consume in a group, map, produce, commit what is acknowledged.

Ends when it has taken --count records, and prints one line of JSON.
"""
import argparse
import json
import sys
import time

from confluent_kafka import Consumer, Producer

SECONDS = 600
POLL_SECONDS = 60


def identity(message):
    return message.key(), message.value()


def delayed(message):
    """Flights that depart more than an hour late, by destination."""
    flight = json.loads(message.value())
    delay = flight.get("dep_delay")
    return (flight["dest"].encode(), message.value()) if delay is not None and delay > 60 else None


def first_two(message):
    """What functions/examples/json does, for flat objects."""
    flight = json.loads(message.value())
    total = sum(len(value.encode()) if isinstance(value, str) else value for value in flight.values() if value is not None)
    made = dict(list(flight.items())[:2], sum=total)
    return message.key(), json.dumps(made, separators=(",", ":"), ensure_ascii=False).encode()


MAPS = {"identity": identity, "filter": delayed, "json": first_two}


class Peer:
    def __init__(self, options):
        self.options = options
        common = {"bootstrap.servers": options.bootstrap, "log_level": 0}
        self.consumer = Consumer({**common, "group.id": options.group, "enable.auto.commit": False, "auto.offset.reset": "earliest"})
        self.producer = Producer({**common, "compression.type": options.codec, "linger.ms": 5,
                                  "queue.buffering.max.messages": 1_000_000})
        self.failed = []

    def delivered(self, error, _):
        if error is not None:
            self.failed.append(error)

    def produce(self, made, message):
        key, value = made
        while True:
            try:
                self.producer.produce(self.options.sink, value, key, headers=message.headers(),
                                      timestamp=message.timestamp()[1], on_delivery=self.delivered)
                return
            except BufferError:
                self.producer.poll(0.1)

    def commit(self):
        left = self.producer.flush(POLL_SECONDS)
        if left or self.failed:
            sys.exit(f"wasm_transform: {left} not delivered, failed: {self.failed[:3]}")
        self.consumer.commit(asynchronous=False)

    def run(self):
        apply, read, out, began = MAPS[self.options.map], 0, 0, None
        self.consumer.subscribe([self.options.source])
        deadline = time.monotonic() + SECONDS
        while read < self.options.count:
            messages = self.consumer.consume(1_000, POLL_SECONDS if began is None else 1)
            if time.monotonic() > deadline or (began is None and not messages):
                sys.exit(f"wasm_transform: {read} of {self.options.count} came")
            if began is None:
                began, start = time.monotonic(), time.process_time()
                committed = began
            for message in messages:
                if message.error():
                    sys.exit(f"wasm_transform: {message.error()}")
                made = apply(message)
                if made is not None:
                    out += 1
                    self.produce(made, message)
            read += len(messages)
            self.producer.poll(0)
            if read >= self.options.count or time.monotonic() - committed >= self.options.commit_ms / 1000:
                self.commit()
                committed = time.monotonic()
        figures = {"out": out, "seconds": time.monotonic() - began, "start_cpu_seconds": start, "cpu_seconds": time.process_time()}
        self.consumer.close()
        print(json.dumps(figures))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("bootstrap", "source", "sink", "group"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--map", choices=tuple(MAPS), required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--commit-ms", type=int, default=1000)
    parser.add_argument("--codec", default="none")
    Peer(parser.parse_args()).run()


if __name__ == "__main__":
    main()

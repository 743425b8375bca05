#!/usr/bin/env python3
"""One member of a consumer group that reads the flights and tells a file all it does.

Each line of the log begins with the machine's monotonic clock in nanoseconds, so that the logs of
several members can be merged:

    T A p,p…      partitions assigned          T R p offset row    record handed to the application
    T V p,p…      partitions revoked           T T p offset        about to commit this offset
    T L p,p…      partitions lost              T C p offset        the commit was acknowledged
    T E text      an error that the client reported

Ends on SIGTERM, after a last commit and leaving the group.
"""
import argparse
import os
import signal
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition


class Member:
    def __init__(self, options):
        self.topic = options.topic
        self.commit_every = options.commit_every
        self.log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.lines = []
        self.position = {}  # partition -> next offset, for what was read and not yet committed
        self.running = True
        self.consumer = Consumer({
            "bootstrap.servers": options.bootstrap,
            "group.id": options.group,
            "partition.assignment.strategy": options.strategy,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "reconnect.backoff.max.ms": 200,
            "log_level": 2,
            "error_cb": self.error,
        })
        self.cooperative = options.strategy == "cooperative-sticky"

    def tell(self, kind, what):
        self.lines.append(f"{time.monotonic_ns()} {kind} {what}\n")

    def error(self, error):
        """A broker that is down is no news, and would be reported several times a second."""
        if error.code() not in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
            self.tell("E", repr(str(error)))

    def write(self):
        if self.lines:
            os.write(self.log, "".join(self.lines).encode())
            self.lines.clear()

    def assigned(self, consumer, partitions):
        self.tell("A", numbers(partitions))
        self.write()
        (consumer.incremental_assign if self.cooperative else consumer.assign)(partitions)

    def revoked(self, consumer, partitions):
        self.commit()
        self.tell("V", numbers(partitions))
        self.gone(consumer, partitions)

    def lost(self, consumer, partitions):
        self.tell("L", numbers(partitions))
        self.gone(consumer, partitions)

    def gone(self, consumer, partitions):
        self.write()
        for one in partitions:
            self.position.pop(one.partition, None)
        if self.cooperative:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()

    def commit(self):
        """Commits what was read since the last commit; a failure leaves it for the next one."""
        if not self.position:
            return
        offsets = [TopicPartition(self.topic, p, offset) for p, offset in self.position.items()]
        for one in offsets:
            self.tell("T", f"{one.partition} {one.offset}")
        self.write()
        try:
            results = self.consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as failure:
            self.tell("E", repr(f"commit: {failure}"))
            return
        for one in results:
            if one.error is None:
                self.tell("C", f"{one.partition} {one.offset}")
                self.position.pop(one.partition, None)
            else:
                self.tell("E", repr(f"commit of partition {one.partition}: {one.error}"))

    def run(self):
        self.consumer.subscribe([self.topic], on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.lost)
        uncommitted = 0
        while self.running:
            message = self.consumer.poll(0.2)
            if message is None:
                self.commit()
                uncommitted = 0
                self.write()
                continue
            if message.error():
                self.tell("E", repr(str(message.error())))
                continue
            row = dict(message.headers())["row"].decode()
            self.tell("R", f"{message.partition()} {message.offset()} {row}")
            self.position[message.partition()] = message.offset() + 1
            uncommitted += 1
            if uncommitted % 100 == 0:
                self.write()
            if uncommitted >= self.commit_every:
                self.commit()
                uncommitted = 0
        self.commit()
        self.consumer.close()
        self.write()


def numbers(partitions):
    return ",".join(str(one.partition) for one in partitions) or "-"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("bootstrap", "topic", "group", "log"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--strategy", default="range,roundrobin",
                        choices=("range,roundrobin", "roundrobin", "cooperative-sticky"))
    parser.add_argument("--commit-every", type=int, default=2000, help="records between two commits")
    member = Member(parser.parse_args())

    def end(*_):
        member.running = False

    signal.signal(signal.SIGTERM, end)
    member.run()


if __name__ == "__main__":
    main()

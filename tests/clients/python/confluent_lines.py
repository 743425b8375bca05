#!/usr/bin/env python3
"""Lines through confluent-kafka.

    confluent_lines.py produce --bootstrap H:P --topic T --codec C    lines of stdin become values
    confluent_lines.py consume --bootstrap H:P --topic T --count N    values of all partitions, one a line
"""
import argparse
import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

SECONDS = 60


def produce(options):
    producer = Producer({"bootstrap.servers": options.bootstrap, "compression.type": options.codec,
                         "enable.idempotence": True, "linger.ms": 20})
    failed = []

    def delivered(error, _):
        if error is not None:
            failed.append(error)

    for line in sys.stdin:
        producer.produce(options.topic, line.rstrip("\n"), on_delivery=delivered)
    left = producer.flush(SECONDS)
    if left or failed:
        sys.exit(f"confluent_lines: {left} not delivered, failed: {failed[:3]}")


def consume(options):
    consumer = Consumer({"bootstrap.servers": options.bootstrap, "group.id": "confluent-lines",
                         "enable.auto.commit": False, "check.crcs": True})
    partitions = consumer.list_topics(options.topic, SECONDS).topics[options.topic].partitions
    consumer.assign([TopicPartition(options.topic, p, OFFSET_BEGINNING) for p in partitions])
    read = 0
    while read < options.count:
        batch = consumer.consume(min(options.count - read, 500), SECONDS)
        if not batch:
            sys.exit(f"confluent_lines: {read} of {options.count} came")
        for message in batch:
            if message.error():
                sys.exit(f"confluent_lines: {message.error()}")
            print(message.value().decode())
            read += 1
    consumer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("produce", "consume"))
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--codec", default="none")
    parser.add_argument("--count", type=int, default=0)
    options = parser.parse_args()
    (produce if options.verb == "produce" else consume)(options)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Lines through kafka-python, a client in pure Python. The codecs none and gzip need no other package.

    kafka_python_lines.py produce --bootstrap H:P --topic T --codec C    lines of stdin become values
    kafka_python_lines.py consume --bootstrap H:P --topic T --count N    values, read as a group's only member
"""
import argparse
import sys

from kafka import KafkaConsumer, KafkaProducer

SECONDS = 60


def produce(options):
    codec = None if options.codec == "none" else options.codec
    producer = KafkaProducer(bootstrap_servers=options.bootstrap, compression_type=codec, acks="all", linger_ms=20)
    for future in [producer.send(options.topic, line.rstrip("\n").encode()) for line in sys.stdin]:
        future.get(SECONDS)
    producer.close()


def consume(options):
    consumer = KafkaConsumer(options.topic, bootstrap_servers=options.bootstrap, group_id=f"kafka-python-{options.topic}",
                             auto_offset_reset="earliest", enable_auto_commit=False, consumer_timeout_ms=SECONDS * 1000)
    read = 0
    for record in consumer:
        print(record.value.decode())
        read += 1
        if read == options.count:
            consumer.commit()
            break
    consumer.close()
    if read < options.count:
        sys.exit(f"kafka_python_lines: {read} of {options.count} came")


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

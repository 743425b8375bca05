#!/usr/bin/env python3
"""What an application does with confluent-kafka, checked one by one against a broker.

Each check prints one line, `ok NAME COUNT` or `FAIL NAME reason`; the exit code is 1 when any failed.
Topics are created for each check and deleted by the last one.
"""
import argparse
import sys
import time
import traceback

from confluent_kafka import (
    OFFSET_BEGINNING, ConsumerGroupTopicPartitions, Consumer, IsolationLevel, KafkaError, KafkaException, Producer,
    TopicCollection, TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType,
)

SECONDS = 30
CHECKS = []


def check(name):
    def register(body):
        CHECKS.append((name, body))
        return body
    return register


def require(good, *what):
    if not good:
        raise AssertionError(" ".join(map(str, what)))


def eventually(what, condition, seconds=10):
    """Waits for a change to show: a broker may answer from an image that is a moment old."""
    deadline = time.monotonic() + seconds
    while not condition():
        require(time.monotonic() < deadline, what)
        time.sleep(0.02)


class Fixture:
    """The connection to the broker and a few abbreviations."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.admin = AdminClient({"bootstrap.servers": bootstrap})
        self.topics = []

    def topic(self, name, partitions=1, **config):
        topic = f"confluent-{name}"
        entries = {key.replace("_", "."): value for key, value in config.items()}
        self.admin.create_topics([NewTopic(topic, partitions, 1, config=entries)])[topic].result(SECONDS)
        self.topics.append(topic)
        eventually(f"{topic} is not listed", lambda: topic in self.names())
        return topic

    def names(self):
        return self.admin.list_topics(timeout=SECONDS).topics

    def produce(self, topic, values, partition=None, **config):
        """Produces str, None or (key, value, headers, timestamp) and gives the acknowledged messages."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5, **config})
        done = []
        for value in values:
            key, value, headers, timestamp = value if isinstance(value, tuple) else (None, value, None, 0)
            options = {} if partition is None else {"partition": partition}
            producer.produce(topic, value, key, headers=headers, timestamp=timestamp,
                             on_delivery=lambda error, message: done.append((error, message)), **options)
            producer.poll(0)
        require(producer.flush(SECONDS) == 0, "not delivered in time")
        for error, _ in done:
            if error is not None:
                raise KafkaException(error)
        return [message for _, message in done]

    def consumer(self, group="confluent-checks", **config):
        return Consumer({"bootstrap.servers": self.bootstrap, "group.id": group, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, "session.timeout.ms": 10_000, "heartbeat.interval.ms": 500, **config})

    def read(self, consumer, count, seconds=SECONDS):
        messages = []
        deadline = time.monotonic() + seconds
        while len(messages) < count:
            require(time.monotonic() < deadline, f"{len(messages)} of {count} came within {seconds} s")
            message = consumer.poll(1)
            if message is not None:
                if message.error():
                    raise KafkaException(message.error())
                messages.append(message)
        return messages

    def read_from(self, topic, partition, offset, count):
        consumer = self.consumer()
        consumer.assign([TopicPartition(topic, partition, offset)])
        messages = self.read(consumer, count)
        consumer.close()
        return messages

    def error_of(self, future):
        """The error code that a future fails with; None when it does not fail."""
        try:
            future.result(SECONDS)
        except KafkaException as failure:
            return failure.args[0].code()
        return None


@check("metadata")
def metadata(f):
    topic = f.topic("metadata", 4)
    found = f.admin.list_topics(timeout=SECONDS)
    require(len(found.brokers) == 1, "brokers", found.brokers)
    broker = next(iter(found.brokers.values()))
    require(f"{broker.host}:{broker.port}" == f.bootstrap, "advertised", broker)
    require(sorted(found.topics[topic].partitions) == [0, 1, 2, 3], found.topics[topic].partitions)
    require(found.controller_id in found.brokers, "controller", found.controller_id)
    return len(found.topics)


@check("describe-cluster")
def describe_cluster(f):
    cluster = f.admin.describe_cluster(request_timeout=SECONDS).result(SECONDS)
    require(cluster.cluster_id and len(cluster.nodes) == 1 and cluster.controller is not None, cluster)
    return len(cluster.nodes)


@check("describe-topics")
def describe_topics(f):
    topic = f.topic("described", 3)
    one = f.admin.describe_topics(TopicCollection([topic]))[topic].result(SECONDS)
    require(str(one.topic_id) and len(one.partitions) == 3 and all(len(p.isr) == 1 for p in one.partitions), one)
    missing = f.admin.describe_topics(TopicCollection(["confluent-nowhere"]))["confluent-nowhere"]
    require(f.error_of(missing) == KafkaError.UNKNOWN_TOPIC_OR_PART, "a topic that does not exist")
    return len(one.partitions)


@check("create-topic-errors")
def create_topic_errors(f):
    topic = f.topic("twice")
    wanted = {
        KafkaError.TOPIC_ALREADY_EXISTS: NewTopic(topic, 1, 1),
        KafkaError.INVALID_PARTITIONS: NewTopic("confluent-bad-1", 0, 1),
        KafkaError.TOPIC_EXCEPTION: NewTopic("confluent bad/name", 1, 1),
        KafkaError.INVALID_REPLICATION_FACTOR: NewTopic("confluent-bad-2", 1, 7),
        KafkaError.INVALID_CONFIG: NewTopic("confluent-bad-3", 1, 1, config={"retention.ms": "soon"}),
    }
    for code, new in wanted.items():
        found = f.error_of(f.admin.create_topics([new])[new.topic])
        require(found == code, f"{new.topic}: error {found}, expected {code}")
    only_checked = NewTopic("confluent-validated", 1, 1)
    f.admin.create_topics([only_checked], validate_only=True)["confluent-validated"].result(SECONDS)
    require("confluent-validated" not in f.names(), "validate_only created it")
    return len(wanted) + 1


@check("create-partitions")
def create_partitions(f):
    topic = f.topic("grows", 2)
    f.admin.create_partitions([NewPartitions(topic, 5)])[topic].result(SECONDS)
    require(f.error_of(f.admin.create_partitions([NewPartitions(topic, 3)])[topic]) == KafkaError.INVALID_PARTITIONS,
            "fewer partitions were accepted")
    eventually("not 5 partitions", lambda: len(f.names()[topic].partitions) == 5)
    return len(f.produce(topic, [f"p{p}" for p in range(5)], partition=4))


@check("auto-create")
def auto_create(f):
    f.topics.append("confluent-auto")
    return len(f.produce("confluent-auto", ["a", "b", "c"]))


@check("describe-configs")
def describe_configs(f):
    topic = f.topic("configs", segment_bytes="1048576")
    resource = ConfigResource(ResourceType.TOPIC, topic)
    entries = f.admin.describe_configs([resource])[resource].result(SECONDS)
    for name in ("cleanup.policy", "compression.type", "max.message.bytes", "message.timestamp.type", "min.insync.replicas",
                 "retention.bytes", "retention.ms", "segment.bytes", "segment.ms", "flush.messages"):
        require(name in entries, name, "is missing")
    require(entries["segment.bytes"].value == "1048576" and not entries["segment.bytes"].is_default, "segment.bytes")
    require(entries["segment.ms"].is_default, "segment.ms is not a default")
    broker = ConfigResource(ResourceType.BROKER, str(f.admin.list_topics(timeout=SECONDS).controller_id))
    require(len(f.admin.describe_configs([broker])[broker].result(SECONDS)) > 0, "no broker configs")
    return len(entries)


@check("alter-configs")
def alter_configs(f):
    topic = f.topic("altered")

    def alter(operation, name, value=None):
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
            ConfigEntry(name, value, incremental_operation=operation)])
        return f.admin.incremental_alter_configs([resource])[resource]

    def value():
        resource = ConfigResource(ResourceType.TOPIC, topic)
        return f.admin.describe_configs([resource])[resource].result(SECONDS)["retention.ms"].value

    default = value()
    alter(AlterConfigOpType.SET, "retention.ms", "3600000").result(SECONDS)
    eventually("set", lambda: value() == "3600000")
    alter(AlterConfigOpType.DELETE, "retention.ms").result(SECONDS)
    eventually("delete", lambda: value() == default)
    require(f.error_of(alter(AlterConfigOpType.SET, "retention.ms", "soon")) == KafkaError.INVALID_CONFIG, "a bad value")
    require(f.error_of(alter(AlterConfigOpType.SET, "no.such.config", "1")) == KafkaError.INVALID_CONFIG, "an unknown name")
    return 4


@check("record-shapes")
def record_shapes(f):
    """Null and empty keys, values and headers, a megabyte of value, timestamps: all come back as sent."""
    topic = f.topic("shapes", max_message_bytes="2000000")
    sent = [
        (None, None, None, 1), (b"", b"", [], 2), (b"k", None, [("h", None)], 3), (None, b"v", [("h", b""), ("h", b"2")], 4),
        ("schlüssel".encode(), "wert ✓".encode(), [("übersicht", b"\x00\xff")], 1_357_034_400_000), (b"big", b"x" * 1_000_000, None, 5),
    ]
    f.produce(topic, sent, **{"message.max.bytes": 2_000_000})
    for message, (key, value, headers, timestamp) in zip(f.read_from(topic, 0, 0, len(sent)), sent):
        require(message.key() == key and message.value() == value, message.offset(), message.key())
        require((message.headers() or []) == (headers or []), message.offset(), message.headers())
        require(message.timestamp() == (1, timestamp), message.offset(), message.timestamp())
    return len(sent)


@check("log-append-time")
def log_append_time(f):
    topic = f.topic("append-time", message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000) - 1000
    acked = f.produce(topic, [(None, b"v", None, 77)] * 3)
    read = f.read_from(topic, 0, 0, 3)
    for message in acked + read:
        kind, at = message.timestamp()
        require(kind == 2 and before <= at <= time.time() * 1000 + 1000, "timestamp", message.timestamp())
    return len(read)


@check("acks")
def acks(f):
    """acks=0, 1 and all, idempotent and not: every record is there in the end."""
    topic = f.topic("acks")
    count = 0
    for config in ({"acks": 0}, {"acks": 1}, {"acks": "all"}, {"enable.idempotence": True}):
        f.produce(topic, [f"{config} {i}" for i in range(100)], **config)
        count += 100
    values = {message.value() for message in f.read_from(topic, 0, 0, count)}
    require(len(values) == count, len(values), "different values")
    return count


@check("message-too-large")
def message_too_large(f):
    """MESSAGE_TOO_LARGE for the one batch; the producer's connection lives on."""
    topic = f.topic("small", max_message_bytes="10000")
    producer = Producer({"bootstrap.servers": f.bootstrap, "linger.ms": 0})
    outcome = []
    for value in (b"x" * 50_000, b"fits"):
        producer.produce(topic, value, on_delivery=lambda error, message: outcome.append(error and error.code()))
        require(producer.flush(SECONDS) == 0, "no answer")
    require(outcome == [KafkaError.MSG_SIZE_TOO_LARGE, None], outcome)
    return len(outcome)


@check("unknown-topic")
def unknown_topic(f):
    """A consumer that names a topic that does not exist is told so, and does not create it."""
    consumer = f.consumer("confluent-unknown", **{"allow.auto.create.topics": False})
    consumer.subscribe(["confluent-does-not-exist"])
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is not None:
            require(message.error().code() == KafkaError.UNKNOWN_TOPIC_OR_PART, message.error())
            break
    else:
        raise AssertionError("no error within the time")
    consumer.close()
    require("confluent-does-not-exist" not in f.names(), "it was created")
    return 1


@check("list-offsets")
def list_offsets(f):
    topic = f.topic("offsets")
    f.produce(topic, [(None, b"v", None, 1000 + 10 * i) for i in (0, 1, 5, 2, 3)])
    tp = TopicPartition(topic, 0)

    def offset(spec, isolation=IsolationLevel.READ_UNCOMMITTED):
        return f.admin.list_offsets({tp: spec}, isolation_level=isolation)[tp].result(SECONDS).offset

    found = [offset(OffsetSpec.earliest()), offset(OffsetSpec.latest()), offset(OffsetSpec.max_timestamp()),
             offset(OffsetSpec.for_timestamp(1005)), offset(OffsetSpec.for_timestamp(1020)), offset(OffsetSpec.for_timestamp(2000)),
             offset(OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)]
    require(found == [0, 5, 2, 1, 2, -1, 5], found)
    consumer = f.consumer()
    times = consumer.offsets_for_times([TopicPartition(topic, 0, 1005), ], SECONDS)
    require(times[0].offset == 1, times)
    require(consumer.get_watermark_offsets(tp, SECONDS) == (0, 5), "watermarks")
    consumer.close()
    return len(found) + 2


@check("delete-records")
def delete_records(f):
    topic = f.topic("deleted")
    f.produce(topic, [str(i) for i in range(100)], **{"linger.ms": 0, "batch.num.messages": 7})
    tp = TopicPartition(topic, 0, 40)
    low = f.admin.delete_records([tp])[tp].result(SECONDS).low_watermark
    require(low == 40, "low watermark", low)
    require([m.offset() for m in f.read_from(topic, 0, OFFSET_BEGINNING, 60)] == list(range(40, 100)), "what is left")
    beyond = TopicPartition(topic, 0, 101)
    require(f.error_of(f.admin.delete_records([beyond])[beyond]) == KafkaError.OFFSET_OUT_OF_RANGE, "beyond the end")
    return low


@check("offset-out-of-range")
def offset_out_of_range(f):
    """A fetch beyond the end resets to the earliest record, as the consumer is configured."""
    topic = f.topic("range")
    f.produce(topic, ["only"])
    return len(f.read_from(topic, 0, 1_000_000, 1))


@check("mid-batch-offset")
def mid_batch_offset(f):
    """Reading from the middle of a compressed batch starts at the record that was asked for."""
    topic = f.topic("mid-batch")
    f.produce(topic, [str(i) for i in range(50)], **{"compression.type": "zstd", "linger.ms": 200})
    require([m.offset() for m in f.read_from(topic, 0, 33, 17)] == list(range(33, 50)), "offsets")
    return 17


def balanced(f, strategy, topic, partitions, **member_config):
    """Two members; the second joins while the first is reading, then the first leaves."""
    # A name of its own: static members of an earlier run may still be in their session.
    group = f"group-of-{topic}-{time.time_ns()}"

    def produce(word):
        # To each partition, so that each member has something to read and to commit.
        for p in range(partitions):
            f.produce(topic, [f"{word} {i}" for i in range(p, 200, partitions)], partition=p)

    produce("first")
    config = {"partition.assignment.strategy": strategy}
    one = f.consumer(group, **config, **{k: f"{v}-1" for k, v in member_config.items()})
    one.subscribe([topic])
    first = f.read(one, 200)
    one.commit(asynchronous=False)
    two = f.consumer(group, **config, **{k: f"{v}-2" for k, v in member_config.items()})
    two.subscribe([topic])
    deadline = time.monotonic() + SECONDS
    while not (len(two.assignment()) == len(one.assignment()) == partitions // 2):
        require(time.monotonic() < deadline, "not balanced:", one.assignment(), two.assignment())
        require(one.poll(0.1) is None and two.poll(0.1) is None, "a record that was committed came again")
    produce("second")
    second = []
    while len(second) < 200:
        require(time.monotonic() < deadline, len(second), "of the second 200 came")
        second += [m for m in (one.poll(0.05), two.poll(0.05)) if m is not None]
    one.commit(asynchronous=False)
    two.commit(asynchronous=False)
    require({m.value() for m in first} == {f"first {i}".encode() for i in range(200)}, "first")
    require({m.value() for m in second} == {f"second {i}".encode() for i in range(200)}, "second")
    return one, two, group


@check("group.eager")
def group_eager(f):
    one, two, _ = balanced(f, "range", f.topic("eager", 4), 4)
    one.close()
    two.close()
    return 400


@check("group.cooperative")
def group_cooperative(f):
    one, two, _ = balanced(f, "cooperative-sticky", f.topic("cooperative", 4), 4)
    one.close()
    two.close()
    return 400


@check("group.static")
def group_static(f):
    """A static member that comes back within its session keeps its partitions, without a rebalance."""
    topic = f.topic("static", 4)
    one, two, group = balanced(f, "range", topic, 4, **{"group.instance.id": "instance"})
    held = sorted(tp.partition for tp in two.assignment())
    two.close()  # a static member does not leave the group
    two = f.consumer(group, **{"partition.assignment.strategy": "range", "group.instance.id": "instance-2"})
    two.subscribe([topic])
    deadline = time.monotonic() + SECONDS
    while not two.assignment():
        require(time.monotonic() < deadline, "no assignment after coming back")
        two.poll(0.1)
        one.poll(0.1)
    require(sorted(tp.partition for tp in two.assignment()) == held, two.assignment())
    description = f.admin.describe_consumer_groups([group])[group].result(SECONDS)
    require({m.group_instance_id for m in description.members} == {"instance-1", "instance-2"}, description.members)
    one.close()
    two.close()
    return len(description.members)


@check("commit-metadata")
def commit_metadata(f):
    topic = f.topic("commits", 2)
    consumer = f.consumer("confluent-commits")
    consumer.commit(offsets=[TopicPartition(topic, 0, 7, metadata="naïve ✓"), TopicPartition(topic, 1, 0)], asynchronous=False)
    back = consumer.committed([TopicPartition(topic, p) for p in (0, 1)], SECONDS)
    consumer.close()
    require([(tp.offset, tp.metadata or "") for tp in back] == [(7, "naïve ✓"), (0, "")],
            [(tp.offset, tp.metadata) for tp in back])
    return len(back)


@check("read-committed")
def read_committed(f):
    topic = f.topic("committed")
    f.produce(topic, [str(i) for i in range(100)])
    consumer = f.consumer("confluent-rc", **{"isolation.level": "read_committed"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    count = len(f.read(consumer, 100))
    consumer.close()
    return count


@check("groups")
def groups(f):
    """List, describe, offsets, alter offsets and delete; a group with members is not deleted."""
    topic = f.topic("groups", 2)
    f.produce(topic, [str(i) for i in range(10)], partition=1)
    consumer = f.consumer("confluent-groups")
    consumer.subscribe([topic])
    f.read(consumer, 10)
    consumer.commit(asynchronous=False)
    listed = {g.group_id: g for g in f.admin.list_consumer_groups(request_timeout=SECONDS).result(SECONDS).valid}
    require("confluent-groups" in listed, sorted(listed))
    group = f.admin.describe_consumer_groups(["confluent-groups"])["confluent-groups"].result(SECONDS)
    require(group.state.name == "STABLE" and len(group.members) == 1, group.state)
    require({tp.partition for tp in group.members[0].assignment.topic_partitions} == {0, 1}, "assignment")
    require(f.error_of(f.admin.delete_consumer_groups(["confluent-groups"])["confluent-groups"]) == KafkaError.NON_EMPTY_GROUP,
            "a group with a member was deleted")
    consumer.close()
    group = f.admin.describe_consumer_groups(["confluent-groups"])["confluent-groups"].result(SECONDS)
    require(group.state.name == "EMPTY", group.state)

    def offsets():
        request = ConsumerGroupTopicPartitions("confluent-groups")
        answer = f.admin.list_consumer_group_offsets([request])["confluent-groups"].result(SECONDS)
        return {tp.partition: tp.offset for tp in answer.topic_partitions}

    require(offsets().get(1) == 10, offsets())
    change = ConsumerGroupTopicPartitions("confluent-groups", [TopicPartition(topic, 1, 4)])
    f.admin.alter_consumer_group_offsets([change])["confluent-groups"].result(SECONDS)
    require(offsets()[1] == 4, offsets())
    f.admin.delete_consumer_groups(["confluent-groups"])["confluent-groups"].result(SECONDS)
    left = [g.group_id for g in f.admin.list_consumer_groups(request_timeout=SECONDS).result(SECONDS).valid]
    require("confluent-groups" not in left, left)
    return 7


@check("delete-topics")
def delete_topics(f):
    for topic, future in f.admin.delete_topics(f.topics, operation_timeout=SECONDS).items():
        future.result(SECONDS)
    eventually("topics are still listed", lambda: not set(f.topics) & set(f.names()))
    gone = f.admin.delete_topics(["confluent-nowhere"])["confluent-nowhere"]
    require(f.error_of(gone) == KafkaError.UNKNOWN_TOPIC_OR_PART, "a topic that does not exist")
    return len(f.topics)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--only", help="names of checks, separated by commas")
    options = parser.parse_args()
    fixture = Fixture(options.bootstrap)
    failed = False
    for name, body in CHECKS:
        if options.only and name not in options.only.split(","):
            continue
        try:
            print(f"ok {name} {body(fixture)}", flush=True)
        except Exception as failure:
            failed = True
            place = traceback.extract_tb(failure.__traceback__)[-1]
            reason = " ".join(f"{type(failure).__name__}: {failure}".split())
            print(f"FAIL {name} {reason} ({place.name}:{place.lineno})", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

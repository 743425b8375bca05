"""Functions and transforms of a broker over HTTP, and what their topics hold."""
import json
import struct
import urllib.error
import urllib.request
from collections import defaultdict

from . import paths, process
from .scrape import scrape

ARTIFACTS = paths.REPO / "functions" / "examples" / "dist"
SECONDS = 60
# Clients of a broker that is killed on purpose: they come back at once, and say nothing of it.
QUIET = {"log_level": 0, "log.connection.close": False, "reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 100}
_COMMIT_KEY = 1


class Refused(Exception):
    """The broker's answer is an error; `status` is HTTP's, `code` the broker's."""

    def __init__(self, request, status, body):
        super().__init__(f"{request}: {status} {body}")
        self.status = status
        self.code = body.get("code") if isinstance(body, dict) else None


class Transforms:
    """The API of docs/http.md at a broker that may be killed and started again."""

    def __init__(self, broker):
        self.broker = broker

    def request(self, method, path, body=None):
        """The answer's status and JSON; `body` is JSON, or bytes as they are."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        url = f"http://{self.broker.ready['admin']}{path}"
        asked = urllib.request.Request(url, content, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=SECONDS) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                told = json.loads(text)
            except ValueError:
                told = text
            raise Refused(f"{method} {path}", error.code, told) from None

    def upload(self, example):
        """The ID of a function of functions/examples."""
        artifact = paths.need(ARTIFACTS / f"{example}.wasm").read_bytes()
        return self.request("POST", f"/v1/functions?label={example}", artifact)[1]["id"]

    def deploy(self, name, function, source, sink, **more):
        """HTTP's status and the deployment."""
        return self.request("POST", "/v1/transforms",
                            {"name": name, "function": function, "source": source, "sinks": [sink], **more})

    def act(self, name, action, **body):
        """pause, resume, rollback or rewind."""
        return self.request("POST", f"/v1/transforms/{name}/{action}", body)[1]

    def status(self, name):
        return self.request("GET", f"/v1/transforms/{name}")[1]

    def metrics(self):
        return scrape(f"http://{self.broker.ready['admin']}/metrics")

    def wait(self, what, name, condition, seconds=SECONDS, pause=0.02):
        """Polls the transform's status until `condition(status)` is true; returns that status."""
        last = {}

        def holds():
            self.broker.require_running()
            last["status"] = self.status(name)
            return last["status"] if condition(last["status"]) else None

        try:
            return process.wait_until(what, holds, seconds, pause)
        except process.Timeout as late:
            raise process.Timeout(f"{late}; {name} is {json.dumps(last['status'])}\n{self.broker.log_tail(10)}") from late

    def wait_done(self, name, ends, seconds):
        """Until each task has committed its partition's end, as `ends` has it: {partition: offset}."""
        return self.wait(f"{name} has taken everything", name, lambda status: is_done(status, ends), seconds)


def committed(status):
    """{partition: offset}; -1 where the task has not begun."""
    return {task["partition"]: task["committed"] for task in status["tasks"]}


def is_done(status, ends):
    return status["state"] == "running" and status["lag"] == 0 and committed(status) == ends


def ends(bootstrap, topic):
    """{partition: end offset} of a topic, by a client that knows nothing yet."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({**QUIET, "bootstrap.servers": bootstrap, "group.id": "show-ends"})
    try:
        partitions = consumer.list_topics(topic, SECONDS).topics[topic].partitions
        return {p: consumer.get_watermark_offsets(TopicPartition(topic, p), SECONDS)[1] for p in sorted(partitions)}
    finally:
        consumer.close()


def read(bootstrap, topic):
    """Messages of a topic up to its ends as they are now, each partition in its order and without a gap."""
    from confluent_kafka import Consumer, TopicPartition

    until = ends(bootstrap, topic)
    consumer = Consumer({**QUIET, "bootstrap.servers": bootstrap, "group.id": "show-read", "enable.auto.commit": False,
                         "auto.offset.reset": "error"})
    try:
        consumer.assign([TopicPartition(topic, p, 0) for p, end in until.items() if end])
        following = dict.fromkeys(until, 0)
        left = sum(until.values())
        while left:
            messages = consumer.consume(min(left, 5000), SECONDS)
            if not messages:
                raise process.Timeout(f"{left} records of {topic} did not come within {SECONDS} s")
            for message in messages:
                p, offset = message.partition(), message.offset()
                if message.error() or (offset < until[p] and offset != following[p]):
                    raise ValueError(f"{topic}-{p}: {message.error() or f'offset {offset} where {following[p]} is due'}")
                if offset < until[p]:
                    following[p] += 1
                    left -= 1
                    yield message
    finally:
        consumer.close()


def group_offsets(bootstrap, group, topic, partitions):
    """{partition: offset} that a group has committed, as the group protocol tells it."""
    from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
    from confluent_kafka.admin import AdminClient

    request = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, p) for p in partitions])
    admin = AdminClient({**QUIET, "bootstrap.servers": bootstrap})
    answer = admin.list_consumer_group_offsets([request])[group].result(SECONDS)
    return {one.partition: one.offset for one in answer.topic_partitions}


def commits(bootstrap, group):
    """Every commit of a group that the log has, {partition of the source: [(ms since 1970, offset)]} in order."""
    found = defaultdict(list)
    for message in read_compacted(bootstrap, "__consumer_offsets"):
        key, value = message.key(), message.value()
        kind, length = struct.unpack_from(">hh", key)
        if kind != _COMMIT_KEY or value is None or key[4:4 + length].decode() != group:
            continue
        partition, = struct.unpack_from(">i", key, len(key) - 4)
        offset, = struct.unpack_from(">q", value, 2)
        found[partition].append((message.timestamp()[1], offset))
    return found


def read_compacted(bootstrap, topic):
    """As `read`, of a topic whose offsets may have gaps."""
    from confluent_kafka import Consumer, KafkaError, TopicPartition

    until = ends(bootstrap, topic)
    open_partitions = {p for p, end in until.items() if end}
    consumer = Consumer({**QUIET, "bootstrap.servers": bootstrap, "group.id": "show-read", "enable.auto.commit": False,
                         "auto.offset.reset": "earliest", "enable.partition.eof": True})
    try:
        consumer.assign([TopicPartition(topic, p, 0) for p in open_partitions])
        while open_partitions:
            messages = consumer.consume(1000, 1)
            if not messages:
                raise process.Timeout(f"{topic}: the ends of {sorted(open_partitions)} did not come")
            for message in messages:
                if message.error() is None:
                    yield message
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    open_partitions.discard(message.partition())
                else:
                    raise ValueError(f"{topic}: {message.error()}")
    finally:
        consumer.close()


class Descent:
    """Where the records of a source partition go back: from source offset `before`, which was written at offset
    `before_at` of the place, to source offset `to` at offset `at`."""

    def __init__(self, place, source, before, before_at, to, at):
        self.place, self.source = place, source
        self.before, self.before_at, self.to, self.at = before, before_at, to, at

    def __str__(self):
        return (f"{self.place}: source partition {self.source} goes back from offset {self.before} (at {self.before_at}) "
                f"to {self.to} (at {self.at})")


class Passes:
    """The offsets of a source as they were written, cut where they go back.

    A task writes in its source's order; where that is not so it has begun again. `passes[place, source]` is a list of ascending
    lists of source offsets; a place is whatever is written to in one order: a partition of a sink or of dead letters.
    """

    def __init__(self):
        self.passes = defaultdict(list)
        self.descents = []
        self._last_at = {}

    def add(self, place, at, source, offset):
        passes = self.passes[place, source]
        if not passes:
            passes.append([])
        elif offset <= passes[-1][-1]:
            before_at = self._last_at[place, source]
            self.descents.append(Descent(place, source, passes[-1][-1], before_at, offset, at))
            passes.append([])
        passes[-1].append(offset)
        self._last_at[place, source] = at

    def times(self):
        """{(source partition, offset): how often it was written}."""
        times = defaultdict(int)
        for (_, source), passes in self.passes.items():
            for offsets in passes:
                for offset in offsets:
                    times[source, offset] += 1
        return times

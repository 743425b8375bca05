#!/usr/bin/env python3
"""Judges a run of flights_produce.py and flights_group.py against the log and the input.

Prints one line a check, `ok NAME figure` or `FAIL NAME reason`, and ends with 4 when any failed.
"""
import argparse
import sys
from collections import defaultdict
from pathlib import Path

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from flights_produce import records

READ_SECONDS = 60
FAILED = 4


class Judge:
    def __init__(self):
        self.failed = False

    def say(self, name, wrong, figure):
        """`wrong` is a list of what contradicts the claim; the first three are shown."""
        if wrong:
            self.failed = True
            print(f"FAIL {name} {len(wrong)} wrong, e.g. {'; '.join(map(str, wrong[:3]))}")
        else:
            print(f"ok {name} {figure}")


def row_of(headers):
    """The row that the one header of a record names; -1, which no row has, when its headers are others."""
    names = [name for name, _ in headers or ()]
    return int(headers[0][1]) if names == ["row"] else -1


def read_log(bootstrap, topic):
    """All records, {partition: [(offset, key, timestamp, value, row)]}, by a consumer without a group."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "flights-verify", "enable.auto.commit": False,
                         "auto.offset.reset": "error", "isolation.level": "read_uncommitted"})
    partitions = consumer.list_topics(topic, READ_SECONDS).topics[topic].partitions
    ends = {}
    for p in partitions:
        low, ends[p] = consumer.get_watermark_offsets(TopicPartition(topic, p), READ_SECONDS)
        if low != 0:
            sys.exit(f"partition {p} starts at {low}, although nothing was deleted")
    consumer.assign([TopicPartition(topic, p, 0) for p, end in ends.items() if end > 0])
    log = {p: [] for p in partitions}
    left = sum(ends.values())
    while left > 0:
        batch = consumer.consume(min(left, 2000), READ_SECONDS)
        if not batch:
            sys.exit(f"{left} records did not come within {READ_SECONDS} s")
        for message in batch:
            if message.error():
                sys.exit(f"reading the log: {message.error()}")
            if message.offset() < ends[message.partition()]:
                log[message.partition()].append((
                    message.offset(), message.key(), message.timestamp()[1], message.value(),
                    row_of(message.headers())))
                left -= 1
    consumer.close()
    return log


def judge_log(judge, log, wanted):
    """Each row exactly once, as it was, at contiguous offsets, in each key's order."""
    gaps = [f"partition {p} offset {record[0]} at place {place}"
            for p, content in log.items() for place, record in enumerate(content) if record[0] != place]
    judge.say("offsets-contiguous", gaps, sum(map(len, log.values())))

    times = defaultdict(int)
    changed = []
    for content in log.values():
        for _, key, timestamp, value, row in content:
            times[row] += 1
            if wanted.get(row) != (key, timestamp, value):
                changed.append(f"row {row}")
    judge.say("rows-unchanged", changed, len(wanted))
    judge.say("rows-exactly-once",
              [f"row {row} {times[row]} times" for row in set(wanted) | set(times) if times[row] != 1], len(times))

    places = defaultdict(set)
    last, disorder = {}, []
    for p, content in log.items():
        for offset, key, _, _, row in content:
            places[key].add(p)
            if last.get(key, -1) >= row:
                disorder.append(f"key {key}: row {row} at partition {p} offset {offset} follows row {last[key]}")
            last[key] = row
    disorder += [f"key {key} in partitions {sorted(where)}" for key, where in places.items() if len(where) > 1]
    judge.say("order-per-key", disorder, f"{len(places)} keys in {sum(1 for c in log.values() if c)} partitions")


def judge_ledger(judge, log, path, rows):
    """What was acknowledged is in the log where the broker said; -1 is an offset that it did not say
    (the answer to a resent batch)."""
    wrong, acked, unknown = [], set(), 0
    for line in Path(path).read_text().splitlines():
        row, p, offset = map(int, line.split())
        acked.add(row)
        if offset < 0:
            unknown += 1
        elif offset >= len(log[p]) or log[p][offset][4] != row:
            wrong.append(f"row {row} acknowledged at partition {p} offset {offset}")
    wrong += [f"row {row} was never acknowledged" for row in range(rows) if row not in acked]
    judge.say("acks-in-log", wrong, f"{len(acked)} ({unknown} without an offset)")


def events(paths):
    """The members' logs merged by time: (member, kind, rest)."""
    merged = []
    for member, path in enumerate(paths):
        # A killed member may have left half a line.
        for line in Path(path).read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                time, kind, rest = line.rstrip("\n").split(" ", 2)
                merged.append((int(time), member, kind, rest))
    merged.sort(key=lambda event: event[0])
    return merged


def judge_group(judge, log, paths):
    """Every record was read by some member; a partition that changes hands is read on from the last
    commit (or from one whose acknowledgement never arrived), and without gaps from there."""
    row_at = {p: [record[4] for record in content] for p, content in log.items()}
    committed = defaultdict(int)
    maybe = defaultdict(set)
    owner, expected = {}, {}
    seen = {p: bytearray(len(content)) for p, content in log.items()}
    wrong_row, wrong_start, wrong_owner, gaps, before_commit = [], [], [], [], []
    redelivered = assignments = commits = 0
    for _, member, kind, rest in events(paths):
        if kind in "AVL":
            for p in map(int, rest.split(",") if rest != "-" else ()):
                if kind == "A":
                    owner[p], expected[p] = member, None
                    assignments += 1
                elif owner.get(p) == member:
                    owner[p] = None
        elif kind == "T":
            p, offset = map(int, rest.split())
            maybe[p].add(offset)
        elif kind == "C":
            p, offset = map(int, rest.split())
            committed[p] = offset
            maybe[p] = {later for later in maybe[p] if later > offset}
            commits += 1
        elif kind == "R":
            p, offset, row = map(int, rest.split())
            where = f"member {member} partition {p} offset {offset}"
            if owner.get(p) != member:
                wrong_owner.append(where)
            if row_at[p][offset] != row:
                wrong_row.append(where)
            if expected.get(p) is None:
                if offset != committed[p] and offset not in maybe[p]:
                    wrong_start.append(f"{where}, committed {committed[p]} or {sorted(maybe[p])}")
            elif offset != expected[p]:
                gaps.append(f"{where}, expected {expected[p]}")
            if offset < committed[p]:
                before_commit.append(f"{where}, committed {committed[p]}")
            expected[p] = offset + 1
            redelivered += seen[p][offset]
            seen[p][offset] = 1
    unread = [f"partition {p} offset {offset}"
              for p, marks in seen.items() for offset, mark in enumerate(marks) if not mark]
    judge.say("group-read-all", unread, sum(map(len, seen.values())))
    judge.say("group-rows", wrong_row, "each record the one in the log")
    judge.say("group-starts-at-commit", wrong_start, f"{assignments} assignments, {commits} commits")
    judge.say("group-no-gap", gaps, "after each start")
    judge.say("group-owner", wrong_owner, "only an assigned member reads")
    judge.say("redelivery-past-commit", before_commit, f"{redelivered} records delivered again")
    return committed


def judge_commits(judge, bootstrap, group, topic, log, committed):
    """The committed offsets that the broker tells are the ends of the log, as the members were told."""
    request = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, p) for p in log])
    admin = AdminClient({"bootstrap.servers": bootstrap})
    answer = admin.list_consumer_group_offsets([request])[group].result(30)
    wrong = [f"partition {one.partition}: {one.offset}, log end {len(log[one.partition])}, acknowledged {committed[one.partition]}"
             for one in answer.topic_partitions
             if log[one.partition] and not (one.offset == len(log[one.partition]) == committed[one.partition])]
    judge.say("commits-at-end", wrong, len(answer.topic_partitions))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bootstrap", "topic", "input", "ledger"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--group", help="group whose committed offsets are compared")
    parser.add_argument("--member-logs", nargs="*", default=[])
    options = parser.parse_args()

    judge = Judge()
    log = read_log(options.bootstrap, options.topic)
    wanted = {row: (key, timestamp, value) for row, key, timestamp, value in records(options.input, options.rows)}
    judge_log(judge, log, wanted)
    judge_ledger(judge, log, options.ledger, options.rows)
    if options.member_logs and not judge.failed:
        committed = judge_group(judge, log, options.member_logs)
        judge_commits(judge, options.bootstrap, options.group, options.topic, log, committed)
    sys.exit(FAILED if judge.failed else 0)


if __name__ == "__main__":
    main()

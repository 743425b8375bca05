"""The judge of the flights must notice each kind of wrong that it is there for.

    tests/.cache/venv/bin/python -m unittest discover -s tests/clients/python
"""
import contextlib
import io
import tempfile
import unittest
from pathlib import Path

from flights_verify import Judge, judge_group, judge_ledger, judge_log

WANTED = {row: (f"k{row % 2}".encode(), 1000 + row, f"value {row}".encode()) for row in range(8)}

# Two members; the second is killed after its second read, and the first goes on from its commit.
GROUP = """\
10 0 A 0
11 1 A 1
20 0 R 0 0 0
21 0 R 0 1 2
22 0 T 0 2
23 0 C 0 2
30 1 R 1 0 1
31 1 T 1 1
32 1 C 1 1
33 1 R 1 1 3
40 0 V 0
50 0 A 0,1
60 0 R 0 2 4
61 0 R 0 3 6
62 0 R 1 1 3
63 0 R 1 2 5
64 0 R 1 3 7
70 0 T 0 4
70 0 T 1 4
71 0 C 0 4
71 0 C 1 4
"""


def log():
    """Even rows in partition 0, odd ones in partition 1."""
    return {p: [(place, *WANTED[row], row) for place, row in enumerate(range(p, 8, 2))] for p in (0, 1)}


class JudgeTest(unittest.TestCase):
    def failures(self, judge, *arguments):
        """The names of the checks that fail."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            judge(Judge(), *arguments)
        return {line.split()[1] for line in out.getvalue().splitlines() if line.startswith("FAIL ")}

    def files(self, *texts):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        paths = [Path(folder.name) / str(i) for i in range(len(texts))]
        for path, text in zip(paths, texts):
            path.write_text(text)
        return paths

    def group(self, text):
        """Splits `TIME MEMBER KIND …` lines into the two members' logs."""
        members = ["", ""]
        for line in text.splitlines(keepends=True):
            time, member, rest = line.split(" ", 2)
            members[int(member)] += f"{time} {rest}"
        return self.failures(judge_group, log(), self.files(*members))

    def test_a_good_log_passes(self):
        self.assertEqual(self.failures(judge_log, log(), WANTED), set())

    def test_a_lost_row_is_noticed(self):
        broken = log()
        broken[0].pop()
        self.assertEqual(self.failures(judge_log, broken, WANTED), {"rows-exactly-once"})

    def test_a_row_that_came_twice_is_noticed(self):
        broken = log()
        broken[1].append((4, *broken[1][3][1:]))
        self.assertEqual(self.failures(judge_log, broken, WANTED), {"rows-exactly-once", "order-per-key"})

    def test_a_changed_value_is_noticed(self):
        broken = log()
        offset, key, timestamp, _, row = broken[0][2]
        broken[0][2] = (offset, key, timestamp, b"other", row)
        self.assertEqual(self.failures(judge_log, broken, WANTED), {"rows-unchanged"})

    def test_swapped_rows_are_noticed(self):
        broken = log()
        one, two = broken[0][1], broken[0][2]
        broken[0][1], broken[0][2] = (1, *two[1:]), (2, *one[1:])
        self.assertEqual(self.failures(judge_log, broken, WANTED), {"order-per-key"})

    def test_a_gap_in_the_offsets_is_noticed(self):
        broken = log()
        broken[0] = broken[0][:2] + [(offset + 1, *rest) for offset, *rest in broken[0][2:]]
        self.assertEqual(self.failures(judge_log, broken, WANTED), {"offsets-contiguous"})

    def test_the_ledger(self):
        good = "".join(f"{row} {row % 2} {row // 2}\n" for row in range(8))
        for text, wanted in (
                (good, set()), (good.replace("5 1 2\n", "5 1 -1\n"), set()), (good.replace("5 1 2\n", "5 1 1\n"), {"acks-in-log"}),
                (good.replace("5 1 2\n", ""), {"acks-in-log"}), (good.replace("5 1 2\n", "5 1 9\n"), {"acks-in-log"})):
            self.assertEqual(self.failures(judge_ledger, log(), self.files(text)[0], 8), wanted, text)

    def test_a_good_group_passes(self):
        self.assertEqual(self.group(GROUP), set())

    def test_a_start_at_an_unacknowledged_commit_passes(self):
        text = GROUP.replace("33 1 R 1 1 3\n", "33 1 R 1 1 3\n34 1 T 1 2\n").replace("62 0 R 1 1 3\n", "")
        self.assertEqual(self.group(text), set())

    def test_a_record_that_nobody_read_is_noticed(self):
        self.assertEqual(self.group(GROUP.replace("64 0 R 1 3 7\n", "")), {"group-read-all"})

    def test_reading_on_from_before_the_commit_is_noticed(self):
        text = GROUP.replace("62 0 R 1 1 3\n", "61 0 R 1 0 1\n62 0 R 1 1 3\n")
        self.assertEqual(self.group(text), {"group-starts-at-commit", "redelivery-past-commit"})

    def test_reading_on_from_behind_the_commit_is_noticed(self):
        self.assertEqual(self.group(GROUP.replace("62 0 R 1 1 3\n", "")), {"group-starts-at-commit"})

    def test_a_gap_is_noticed(self):
        self.assertEqual(self.group(GROUP.replace("63 0 R 1 2 5\n", "")), {"group-read-all", "group-no-gap"})

    def test_a_reader_that_does_not_own_the_partition_is_noticed(self):
        self.assertIn("group-owner", self.group(GROUP.replace("50 0 A 0,1\n", "50 0 A 0,1\n55 1 R 1 1 3\n")))

    def test_another_row_at_an_offset_is_noticed(self):
        self.assertEqual(self.group(GROUP.replace("61 0 R 0 3 6\n", "61 0 R 0 3 4\n")), {"group-rows"})


if __name__ == "__main__":
    unittest.main()

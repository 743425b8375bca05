"""What functions/examples/hostile is given, and what must come of it."""
import itertools
import random

FRAMES = ("magic", "empty", "short", "length", "operations", "count", "none", "double", "record", "kind", "flags", "value",
          "negative", "headers", "section", "done", "pointer", "huge")
# These fail all records of their frame, so they are never among others.
SINKS = ("frame:sink", "frame:partition")
# What becomes of a record by its value: the kind of its fault, or None where it is passed on.
FAULTS = {"loop": "time", "trap": "trap", "grow": None, "flood": "output", "log": None, "fail": "failed", "answer": "refused",
          "good": None, **{f"frame:{name}": "frame" for name in FRAMES}}
# What the guests get, one after the other: mostly one thing, and everything.
DIETS = {
    "loop": ["loop"], "trap": ["trap"], "grow": ["grow", "grow", "loop"], "flood": ["flood"], "log": ["log"],
    "frames": [f"frame:{name}" for name in FRAMES],
    "sinks": list(SINKS),
    "starve": ["flood"],
    "fails": ["fail", "answer"],
    "mixed": list(FAULTS),
}
FAULTS.update(dict.fromkeys(SINKS, "sink"))
# They get through more than anybody can feed them with, so they get a steady rate instead of always having work.
PACED = ("sinks",)
# With so little memory a flood does not even get as far as its answer.
STARVED_BYTES = 4 << 20
KINDS = sorted({"memory", *filter(None, FAULTS.values())})


class Guest:
    """A hostile transform with a topic of its own, and all values that the topic has, in order."""

    def __init__(self, number, seed, diet):
        self.name = f"hostile-{number:02}"
        self.source, self.sink = f"{self.name}-in", f"{self.name}-out"
        self.diet, self.is_paced = diet, diet in PACED
        self.taken = 0
        self.random = random.Random(seed * 1000 + number)
        self.values = []

    def more(self, count):
        """The next values of the topic."""
        values = [self.random.choice(DIETS[self.diet]) for _ in range(count)]
        self.values += values
        return values

    def fault(self, value):
        return "memory" if self.diet == "starve" else FAULTS[value]

    def expected(self, taken):
        """How many of the first `taken` records fail, by kind; under None how many are passed on."""
        counts = {}
        for value in itertools.islice(self.values, taken):
            counts[self.fault(value)] = counts.get(self.fault(value), 0) + 1
        return counts

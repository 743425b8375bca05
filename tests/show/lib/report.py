"""The lines that a show prints, and its verdict."""
import sys
import time


class Show:
    """Collects the outcome of one show: figures as they come, one PASS or FAIL line at the end."""

    def __init__(self, name):
        self.name = name
        self.began = time.monotonic()
        self.passed = self.skipped = 0
        self.failures = []

    def say(self, text):
        print(text, flush=True)

    def ok(self, what, figure=""):
        self.passed += 1
        self.say(f"ok    {what}  {figure}".rstrip())

    def fail(self, what, reason):
        self.failures.append(what)
        self.say(f"FAIL  {what}  {reason}")

    def skip(self, what, reason):
        self.skipped += 1
        self.say(f"skip  {what}  {reason}")

    def check(self, what, good, figure=""):
        """An `ok` or a `FAIL` line with the figure; returns whether it was good."""
        (self.ok if good else self.fail)(what, figure)
        return good

    def forward(self, prefix, lines):
        """The `ok NAME FIGURE` and `FAIL NAME reason` lines of another program."""
        for line in lines:
            outcome, name, figure = (line.split(" ", 2) + ["", ""])[:3]
            if outcome in ("ok", "FAIL"):
                self.check(f"{prefix} {name}", outcome == "ok", figure)

    def finish(self, summary=""):
        """Prints the verdict and ends the program: 0 when at least one check passed and none failed."""
        good = not self.failures and self.passed > 0
        counts = f"{self.passed} passed, {len(self.failures)} failed, {self.skipped} skipped"
        seconds = time.monotonic() - self.began
        self.say(f"show {self.name}: {'PASS' if good else 'FAIL'} {summary + '; ' if summary else ''}{counts}, {seconds:.1f} s")
        sys.exit(0 if good else 1)

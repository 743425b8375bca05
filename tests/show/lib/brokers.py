"""A tidemill or an Apache Kafka broker as a child process, both with the same few methods."""
import base64
import shutil
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path

from . import paths, process

START_SECONDS = 60
STOP_SECONDS = 60


class BrokerFailed(Exception):
    """The broker did not start, or ended by itself; carries the end of its log."""


def free_ports(count):
    """Ports of the loopback interface that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start(kind, data_dir, **options):
    """A started broker of the kind `tidemill` or `kafka`."""
    broker = {"tidemill": Tidemill, "kafka": Kafka}[kind](data_dir, **options)
    broker.start()
    return broker


class Scratch:
    """A directory for the brokers of one show. At its end what still runs in it is killed, and it is
    removed unless it is to be kept."""

    def __init__(self, keep=False):
        self.keep = keep

    def __enter__(self):
        self.path = Path(tempfile.mkdtemp(prefix="tidemill-show-"))
        return self.path

    def __exit__(self, *_):
        process.kill_all()
        if not self.keep:
            shutil.rmtree(self.path, ignore_errors=True)


class _Broker:
    def __init__(self, data_dir):
        self.data_dir = Path(data_dir)
        self.log_path = self.data_dir.with_name(self.data_dir.name + ".log")
        self.child = None
        self.bootstrap = None

    @property
    def pid(self):
        return self.child.pid

    def kill9(self):
        """SIGKILL; returns when the process is gone."""
        process.kill(self.child)

    def stop(self):
        """SIGTERM and the exit code."""
        return process.stop(self.child, STOP_SECONDS)

    def require_running(self):
        if self.child.poll() is not None:
            raise self._failed(f"ended by itself with {self.child.returncode}")

    def log_tail(self, lines=30):
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _wait(self, what, condition):
        try:
            return process.wait_until(what, condition, START_SECONDS, pause=0.001)
        except process.Timeout as late:
            self.kill9()
            raise self._failed(str(late)) from late

    def _failed(self, what):
        return BrokerFailed(f"{type(self).__name__} {what}\n{self.log_tail()}")


class Tidemill(_Broker):
    """`tidemill serve`; a restart takes the ports that the first start was given.

    `wrapper` is a command that runs the broker as the same process, such as `strace -D`.
    """

    def __init__(self, data_dir, arguments=(), environment=None, wrapper=()):
        super().__init__(data_dir)
        self.arguments = list(arguments)
        self.wrapper = list(wrapper)
        self.environment = environment
        self.ready = {}

    def start(self):
        listen = self.ready.get("kafka", "127.0.0.1:0")
        admin = self.ready.get("admin", "127.0.0.1:0")
        internal = self.ready.get("internal", "127.0.0.1:0")
        out = self.data_dir.with_name(self.data_dir.name + ".out")
        with open(out, "wb") as stdout, open(self.log_path, "ab") as stderr:
            self.child = process.spawn(
                [*self.wrapper, paths.need(paths.TIDEMILL), "serve", "--data-dir", self.data_dir, "--listen", listen,
                 "--admin-listen", admin, "--internal-listen", internal, *self.arguments],
                stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=self.environment)

        def ready():
            if self.child.poll() is not None:
                raise self._failed(f"did not start, exit code {self.child.returncode}")
            for line in out.read_text().splitlines(keepends=True):
                if line.startswith("ready ") and line.endswith("\n"):
                    return dict(part.split("=", 1) for part in line.split()[1:])
            return None

        self.ready = self._wait("ready line", ready)
        self.bootstrap = self.ready["kafka"]


class Kafka(_Broker):
    """Apache Kafka (tests/versions says which) from its jars: one KRaft node, broker and controller.

    `flush="each"` sets flush.messages=1, an fsync before each ack as tidemill has it; `"default"`
    leaves the flushing to the operating system, as Kafka does unless told otherwise.
    """

    def __init__(self, data_dir, flush="default", heap="1g", port=None, overrides=None):
        super().__init__(data_dir)
        kafka, self.controller_port = free_ports(2)
        self.port = port or kafka
        self.flush, self.heap = flush, heap
        self.overrides = overrides or {}
        self.bootstrap = f"127.0.0.1:{self.port}"

    def properties(self):
        values = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "log.dirs": self.data_dir,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 16,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            # A killed broker may register again only when its old session has ended.
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
        }
        if self.flush == "each":
            values["log.flush.interval.messages"] = 1
        values.update(self.overrides)
        return "".join(f"{key}={value}\n" for key, value in values.items())

    def start(self):
        config = self.data_dir.with_name(self.data_dir.name + ".properties")
        config.write_text(self.properties())
        if not (self.data_dir / "meta.properties").exists():
            self._format(config)
        began = self.log_path.stat().st_size if self.log_path.exists() else 0
        with open(self.log_path, "ab") as log:
            self.child = process.spawn(
                self._java(f"-Xms{self.heap}", f"-Xmx{self.heap}", "kafka.Kafka", config),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def started():
            self.require_running()
            with open(self.log_path, "rb") as log:
                log.seek(began)
                return b"Kafka Server started" in log.read()

        self._wait("start", started)

    def _format(self, config):
        with open(self.log_path, "ab") as log:
            child = process.spawn(
                self._java("-Xmx256m", "-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format",
                           f"--cluster-id={_cluster_id()}", "--config", config),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if child.wait(START_SECONDS) != 0:
            raise self._failed("could not format its data directory")

    # The collector settings are those of Kafka's own start script.
    @staticmethod
    def _java(*arguments):
        return ["java", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
                "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent",
                "-Djava.awt.headless=true",
                f"-Dlog4j2.configurationFile={paths.TESTS / 'clients/java/log4j2-broker.properties'}",
                "-cp", paths.java_classpath(), *arguments]


def _cluster_id():
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")

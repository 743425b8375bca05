"""The foreign clients of the shows of functions: built where they are not, and their commands."""
import subprocess
import sys

from . import paths

GO = paths.CACHE / "bin" / "franz-go-wasm"
STREAMS = paths.CACHE / "streams"
CLIENTS = paths.TESTS / "clients"
_SOURCE = CLIENTS / "java" / "streams"


def build_go():
    """go has a cache of its own."""
    subprocess.run(["go", "build", "-trimpath", "-o", GO, "./wasm"], cwd=CLIENTS / "go", stdin=subprocess.DEVNULL, check=True)


def build_streams():
    """Kafka Streams' jars, when another version of it is wanted, and the program."""
    versions = paths.versions()
    wanted = f"{versions['KAFKA']} {versions['LOG4J']}"
    stamp = STREAMS / "version"
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run(["mvn", "-B", "-q", "-f", _SOURCE / "pom.xml", f"-Dkafka.version={versions['KAFKA']}",
                        f"-Dlog4j.version={versions['LOG4J']}", "dependency:copy-dependencies", "-DincludeScope=runtime",
                        f"-DoutputDirectory={STREAMS / 'jars'}"], stdin=subprocess.DEVNULL, check=True)
        stamp.write_text(wanted)
    subprocess.run(["javac", "-d", STREAMS / "classes", "-cp", f"{STREAMS / 'jars'}/*", _SOURCE / "StreamsTransform.java"],
                   stdin=subprocess.DEVNULL, check=True)


def roundtrip(bootstrap, **flags):
    return [GO, "roundtrip", "-bootstrap", bootstrap, *_flags("-", flags)]


def franz_go(bootstrap, source, sink, apply, count, group, scratch, codec):
    return [GO, "transform", "-bootstrap", bootstrap,
            *_flags("-", {"source": source, "sink": sink, "map": apply, "count": count, "group": group, "codec": codec})]


def confluent(bootstrap, source, sink, apply, count, group, scratch, codec):
    return [sys.executable, CLIENTS / "python" / "wasm_transform.py", "--bootstrap", bootstrap,
            *_flags("--", {"source": source, "sink": sink, "map": apply, "count": count, "group": group, "codec": codec})]


def streams(bootstrap, source, sink, apply, count, group, scratch, codec):
    return ["java", "-Xmx1g", f"-Dlog4j2.configurationFile={CLIENTS / 'java' / 'log4j2-tools.properties'}",
            f"-Dtools.log={scratch / 'streams.log'}", "-cp", f"{STREAMS / 'classes'}:{STREAMS / 'jars'}/*", "StreamsTransform",
            bootstrap, source, sink, apply, count, group, scratch / "streams", codec]


def _flags(dashes, values):
    return [part for name, value in values.items() for part in (f"{dashes}{name}", value)]

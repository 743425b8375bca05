"""The stores that a tier can lie in: a directory, or MinIO as a child process, both with the same few methods."""
import os
import subprocess
import urllib.error
import urllib.request

from . import paths, process
from .brokers import free_ports
from .scrape import scrape

MINIO = paths.CACHE / "bin" / "minio"
START_SECONDS = 60

# Dollars per request in S3's standard class, us-east-1; deleting is free.
PRICES = {"put": 0.005 / 1000, "list": 0.005 / 1000, "get": 0.0004 / 1000, "head": 0.0004 / 1000, "delete": 0}

# What MinIO calls the requests that the broker counts by operation.
MINIO_APIS = {"putobject": "put", "getobject": "get", "headobject": "head", "listobjectsv1": "list", "listobjectsv2": "list",
              "deleteobject": "delete", "deletemultipleobjects": "delete"}


def dollars(requests):
    """What requests cost, {operation: count}."""
    return sum(PRICES[operation] * count for operation, count in requests.items())


class Directory:
    """`file://`: nobody counts but the broker itself."""
    name = "file"
    counts_requests = False

    def __init__(self, scratch):
        self.path = scratch / "tier"
        self.url = f"file://{self.path}/prefix"
        self.serve_arguments = ["--tier-url", self.url]
        self.environment = None

    def start(self):
        self.path.mkdir()

    def objects(self):
        """{key below the prefix: bytes} of all that is there."""
        prefix = self.path / "prefix"
        return {str(path.relative_to(prefix)): path.stat().st_size for path in prefix.rglob("*") if path.is_file()}

    def stop(self):
        pass


class Minio:
    """`s3://` on a MinIO of its own, with one bucket; `objects` asks it through boto3."""
    name = "minio"
    counts_requests = True
    BUCKET, PREFIX = "tier-flights", "some/prefix"
    USER, PASSWORD = "tidemill-show", "tidemill-show-secret"

    def __init__(self, scratch):
        self.scratch = scratch
        self.log = scratch / "minio.log"
        port, self.console = free_ports(2)
        self.address = f"127.0.0.1:{port}"
        self.endpoint = f"http://{self.address}"
        self.serve_arguments = ["--tier-url", f"s3://{self.BUCKET}/{self.PREFIX}", "--tier-endpoint", self.endpoint]
        others = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self.environment = {**others, "AWS_ACCESS_KEY_ID": self.USER, "AWS_SECRET_ACCESS_KEY": self.PASSWORD,
                            "AWS_REGION": "us-east-1"}

    def start(self):
        import boto3
        from botocore.config import Config

        self.run()
        self.client = boto3.client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1", aws_access_key_id=self.USER,
            aws_secret_access_key=self.PASSWORD, config=Config(s3={"addressing_style": "path"}))
        self.client.create_bucket(Bucket=self.BUCKET)

    def run(self):
        """Starts the process, for the first time or after `kill9`."""
        environment = {**os.environ, "MINIO_ROOT_USER": self.USER, "MINIO_ROOT_PASSWORD": self.PASSWORD,
                       "MINIO_PROMETHEUS_AUTH_TYPE": "public", "MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}
        with open(self.log, "ab") as log:
            self.child = process.spawn(
                [paths.need(MINIO), "server", self.scratch / "minio", "--address", self.address,
                 "--console-address", f"127.0.0.1:{self.console}", "--certs-dir", self.scratch / "certs"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        process.wait_until(f"MinIO ready (its log: {self.log})", self._is_ready, START_SECONDS)

    def kill9(self):
        process.kill(self.child)

    def _is_ready(self):
        if self.child.poll() is not None:
            raise process.Timeout(f"MinIO ended by itself: {self.log.read_text(errors='replace')[-800:]}")
        try:
            with urllib.request.urlopen(f"{self.endpoint}/minio/health/ready", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def objects(self):
        """{key below the prefix: bytes} of all that is there."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.BUCKET, Prefix=f"{self.PREFIX}/")
        return {one["Key"][len(self.PREFIX) + 1:]: one["Size"] for page in pages for one in page.get("Contents", ())}

    def requests(self):
        """{operation: count} since its start, as MinIO counts them; it adds up only every ten seconds."""
        counted = scrape(f"{self.endpoint}/minio/v2/metrics/cluster").by_label("minio_s3_requests_total", "api")
        sums = dict.fromkeys(PRICES, 0)
        for api, count in counted.items():
            if api in MINIO_APIS:
                sums[MINIO_APIS[api]] += int(count)
        return sums

    def stop(self):
        process.stop(self.child, 30)

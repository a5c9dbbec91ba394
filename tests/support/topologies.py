"""Stores in the forms that production has: Cluster, Sentinel, TLS, a socket; on free ports here."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis.cluster
import trustme
from redis import Redis

from celery_batches_notify.testing.child_process import directory_until_we_end
from celery_batches_notify.testing.server import find_free_port, run_until_we_end
from tests.support.clocks import ServerClock
from tests.support.servers import find_server, need, wait_until

# redis-py 5, which Celery 5.5 takes, knows no transactions in a Cluster.
HAS_CLUSTER = hasattr(redis.cluster, "TransactionStrategy")
PASSWORD = "p-w:d;100%"  # what needs care in a URL, and where several URLs are joined
MASTER_NAME = "mymaster"


def server_binary() -> str:
    """Redis 7, which has Cluster, Sentinel and TLS built in."""
    binary = find_server("redis-7")
    need("redis-server", binary)
    return str(binary)


@dataclass(kw_only=True)
class Node:
    """One server, which can be killed and started again with what is on its disk."""

    directory: Path
    port: int
    options: Sequence[str] = ()
    password: str | None = None
    clock: ServerClock | None = None
    stack: ExitStack = field(default_factory=ExitStack)

    def start(self, *, wait: bool = True) -> None:
        log = self.stack.enter_context((self.directory / f"{self.port}.log").open("ab"))
        command = [*(self.clock.prefix if self.clock else ()), server_binary(), *self.options]
        command += ["--port", str(self.port), "--dir", str(self.directory)]
        self.stack.enter_context(run_until_we_end(command, stdout=log, stderr=log, grace_seconds=2))
        if wait:
            wait_until(self.answers, what=f"the server on port {self.port}")

    def client(self) -> Redis:
        return Redis("127.0.0.1", self.port, password=self.password, socket_timeout=15, retry=None)

    def answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except Exception:
                return False

    def command(self, *words: object) -> object:
        with self.client() as client:
            return client.execute_command(*words)

    def info(self, section: str) -> dict[str, object]:
        with self.client() as client:
            return client.info(section)

    def kill(self) -> None:
        """End it at once, as a power cut does."""
        os.kill(int(self.info("server")["process_id"]), signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        self.stack.close()


@contextmanager
def nodes(
    count: int, *options: str, password: str | None = None, ahead: Sequence[float] = ()
) -> Iterator[list[Node]]:
    """Run several servers, in directories of their own; `ahead`: by how many seconds their clocks are."""
    with ExitStack() as stack:
        made = []
        for i in range(count):
            directory = stack.enter_context(directory_until_we_end(prefix="batches-node-"))
            own = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", *options]
            if password:
                own += ["--requirepass", password, "--masterauth", password]
            node = Node(directory=directory, port=find_free_port(), options=own, password=password)
            if ahead:
                node.clock = ServerClock(directory / "clock", ahead[i])
            stack.callback(node.stop)
            made.append(node)
        yield made


# -- Cluster --------------------------------------------------------------------------------------

SLOTS = 16384


@contextmanager
def cluster(masters: int = 3, ahead: Sequence[float] = ()) -> Iterator[list[Node]]:
    """Run a Cluster of masters, each with its share of the slots."""
    if not HAS_CLUSTER:
        pytest.skip("this redis-py has no Cluster that batches can use")
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "10000")
    with nodes(masters, *options, ahead=ahead) as made:
        for node in made:
            node.options = [*node.options, "--cluster-port", str(find_free_port())]
            node.start()
        first = made[0]
        for i, node in enumerate(made):
            begin, end = i * SLOTS // masters, (i + 1) * SLOTS // masters - 1
            node.command("CLUSTER", "ADDSLOTSRANGE", begin, end)
            node.command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for node in made[1:]:
            bus = node.options[-1]
            first.command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        for node in made:
            wait_until(lambda node=node: is_whole(node, masters), seconds=40, what="the cluster")
        yield made


def is_whole(node: Node, masters: int) -> bool:
    """Whether a node sees the whole cluster, and every slot served."""
    seen = node.command("CLUSTER", "INFO")
    words = seen if isinstance(seen, dict) else dict(line.split(":", 1) for line in seen.decode().split())
    return words["cluster_state"] == "ok" and words["cluster_known_nodes"] == str(masters)


def node_id(node: Node) -> str:
    return str(node.command("CLUSTER", "MYID").decode())


def owner_of(made: Sequence[Node], slot: int) -> Node:
    """The node that serves a slot: it does not send elsewhere who asks for a key of it."""
    for node in made:
        for begin, end, owner, *_ in node.command("CLUSTER", "SLOTS"):
            if int(begin) <= slot <= int(end):
                return next(other for other in made if other.port == int(owner[1]))
    raise AssertionError(f"nobody serves slot {slot}")


@contextmanager
def migrating(made: Sequence[Node], slot: int) -> Iterator[tuple[Node, Node]]:
    """Move a slot: within the block new keys of it are elsewhere (ASK), afterwards all of them (MOVED)."""
    source = owner_of(made, slot)
    target = next(node for node in made if node is not source)
    target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
    source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(target))
    yield source, target
    while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 100):
        source.command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
    for node in (target, source, *made):
        node.command("CLUSTER", "SETSLOT", slot, "NODE", node_id(target))


# -- Sentinel -------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Guarded:
    """A master with a replica, and the sentinels that watch them."""

    servers: list[Node]
    sentinels: list[Node]

    @property
    def url(self) -> str:
        return ";".join(f"sentinel://127.0.0.1:{node.port}/0" for node in self.sentinels)

    def master(self) -> Node:
        _, port = self.sentinels[0].command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME)
        return next(node for node in self.servers if node.port == int(port))


def has_all(replica: Redis, master: Redis) -> bool:
    """Whether a replica has what its master wrote; WAIT is only for what its own connection did."""
    wanted = master.info("replication")["master_repl_offset"]
    return bool(replica.info("replication")["slave_repl_offset"] >= wanted)


@contextmanager
def sentinel(password: str | None = PASSWORD, ahead: Sequence[float] = ()) -> Iterator[Guarded]:
    """Run a master, a replica and three sentinels, of which two decide."""
    with nodes(2, password=password, ahead=ahead) as servers, ExitStack() as stack:
        master, replica = servers
        replica.options = [*replica.options, "--replicaof", f"127.0.0.1 {master.port}"]
        for node in servers:
            node.start()
        wait_until(lambda: replica.info("replication")["master_link_status"] == "up", what="the replica")
        sentinels = []
        for _ in range(3):
            directory = stack.enter_context(directory_until_we_end(prefix="batches-sentinel-"))
            conf = directory / "sentinel.conf"
            lines = [
                "bind 127.0.0.1",
                f"sentinel monitor {MASTER_NAME} 127.0.0.1 {master.port} 2",
                f"sentinel down-after-milliseconds {MASTER_NAME} 5000",
                f"sentinel failover-timeout {MASTER_NAME} 5000",
                *([f'sentinel auth-pass {MASTER_NAME} "{password}"'] if password else []),
            ]
            conf.write_text("\n".join(lines) + "\n", "utf-8")
            node = Node(directory=directory, port=find_free_port(), options=[str(conf), "--sentinel"])
            stack.callback(node.stop)
            node.start()
            sentinels.append(node)
        made = Guarded(servers=servers, sentinels=sentinels)
        for node in sentinels:
            wait_until(lambda node=node: knows_all(node), what="the sentinels")
        yield made


def knows_all(node: Node) -> bool:
    """Whether a sentinel knows the replica and the other two."""
    with node.client() as client:
        state = client.sentinel_master(MASTER_NAME)
    return state["num-slaves"] == 1 and state["num-other-sentinels"] == 2


# -- TLS and a socket -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Secured:
    """A server that is reached only with TLS, by clients whose certificate it knows."""

    url: str
    options: dict[str, str]


@contextmanager
def tls(directory: Path, *more: str) -> Iterator[Secured]:
    """Run a server over TLS that asks its clients for a certificate too."""
    ca = trustme.CA()
    names = {name: ca.issue_cert("127.0.0.1", "localhost") for name in ("server", "client")}
    ca.cert_pem.write_to_path(directory / "ca.pem")
    for name, cert in names.items():
        cert.private_key_pem.write_to_path(directory / f"{name}.key")
        cert.cert_chain_pems[0].write_to_path(directory / f"{name}.pem")
    port = find_free_port()
    options = ["--bind", "127.0.0.1", "--save", "", "--tls-port", str(port), "--tls-auth-clients", "yes"]
    options += [
        "--tls-cert-file",
        str(directory / "server.pem"),
        "--tls-key-file",
        str(directory / "server.key"),
    ]
    options += ["--tls-ca-cert-file", str(directory / "ca.pem")]
    given = {
        "ssl_ca_certs": str(directory / "ca.pem"),
        "ssl_certfile": str(directory / "client.pem"),
        "ssl_keyfile": str(directory / "client.key"),
    }
    node = Node(directory=directory, port=0, options=[*options, *more])
    try:
        node.start(wait=False)
        wait_until(lambda: answers_tls(port, given), what="the server with TLS")
        yield Secured(url=f"rediss://127.0.0.1:{port}/0", options=given)
    finally:
        node.stop()


def answers_tls(port: int, options: dict[str, str]) -> bool:
    try:
        with Redis("127.0.0.1", port, ssl=True, retry=None, **options) as client:
            return bool(client.ping())
    except Exception:
        return False


@contextmanager
def unix_socket() -> Iterator[str]:
    """Run a server that listens on a socket in the file system only."""
    with directory_until_we_end(prefix="batches-sock-") as directory:
        path = directory / "s"
        node = Node(directory=directory, port=0, options=["--save", "", "--unixsocket", str(path)])
        try:
            node.start(wait=False)
            wait_until(path.exists, what="the socket")
            yield f"unix://{path}"
        finally:
            node.stop()

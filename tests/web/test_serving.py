from __future__ import annotations

import asyncio
import platform
import socket
import subprocess
import sys
import threading

import pytest
from celery import Celery
from starlette.requests import Request

from celery_batches_notify.web import status_page
from celery_batches_notify.web.serving import listen
from tests.support.servers import WAIT_SECONDS
from tests.web.scene import make_batch, serving

# Lets ten threads hold memory at once; glibc gives each a heap, unless they have to share.
COUNT_HEAPS = """
import ctypes, sys, threading
from celery_batches_notify.web.serving import settle

settle()
libc, everybody = ctypes.CDLL(None), threading.Barrier(10)
libc.malloc.restype, libc.stdout = ctypes.c_void_p, ctypes.c_void_p.in_dll(libc, "stdout")

def hold():
    everybody.wait()
    libc.malloc(5_000)
    everybody.wait()

threads = [threading.Thread(target=hold) for _ in range(10)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_info(0, libc.stdout)
libc.fflush(None)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives each thread a heap")
def test_the_threads_of_a_settled_server_share_two_heaps() -> None:
    ran = subprocess.run([sys.executable, "-c", COUNT_HEAPS], capture_output=True, text=True, check=True)
    assert 1 <= ran.stdout.count("<heap nr=") <= 2


def test_all_addresses_of_a_host_share_one_port() -> None:
    sockets = listen("localhost", 0)
    ports = {each.getsockname()[1] for each in sockets}
    for each in sockets:
        each.close()
    assert len(ports) == 1


def test_an_address_of_a_family_that_is_turned_off_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0))
    here = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [nowhere, here, here])  # as /etc/hosts says
    (only,) = listen("localhost", 0)
    only.close()
    assert only.family == socket.AF_INET


def test_a_stream_that_begins_while_the_server_stops_does_not_keep_it(app: Celery) -> None:
    asked, stopping = threading.Event(), threading.Event()

    async def access(_: Request) -> list[str]:
        asked.set()
        while not stopping.is_set():
            await asyncio.sleep(0.01)
        return ["read"]

    def end_streams() -> None:
        end()
        stopping.set()

    page = status_page(app, access=access)
    end, page.end_streams = page.end_streams, end_streams
    with serving(page) as url:
        client = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
        client.sendall(f"GET /{make_batch(app, 1).bid}/live HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert asked.wait(WAIT_SECONDS)
    client.close()  # it watches until the server has stopped

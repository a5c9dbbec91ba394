from __future__ import annotations

import platform
import subprocess
import sys

import pytest

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

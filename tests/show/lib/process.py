"""Child processes that never outlive the program, whatever ends it."""
import atexit
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_children = []


class Timeout(Exception):
    """A condition did not come true in time."""


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def spawn(command, **options):
    """Starts `command` in a process group of its own; the kernel kills it when this program dies.

    Call it on the main thread: the kernel counts the death of the starting thread.
    """
    assert threading.current_thread() is threading.main_thread()
    child = subprocess.Popen(
        [str(part) for part in command], start_new_session=True, preexec_fn=_die_with_parent, **options
    )
    _children.append(child)
    return child


def kill(child):
    """SIGKILL to the child's process group, and waits until it is gone."""
    if child.poll() is None:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    child.wait()


def stop(child, seconds=30):
    """SIGTERM, then SIGKILL when that does not help within `seconds`; the exit code."""
    if child.poll() is None:
        child.terminate()
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        kill(child)
        return child.returncode


def wait_until(what, condition, seconds, pause=0.02):
    """Waits until `condition()` is true and returns its value; raises Timeout that names `what`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Timeout(f"{what}: not within {seconds} s")
        time.sleep(pause)


def cpu_seconds(pid):
    """CPU time of all threads of a running process, from its own clock (clock_getcpuclockid)."""
    return time.clock_gettime((~pid << 3) | 2)


@atexit.register
def kill_all():
    """SIGKILL to every child that still runs."""
    for child in _children:
        kill(child)
    _children.clear()


def _on_signal(number, _frame):
    sys.exit(128 + number)


for _number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(_number, _on_signal)

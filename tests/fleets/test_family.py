"""Processes of others, and their end: real ones."""

import subprocess
import sys
import time

import psutil

from fedtiny.fleets.family import end, family

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {STUBBORN!r}])"


def test_a_family_is_whoever_names_the_marker_and_all_below_and_it_ends() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, "the-marker"])
    other = subprocess.Popen([sys.executable, "-c", STUBBORN])
    try:
        while len(found := family("the-marker")) < 2:
            time.sleep(0.02)
        assert {process.pid for process in found} == {parent.pid, found[1].pid}
        end(found, patience_s=0.1)
        assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in found)
        assert other.poll() is None
    finally:
        parent.kill()
        other.kill()

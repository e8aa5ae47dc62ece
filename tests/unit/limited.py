"""Run a program that must need little time and memory.

`python limited.py SECONDS WORDS...` prints exit code, peak bytes and stderr as JSON. The limit of the tests, 60 seconds, leaves
room for a busy machine: each case takes one or two.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(words, folder, seconds=60):
    """Return (exit code, lines of stderr, peak bytes) of a Python program; a code of -9 says that the time was up."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOG_minloglevel": "2"}
    environment.pop("OPENCV_IO_MAX_IMAGE_PIXELS", None)
    done = subprocess.run([sys.executable, __file__, str(seconds), *map(str, words)], cwd=folder, env=environment, text=True,
                          capture_output=True, check=True)
    code, peak, errors = json.loads(done.stdout)
    return code, errors.splitlines(), peak


def main(seconds, words):
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        timer = threading.Timer(seconds, os.kill, (process.pid, signal.SIGKILL))
        timer.start()
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
    print(json.dumps([process.returncode, 1024 * usage.ru_maxrss, errors]))


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])

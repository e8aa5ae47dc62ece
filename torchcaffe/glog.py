"""Log lines in the form of glog, on standard error and on demand in a file, so that parsers of Caffe's logs read ours."""
import getpass
import os
import socket
import sys
import time
from typing import List, TextIO

from .errors import CaffeError

INFO, WARNING, ERROR = 0, 1, 2
_files: List[TextIO] = []


def number(value: float) -> str:
    """Return a number as a C++ stream prints it: six significant digits."""
    return f"{value:g}"


def log(where: str, message: str, level: int = INFO) -> None:
    """Print a line; `where` stands for Caffe's file and line. GLOG_minloglevel hides lines below its value."""
    least = os.environ.get("GLOG_minloglevel", "")  # noqa: SIM112  (glog spells it so)
    if least.isdecimal() and level < int(least):  # anything else counts as 0, as for glog
        return
    now = time.time()
    stamp = time.strftime("%m%d %H:%M:%S", time.localtime(now))
    line = f"{'IWE'[level]}{stamp}.{int(now % 1 * 1e6):06d} {os.getpid():5d} {where}] {message}"
    for file in (sys.stderr, *_files):
        print(line, file=file, flush=True)


def open_file(folder: str) -> None:
    """Write the lines of this process to a file in a folder too, named and linked to as glog does."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no name for this number
        user = "unknown-user"
    name = f"caffe.{socket.gethostname()}.{user}.log.INFO.{time.strftime('%Y%m%d-%H%M%S')}.{os.getpid()}"
    try:
        file = open(os.path.join(folder, name), "w", encoding="utf-8")  # noqa: SIM115  (open until the process ends)
        link = os.path.join(folder, f"caffe.INFO.{os.getpid()}")
        os.symlink(name, link)
        os.replace(link, os.path.join(folder, "caffe.INFO"))
    except OSError as error:
        raise CaffeError(f"-log_dir: cannot write to {folder!r}: {error.strerror}; does the folder exist?") from None
    print(time.strftime("Log file created at: %Y/%m/%d %H:%M:%S"), f"Running on machine: {socket.gethostname()}",
          "Log line format: [IWEF]mmdd hh:mm:ss.uuuuuu threadid file:line] msg", sep="\n", file=file, flush=True)
    _files[:] = [file]

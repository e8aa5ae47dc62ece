"""Log lines in the form of glog, on standard error, so that parsers of Caffe's logs read ours."""
import os
import sys
import time

INFO, WARNING, ERROR = 0, 1, 2


def number(value: float) -> str:
    """Return a number as a C++ stream prints it: six significant digits."""
    return f"{value:g}"


def log(where: str, message: str, level: int = INFO) -> None:
    """Print a line; `where` stands for Caffe's file and line. GLOG_minloglevel hides lines below its value."""
    if level < int(os.environ.get("GLOG_minloglevel") or 0):  # noqa: SIM112  (glog spells it so)
        return
    now = time.time()
    stamp = time.strftime("%m%d %H:%M:%S", time.localtime(now))
    print(f"{'IWE'[level]}{stamp}.{int(now % 1 * 1e6):06d} {os.getpid():5d} {where}] {message}", file=sys.stderr, flush=True)

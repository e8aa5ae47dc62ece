"""Caffe's command line: `python -m torchcaffe train -solver solver.prototxt`, with the flags and log lines of `caffe`.

Everything runs as there; what real Caffe aborts on ends with `error: <one line>` and exit status 1.
"""
import argparse
import importlib.util
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from . import __version__, heap, interrupts
from .errors import STRAY, CaffeError, sentence
from .glog import log, number, open_file
from .limits import guard_decoder
from .processor import has_bf16
from .version import PROJECT

_USAGE = """\
command line brew
usage: torchcaffe <command> <flags>

commands:
  train           train or finetune a model
  test            score a model
  device_query    show GPU diagnostic information
  time            benchmark model execution time

example: torchcaffe train -solver solvers/stage1.prototxt -weights vgg16CAM.caffemodel -gpu 0
"""
_FLAGS = [
    ("solver", "", "the solver prototxt (train)"),
    ("model", "", "the net prototxt (test, time)"),
    ("weights", "", "weights to start from or to score; several, separated by commas, fill one after the other"),
    ("snapshot", "", "the .solverstate to continue from (train)"),
    ("gpu", "", "number of the GPU, for train also several (0,1) or all; without it solver_mode decides, else the CPU"),
    ("phase", "", "TRAIN or TEST (time)"),
    ("level", "0", "level of the net's state"),
    ("stage", "", "stages of the net's state, separated by commas"),
    ("iterations", "50", "how many batches (test, time)"),
    ("precision", "fp32", "fp32, tf32 (products on a GPU) or bf16 (products and what lies between them) (train, test, time)"),
    ("sigint_effect", "stop", "what Ctrl-C does while training: stop (with a snapshot), snapshot or none"),
    ("sighup_effect", "snapshot", "what SIGHUP does while training: stop, snapshot or none"),
    ("log_dir", os.environ.get("GLOG_log_dir", ""), "folder for a copy of the log lines"),  # noqa: SIM112  (glog spells it so)
    ("minloglevel", os.environ.get("GLOG_minloglevel", ""), "1 hides ordinary log lines, 2 warnings too"),  # noqa: SIM112
]
# Other flags of glog, which change nothing here: lines always go to standard error, as those of `caffe` do.
_SWITCHES = {"alsologtostderr", "colorlogtostderr", "drop_log_memory", "log_prefix", "logtostderr", "logtostdout",
             "stop_logging_if_full_disk", "symbolize_stacktrace"}  # take a value only after "="
_UNUSED = ("alsologtoemail", "log_backtrace_at", "log_link", "logbuflevel", "logbufsecs", "logemaillevel", "logmailer",
           "max_log_size", "stderrthreshold", "tab_completion_columns", "tab_completion_word", "undefok", "v", "vmodule")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="torchcaffe", usage=argparse.SUPPRESS, description=_USAGE, allow_abbrev=False,
                                     add_help=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=sorted(_COMMANDS))
    parser.add_argument("-h", "--help", "-help", "-helpshort", "--helpshort", "-helpfull", "--helpfull", action="help",
                        help="show this")
    parser.add_argument("-version", "--version", action="version",
                        version=f"caffe version {__version__} (torchcaffe of skin-lesion-cam {PROJECT})")
    for name, default, text in _FLAGS:
        parser.add_argument(f"-{name}", f"--{name}", default=default, help=text)
    parser.add_argument("-resume_data", "--resume_data", action="store_true", help="keep the data's position beside each "
                        "snapshot, and with -snapshot go on from there; without it data start at record 0, as in Caffe (train)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    for name in _UNUSED:
        parser.add_argument(f"-{name}", f"--{name}", help=argparse.SUPPRESS)
    return parser


def _expanded(words: Iterable[str]) -> Iterator[str]:
    """Yield the words, and in the place of gflags' -flagfile, -fromenv and -tryfromenv what they bring."""
    rest = iter(words)
    for word in rest:
        name, equals, value = word.lstrip("-").partition("=") if word.startswith("-") else ("", "", "")
        if name not in ("flagfile", "fromenv", "tryfromenv"):
            yield word
            continue
        for one in (value if equals else next(rest, "")).split(","):
            if name == "flagfile":
                try:
                    lines = [line.strip() for line in Path(one).read_text(encoding="utf-8").splitlines()]
                except (OSError, UnicodeDecodeError) as error:
                    raise CaffeError(f"-flagfile: {one} cannot be read: {error}") from None
                yield from _expanded(line for line in lines if line.startswith("-"))  # a flag a line, others are remarks
            elif f"FLAGS_{one}" in os.environ:
                yield f"-{one}={os.environ[f'FLAGS_{one}']}"


def _without_switches(words: List[str]) -> List[str]:
    """Return the words without glog's switches."""
    names = _SWITCHES | {f"no{name}" for name in _SWITCHES}
    return [word for word in words if not word.startswith("-") or word.lstrip("-").split("=")[0] not in names]


def _stages(flags: Any) -> List[str]:
    return [stage for stage in flags.stage.split(",") if stage]


def _integer(flags: Any, name: str) -> int:
    text = getattr(flags, name)
    try:
        return int(text, 16 if "x" in text.lower() else 10)
    except ValueError:
        raise CaffeError(f"-{name} is {text!r}, it must be a whole number") from None


def _iterations(flags: Any) -> int:
    count = _integer(flags, "iterations")
    if count < 1:
        raise CaffeError(f"-iterations is {count}, it must be at least 1")
    return count


def _choose_device(gpu: str, line: str) -> None:
    """Set mode and device from the -gpu flag."""
    from . import context
    if not gpu:
        log("caffe.cpp:197", "Use CPU.")
        context.set_mode_cpu()
        return
    if not gpu.isdecimal() or len(gpu) > 9:
        raise CaffeError(f"-gpu is {gpu!r}: only train takes several; give one number")
    context.set_device(int(gpu))
    context.set_mode_gpu()
    log("caffe.cpp:202", line + gpu)


def _choose_precision(name: str) -> None:
    """Set what layers compute in; say so where it is not Caffe's own."""
    from . import context
    context.set_precision(name)
    if name != "fp32":
        log("caffe.cpp:203", f"Precision {name}: layers compute in {name}; weights, solver, softmax and losses in fp32.")
    if name == "bf16" and context.device().type == "cpu" and not has_bf16():
        log("caffe.cpp:204", "This processor has no bf16 arithmetic: -precision fp32 is faster.")


def _required(flags: Any, name: str, purpose: str) -> str:
    value = str(getattr(flags, name))
    if not value:
        raise CaffeError(f"need a {purpose}: give -{name}")
    return value


class _Signals:
    """Keeps the action that a signal requested, until the solver reads it."""

    def __init__(self, flags: Any) -> None:
        self.wanted = "none"
        for number_, effect in ((signal.SIGINT, flags.sigint_effect), (signal.SIGHUP, flags.sighup_effect)):
            if effect not in ("stop", "snapshot", "none"):
                raise CaffeError(f"invalid signal effect {effect!r}; choose stop, snapshot or none")
            signal.signal(number_, lambda *_, effect=effect: self._note(effect))

    def _note(self, effect: str) -> None:
        self.wanted = effect

    def take(self) -> str:
        """Return the action requested since the last call."""
        wanted, self.wanted = self.wanted, "none"
        return wanted


def train(flags: Any) -> None:
    """Train or fine-tune a net."""
    from .netparam import complete_prefix, read_solver
    from .solver import get_solver
    path = _required(flags, "solver", "solver definition to train")
    if flags.snapshot and flags.weights:
        raise CaffeError("give -snapshot to resume training or -weights to fine-tune, not both")
    param = complete_prefix(read_solver(path), path)
    param.train_state.level = _integer(flags, "level")
    param.train_state.stage.extend(_stages(flags))
    gpu = flags.gpu
    if not gpu and param.HasField("solver_mode") and param.solver_mode == param.GPU:
        gpu = str(param.device_id)
    from . import parallel
    gpus, team = parallel.devices(gpu), parallel.launched()
    if len(gpus) > 1 and not team:
        parallel.start(parallel.command(flags.words), len(gpus))
        return
    gpu = parallel.join(gpus) if team else "".join(map(str, gpus))
    _choose_device(gpu, "Using GPUs ")
    _choose_precision(flags.precision)
    signals = _Signals(flags)
    if flags.snapshot or flags.weights:
        del param.weights[:]
    if flags.weights:
        param.weights.append(flags.weights)
    log("solver.cpp:45", f"Initializing solver from parameters:\n{param}")
    solver = get_solver(param, requested=signals.take, frugal=True, keeps_position=flags.resume_data,
                        team=parallel.Team() if team else None)
    if flags.snapshot:
        log("caffe.cpp:240", f"Resuming from {flags.snapshot}")
        solver.restore(flags.snapshot)
    solver.add_callback(lambda: None, heap.keep)  # not before: what the first pass leaves for the next ones stays out of the heap
    log("caffe.cpp:248", "Starting Optimization")
    solver.solve()
    log("caffe.cpp:259", "Optimization Done.")


def test(flags: Any) -> None:
    """Run a net in the test phase and print its mean outputs."""
    from . import TEST
    from .net import Net
    model, weights = _required(flags, "model", "model definition to score"), _required(flags, "weights", "model weights to score")
    iterations = _iterations(flags)
    _choose_device(flags.gpu, "Use GPU with device ID ")
    _choose_precision(flags.precision)
    net = Net(model, TEST, level=_integer(flags, "level"), stages=_stages(flags))
    for path in weights.split(","):
        net.copy_from(path.strip())
    log("caffe.cpp:290", f"Running for {iterations} iterations.")
    loss, sums = 0.0, {}  # type: ignore[var-annotated]
    for i in range(iterations):
        loss += float(net.run_forward(keep_graph=False))
        heap.keep()
        for name in net.outputs:
            values = net.blobs[name].data.flatten().tolist()
            for value in values:
                log("caffe.cpp:313", f"Batch {i}, {name} = {number(value)}")
            sums[name] = [a + b for a, b in zip(sums.get(name, [0.0] * len(values)), values)]
    log("caffe.cpp:318", f"Loss: {number(loss / iterations)}")
    for name, totals in sums.items():
        weight = net.blob_loss_weights[name]
        for mean in (total / iterations for total in totals):
            share = f" (* {number(weight)} = {number(weight * mean)} loss)" if weight else ""
            log("caffe.cpp:330", f"{name} = {number(mean)}{share}")


def time_net(flags: Any) -> None:
    """Time each layer, forward and backward."""
    from . import TEST, TRAIN
    from .net import Net
    model, iterations = _required(flags, "model", "model definition to time"), _iterations(flags)
    if flags.phase not in ("", "TRAIN", "TEST"):
        raise CaffeError(f"-phase is {flags.phase!r}, it must be TRAIN or TEST")
    _choose_device(flags.gpu, "Use GPU with device ID ")
    _choose_precision(flags.precision)
    net = Net(model, TEST if flags.phase == "TEST" else TRAIN, level=_integer(flags, "level"), stages=_stages(flags))
    log("caffe.cpp:369", "Performing Forward")
    log("caffe.cpp:374", f"Initial loss: {number(float(net.run_forward()))}")
    log("caffe.cpp:375", "Performing Backward")
    net.run_backward()
    heap.keep()
    log("caffe.cpp:383", "*** Benchmark begins ***")
    log("caffe.cpp:384", f"Testing for {iterations} iterations.")
    start = time.perf_counter()
    spent: Dict[Tuple[int, str], float] = {}
    for i in range(iterations):
        begin = time.perf_counter()
        _time_once(net, spent)
        log("caffe.cpp:412", f"Iteration: {i + 1} forward-backward time: {number((time.perf_counter() - begin) * 1e3)} ms.")
    _show_times(net, spent, iterations, time.perf_counter() - start)


def _time_once(net: Any, spent: Dict[Tuple[int, str], float]) -> None:
    count = len(net.layers)
    for i in range(count):
        spent[i, "forward"] = spent.get((i, "forward"), 0) + _seconds(net.run_forward, i)
    for i in reversed(range(count)):
        spent[i, "backward"] = spent.get((i, "backward"), 0) + _seconds(net.run_backward, i)


def _seconds(run: Callable[[int, int], Any], layer: int) -> float:
    import torch
    start = time.perf_counter()
    run(layer, layer)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _show_times(net: Any, spent: Dict[Tuple[int, str], float], iterations: int, total: float) -> None:
    log("caffe.cpp:414", "Average time per layer: ")
    for i, name in enumerate(net._layer_names):
        for way in ("forward", "backward"):
            log("caffe.cpp:417", f"{name:>10}\t{way}: {number(spent[i, way] * 1e3 / iterations)} ms.")
    for title, way in (("Forward", "forward"), ("Backward", "backward")):
        sum_ = sum(t for (_, w), t in spent.items() if w == way)
        log("caffe.cpp:425", f"Average {title} pass: {number(sum_ * 1e3 / iterations)} ms.")
    log("caffe.cpp:429", f"Average Forward-Backward: {number(total * 1e3 / iterations)} ms.")
    log("caffe.cpp:431", f"Total Time: {number(total * 1e3)} ms.")
    log("caffe.cpp:432", "*** Benchmark ends ***")


def device_query(flags: Any) -> None:
    """Show what PyTorch knows of the GPUs."""
    import torch

    from . import parallel
    log("caffe.cpp:138", f"Querying GPUs {flags.gpu}")
    count = torch.cuda.device_count()
    for i in parallel.devices(flags.gpu or "all"):
        if i >= count:
            raise CaffeError(f"no GPU {i}; PyTorch sees {count} CUDA devices")
        properties = torch.cuda.get_device_properties(i)
        log("common.cpp:140", f"Device id:                     {i}")
        log("common.cpp:141", f"Major revision number:         {properties.major}")
        log("common.cpp:142", f"Minor revision number:         {properties.minor}")
        log("common.cpp:143", f"Name:                          {properties.name}")
        log("common.cpp:144", f"Total global memory:           {properties.total_memory}")


def _prepare(flags: Any) -> None:
    """Do what concerns the whole process, which is this command's own."""
    if flags.minloglevel:
        os.environ["GLOG_minloglevel"] = str(_integer(flags, "minloglevel"))  # noqa: SIM112  (glog spells it so)
    if flags.log_dir:
        open_file(flags.log_dir)
    if "caffe" not in sys.modules and importlib.util.find_spec("caffe") is None:
        sys.modules["caffe"] = sys.modules[__package__]  # for Python layers that say `import caffe`


_COMMANDS: Dict[str, Callable[[Any], None]] = {"train": train, "test": test, "time": time_net, "device_query": device_query}


def main(argv: Optional[List[str]] = None) -> int:
    """Run a command; return the exit status."""
    words = sys.argv[1:] if argv is None else argv
    debug = False
    guard_decoder()  # nothing has loaded OpenCV yet
    try:
        flags = _parser().parse_args(_without_switches([*_expanded(words)]))
        flags.words, debug = words, flags.debug
        with interrupts.kept():
            _prepare(flags)
            _COMMANDS[flags.command](flags)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except (CaffeError, *STRAY) as error:
        if debug:
            raise
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # reading threads need not be waited for

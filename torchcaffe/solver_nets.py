"""The nets of a solver: one to train, and those to test (``Solver::InitTrainNet``, ``InitTestNets``)."""
import functools
from typing import Any, Callable, Iterator, List, Optional, Tuple

from .errors import CaffeError
from .glog import log
from .net import Net
from .netparam import message_net, read_net
from .proto import caffe_pb2 as pb


def _net_of(text: Any, phase: int, state: Optional[Any]) -> Net:
    merged = pb.NetState(phase=phase)
    merged.MergeFrom(text.state)
    if state is not None:
        merged.MergeFrom(state)
    text.state.CopyFrom(merged)
    return Net(text)


def train_net(p: Any) -> Net:
    """Return the net that a SolverParameter trains."""
    fields = [f for f in ("net", "net_param", "train_net", "train_net_param") if p.HasField(f)]
    if len(fields) != 1:
        raise CaffeError(f"solver: give one of net, net_param, train_net, train_net_param; found {fields or 'none'}")
    value = getattr(p, fields[0])
    named = isinstance(value, str)
    log("solver.cpp:97", "Creating training net " + (f"from {fields[0]} file: {value}" if named else f"in {fields[0]}."))
    return _net_of(read_net(value) if named else message_net(value, fields[0]), pb.TRAIN, p.train_state)


def test_nets(p: Any) -> Iterator[Net]:
    """Yield the nets that a SolverParameter tests."""
    sources: List[Tuple[str, Callable[[], Any]]] = []
    sources += [("test_net_param", functools.partial(message_net, text, "test_net_param")) for text in p.test_net_param]
    sources += [(f"test_net file: {file}", functools.partial(read_net, file)) for file in p.test_net]
    rest, generic = len(p.test_iter) - len(sources), p.HasField("net") or p.HasField("net_param")
    if rest < 0 or (rest > 0 and not generic):
        raise CaffeError(f"solver: test_iter is given {len(p.test_iter)} times for {len(sources)} test nets")
    if generic:
        source = f"net file: {p.net}" if p.HasField("net") else "net_param"
        sources += [(source, lambda: read_net(p.net) if p.HasField("net") else message_net(p.net_param, "net_param"))] * rest
    if p.test_state and len(p.test_state) != len(sources):
        raise CaffeError(f"solver: test_state is given {len(p.test_state)} times for {len(sources)} test nets")
    if sources and p.test_interval <= 0:
        raise CaffeError("solver: test_iter needs a positive test_interval")
    for i, (source, read) in enumerate(sources):
        log("solver.cpp:190", f"Creating test net (#{i}) specified by {source}")
        yield _net_of(read(), pb.TEST, p.test_state[i] if p.test_state else None)

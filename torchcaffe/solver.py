"""Caffe's solvers: training, testing, snapshots, with Caffe's log lines (solver.cpp, sgd_solver.cpp)."""
import functools
import os
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from torch import Tensor

from . import context, rates, snapshot, threads, updates
from .blob import tensor_of
from .debug import params as debug_params
from .errors import CaffeError
from .glog import log, number
from .net import Net
from .netparam import complete_prefix, read_solver
from .proto import caffe_pb2 as pb
from .solver_nets import test_nets, train_net

NONE, STOP, SNAPSHOT = "none", "stop", "snapshot"


class Solver:
    """Trains a net as a solver prototxt says.

    Parameters
    ----------
    param_file : str or SolverParameter
        The solver's prototxt.
    requested : function
        Returns the action that a signal has requested since the last call: ``none``, ``snapshot`` or ``stop``.
    frugal : bool
        Free each blob after its last use, for trainings whose blobs no script reads.
    keeps_position : bool
        Snapshots record the position in the data, and `restore` continues from it; Caffe starts at record 0.
    team : Team
        The processes that train together (parallel.py).

    Attributes
    ----------
    net, test_nets : Net, list of Net
    iter : int
        How many updates were made.
    param : SolverParameter
    """

    type = "SGD"

    def __init__(self, param_file: Any, *, requested: Callable[[], str] = lambda: NONE, frugal: bool = False,
                 keeps_position: bool = False, team: Any = None) -> None:
        self.param = _read(param_file)
        p = self.param
        if p.average_loss < 1 or p.iter_size < 1:
            raise CaffeError("solver: average_loss and iter_size must be at least 1")
        if p.max_iter:  # without any step no rate is needed
            rates.check_policy(p)
        updates.check(p, self.type)
        self._check_snapshot_prefix()
        self.requested, self.frugal, self.keeps_position, self.team = requested, frugal, keeps_position, team
        if p.random_seed >= 0:
            context.set_random_seed(p.random_seed + context.solver_rank())
        self.net = train_net(p)
        self.test_nets = list(test_nets(p))
        for path in (w.strip() for entry in p.weights for w in entry.split(",")):
            nets = [self.net, *self.test_nets]
            weights = snapshot.read_weights(path, {name: count for net in nets for name, count in net.room.items()})
            for net in nets:
                log("solver.cpp:83", f"Finetuning from {path}")
                net.load(path, weights)
        if team:
            team.share(self.net)
        self.iter = self.current_step = 0
        _, self._depth = updates.RULES[self.type]
        self.history = [torch.zeros_like(q.blob.tensor) for _ in range(self._depth) for q in self.net.learnable]
        self._resting: Optional[List[bool]] = None  # which parameters never had a reason to move
        self._callbacks: List[Tuple[Any, Any]] = []
        self._losses: List[Tensor] = []
        self._smoothed: Any = 0.0
        self._clock, self._clock_iter = time.perf_counter(), 0
        self._stopped = False
        log("solver.cpp:57", "Solver scaffolding done.")

    # ------------------------------------------------------------ construction
    def _check_snapshot_prefix(self) -> None:
        p = self.param
        if p.snapshot and not p.HasField("snapshot_prefix"):
            raise CaffeError("solver: snapshot is given but snapshot_prefix is not")
        if p.snapshot:
            self._check_snapshot_folder()

    def _check_snapshot_folder(self) -> None:
        p = self.param
        folder = os.path.dirname(p.snapshot_prefix) or "."
        if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
            raise CaffeError(f"solver: cannot write to snapshot_prefix {p.snapshot_prefix!r}: "
                             f"make the folder {folder!r} and let it be writable")

    # ------------------------------------------------------------ training
    @threads.shared
    def step(self, iters: int) -> None:
        """Train `iters` iterations."""
        if iters > 0:
            rates.check_policy(self.param)
        start, stop = self.iter, self.iter + iters
        self._losses, self._smoothed = [], 0.0
        self._clock = time.perf_counter()
        while self.iter < stop:
            self.net.clear_param_diffs()
            if self._is_due(self.param.test_interval) and (self.iter > 0 or self.param.test_initialization):
                self._test_all()
                if self._stopped:
                    break
            for on_start, _ in self._callbacks:
                on_start()
            display = self._is_due(self.param.display)
            self._smooth(self._combine(self._accumulate(display and self.param.debug_info)), start)
            if display:
                self._show_progress()
            if self.team:
                self.team.average_gradients(self.net)
            for _, on_gradients_ready in self._callbacks:
                on_gradients_ready()
            self.apply_update()
            request = self.team.agree(self.requested()) if self.team else self.requested()
            if self._is_due(self.param.snapshot) or request == SNAPSHOT:
                self.snapshot()
            if request == STOP:
                self._stopped = True
                break
        self.net.settle()

    def _combine(self, loss: Tensor) -> Tensor:
        return self.team.mean(loss) if self.team else loss  # type: ignore[no-any-return]

    def _is_due(self, interval: int) -> bool:
        return bool(interval) and self.iter % interval == 0

    def _accumulate(self, debug: bool) -> Any:
        """Add up the gradients of `iter_size` batches; return their mean loss."""
        self.net.debug_info = debug
        losses = []
        for _ in range(self.param.iter_size):
            losses.append(self.net.run_forward(keep_blobs=not self.frugal))
            self.net.run_backward(retain=not self.frugal, keep_blobs=not self.frugal)
            if debug:
                debug_params(self.net)
        return functools.reduce(torch.add, losses) / len(losses) if len(losses) > 1 else losses[0]

    def _smooth(self, loss: Tensor, start: int) -> None:
        """Average the loss over `average_loss` iterations (``UpdateSmoothedLoss``); nothing is copied from a GPU."""
        span = self.param.average_loss
        if len(self._losses) < span:
            self._losses.append(loss)
            count = len(self._losses)
            self._smoothed = (self._smoothed * (count - 1) + loss) / count if count > 1 else loss
        else:
            at = (self.iter - start) % span
            self._smoothed = self._smoothed + (loss - self._losses[at]) / span
            self._losses[at] = loss

    def _show_progress(self) -> None:
        now = time.perf_counter()
        lapse, done = now - self._clock, self.iter - self._clock_iter
        self._clock, self._clock_iter = now, self.iter
        log("solver.cpp:239", f"Iteration {self.iter} ({number(done / (lapse or 1))} iter/s, {number(lapse)}s/"
                              f"{self.param.display} iters), loss = {number(float(self._smoothed))}")
        for i, line in enumerate(_outputs(self.net)):
            log("solver.cpp:258", f"    Train net output #{i}: {line}")

    @property
    def lr(self) -> float:
        """Learning rate of the next update; with `multistep`, asking advances the step as in Caffe."""
        step = rates.next_step(self.param, self.iter, self.current_step)
        if step != self.current_step and self.param.lr_policy == "multistep":
            log("sgd_solver.cpp:50", f"MultiStep Status: Iteration {self.iter}, step = {step}")
        self.current_step = step
        return rates.rate(self.param, self.iter, step)

    def apply_update(self) -> None:
        """Turn the gradients into a step, take it, count the iteration."""
        rate = self.lr
        if self._is_due(self.param.display):
            log("sgd_solver.cpp:112", f"Iteration {self.iter}, lr = {number(rate)}")
        moving = self._moving()
        if moving:  # torch's functions of lists take no empty one
            self._update(rate, moving)
        self.iter += 1

    @torch.no_grad()
    def _update(self, rate: float, moving: List[int]) -> None:
        """Take the step of the parameters with these numbers."""
        params = [self.net.learnable[i] for i in moving]
        grads, weights = [q.blob.grad for q in params], [q.blob.tensor for q in params]
        updates.clip(self.param, grads)
        count, sides = len(self.net.learnable), range(self._depth)
        histories = [[self._history(s * count + i, w) for i, w in zip(moving, weights)] for s in sides]
        if self.param.iter_size > 1:
            torch._foreach_mul_(grads, 1 / self.param.iter_size)
        decays, rates_ = [self.param.weight_decay * q.decay_mult for q in params], [rate * q.lr_mult for q in params]
        plain = self.type == "SGD" and (self.param.regularization_type == "L2" or not any(decays))
        if plain and updates.sgd_at_once(self.param.momentum, rates_, decays, weights, grads, histories[0]):
            for q, history in zip(params, histories[0]):
                q.blob.lend_grad(history)  # the step
        else:
            updates.regularize(self.param, weights, grads, decays)
            updates.RULES[self.type][0](self.param, self.iter, rates_, grads, histories[0], histories[-1])
            torch._foreach_sub_(weights, grads)

    def _history(self, i: int, weight: Tensor) -> Tensor:
        """Return a history that lies in memory like its parameter, so that both can be cut alike."""
        if self.history[i].stride() != weight.stride():
            self.history[i] = torch.empty_like(weight).copy_(self.history[i])
        return self.history[i]

    def _moving(self) -> List[int]:
        """Return which parameters have to be updated: a frozen one, at rest since ever, stays as it is under these rules."""
        if self._resting is None:
            still = self.type in ("SGD", "Nesterov")
            self._resting = [still and q.lr_mult == 0 and not self.history[i].any() for i, q in enumerate(self.net.learnable)]
        return [i for i, (q, rests) in enumerate(zip(self.net.learnable, self._resting)) if not (rests and q.blob.grad_empty)]

    def solve(self, resume_file: Optional[str] = None) -> None:
        """Train up to max_iter, with tests and snapshots on the way and at the end."""
        p = self.param
        log("solver.cpp:279", f"Solving {self.net.name}")
        log("solver.cpp:280", f"Learning Rate Policy: {p.lr_policy}")
        self._stopped = False
        if resume_file:
            log("solver.cpp:286", f"Restoring previous solver status from {resume_file}")
            self.restore(resume_file)
        start = self.iter
        if p.snapshot_after_train:
            self._check_snapshot_folder()  # before the work, not after it
        self.step(p.max_iter - self.iter)
        if p.snapshot_after_train and not self._is_due(p.snapshot):
            self.snapshot()
        if self._stopped:
            log("solver.cpp:303", "Optimization stopped early.")
            return
        if self._is_due(p.display):
            self._smooth(self._combine(self.net.run_forward(keep_graph=False)), start)
            log("solver.cpp:317", f"Iteration {self.iter}, loss = {number(float(self._smoothed))}")
        if self._is_due(p.test_interval):
            self._test_all()
        log("solver.cpp:325", "Optimization Done.")

    # ------------------------------------------------------------ testing
    def _test_all(self) -> None:
        for i in range(len(self.test_nets) if context.solver_rank() == 0 else 0):
            if not self._stopped:
                self._test(i)

    def _test(self, i: int) -> None:
        log("solver.cpp:347", f"Iteration {self.iter}, Testing net (#{i})")
        net, count = self.test_nets[i], self.param.test_iter[i]
        if count < 1:
            return
        net.share_with(self.net)
        net.debug_info = self.param.debug_info
        loss: Any = 0.0
        sums: Optional[List[Tensor]] = None
        for _ in range(count):
            while context.solver_count() == 1 and (request := self.requested()) != NONE:
                if request == SNAPSHOT:
                    self.snapshot()
                else:
                    self._stopped = True
            if self._stopped:
                log("solver.cpp:391", "Test interrupted.")
                return
            loss = loss + net.run_forward(keep_graph=False, keep_blobs=not self.frugal)
            values = [net._blobs[j].tensor.clone() for j in net._outputs]
            sums = values if sums is None else [a + b for a, b in zip(sums, values)]
        net.settle()
        if self.param.test_compute_loss:
            log("solver.cpp:397", f"Test loss: {number(float(loss) / count)}")
        for j, line in enumerate(_outputs(net, [s / count for s in sums or []])):
            log("solver.cpp:414", f"    Test net output #{j}: {line}")

    # ------------------------------------------------------------ snapshots
    def snapshot(self) -> None:
        """Write `PREFIX_iter_N.caffemodel` and `.solverstate` (or both as HDF5); of several processes the first does."""
        if context.solver_rank():
            return
        p = self.param
        prefix, end = f"{p.snapshot_prefix}_iter_{self.iter}", ".h5" if p.snapshot_format == p.HDF5 else ""
        model, state = f"{prefix}.caffemodel{end}", f"{prefix}.solverstate{end}"
        if self.keeps_position:  # written before the state: a state on disk always has its position
            snapshot.write_position(f"{prefix}.datastate", [net.position for net in [self.net, *self.test_nets]])
        kind = "HDF5 file" if end else "binary proto file"
        log("solver.cpp:464", f"Snapshotting to {kind} {model}")
        (self.net.save_hdf5 if end else self.net.save)(model, p.snapshot_diff)
        log("sgd_solver.cpp:280", f"Snapshotting solver state to {kind} {state}")
        snapshot.write_state(state, self.iter, model, self.current_step, self.history)

    def restore(self, path: str) -> None:
        """Continue from a solver state; loads the weights that it names."""
        iteration, learned_net, step, history = snapshot.read_state(str(path), sum(h.numel() for h in self.history))
        if len(history) != len(self.history):
            raise CaffeError(f"{path}: incorrect length of history: {len(history)} blobs, {len(self.history)} expected; "
                             f"was it written by another solver type or net?")
        for i, (mine, theirs) in enumerate(zip(self.history, history)):
            if tuple(mine.shape) != theirs.shape:
                raise CaffeError(f"{path}: history blob {i} has shape {theirs.shape}, expected {tuple(mine.shape)}")
        if learned_net:
            self.net.copy_from(learned_net)
        log("sgd_solver.cpp:336", "SGDSolver: restoring history")
        for mine, theirs in zip(self.history, history):
            mine.copy_(tensor_of(theirs))
        self._resting = None
        self.iter, self.current_step = iteration, step
        if self.keeps_position:
            nets = [self.net, *self.test_nets]
            for net, position in zip(nets, snapshot.read_position(str(path), len(nets))):
                net.position = position

    def share_weights(self, net: Net) -> None:
        """Let another net use the parameters of the training net."""
        net.share_with(self.net)

    def add_callback(self, on_start: Callable[[], None], on_gradients_ready: Callable[[], None]) -> None:
        """Call functions before each iteration and before each update."""
        self._callbacks.append((on_start, on_gradients_ready))


def _outputs(net: Net, values: Optional[List[Tensor]] = None) -> List[str]:
    """Return a text for every number of the net's outputs, as Caffe's log shows them."""
    lines = []
    for at, i in enumerate(net._outputs):
        weight, tensor = net._blob_loss_weights[i], values[at] if values is not None else net._blobs[i].tensor
        for value in tensor.flatten().tolist():
            loss = f" (* {number(weight)} = {number(weight * value)} loss)" if weight else ""
            lines.append(f"{net._blob_names[i]} = {number(value)}{loss}")
    return lines


SOLVERS: Dict[str, Any] = {name: type(f"{name}Solver", (Solver,), {"type": name, "__doc__": f"Solver of type {name}."})
                           for name in updates.RULES}


def _read(param_file: Any) -> Any:
    """Return the SolverParameter of a file, or a message itself; one of another caffe_pb2 is turned into ours."""
    if isinstance(param_file, pb.SolverParameter):
        return param_file
    if hasattr(param_file, "SerializeToString"):
        return pb.SolverParameter.FromString(param_file.SerializeToString())
    path = os.fsdecode(param_file)
    return complete_prefix(read_solver(path), path)


def get_solver(param_file: Any, **more: Any) -> Solver:
    """Return the solver that a prototxt's `type` asks for; `more` are the further arguments of `Solver`."""
    param = _read(param_file)
    if param.type not in SOLVERS:
        raise CaffeError(f"solver: unknown type {param.type!r}; known: {', '.join(SOLVERS)}")
    solver: Solver = SOLVERS[param.type](param, **more)
    return solver

"""A stand-in for a GPU's device and streams, so that the code around it runs where there is none.

Tensors say `cuda` and hold a CPU tensor: what they compute is right, two devices in one operation are refused as CUDA
refuses them. Streams and events are clocks, so that is seen which a CPU's order of execution would hide:

    a lane reads what another writes, or overwrites what another reads, without having waited for it
    a tensor is used on a lane that its memory was not recorded for
    the host waits for work in flight: a copy of pageable memory, a blocking one, or a question about values

Nothing of ours is replaced: `standing_in` puts itself in the place of torch's own functions. Its limits: no kernel of
Triton runs on it, nothing is compiled, no speed or rounding of a GPU is shown.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from kernels.hadamard import reference as hadamard

_ASKS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal")
"""Operators whose answer the host waits for."""


class Machine:
    """What has happened, by lane; `found` are the faults, each once."""

    def __init__(self):
        self.found: list[str] = []
        self.lanes: list[Lane] = []
        self.host, self.lane = Lane(self), Lane(self)
        self.written, self.owner = {}, {}
        self.read, self.recorded, self.pinned = defaultdict(dict), set(), set()
        self.kept = []  # an address must not be given away twice

    def fault(self, what, which):
        if f"{what}: {which}" not in self.found:
            self.found.append(f"{what}: {which}")

    def wait(self, which):
        """The host waits for all that the current lane has to do, and so cannot launch more on any."""
        if any(self.host.known[lane] < lane.time for lane in self.lanes):
            self.fault("the host waits for work in flight", which)
        self.host.absorb(self.lane.known)

    def note(self, which, reads, writes, fresh=()):
        lane, now = self.lane, self.lane.tick()
        for at in map(address, reads):
            by, then = self.written.get(at, (lane, 0))
            if lane.known[by] < then:
                self.fault("read before it is written", which)
            if self.owner.get(at, lane) is not lane and (at, lane) not in self.recorded:
                self.fault("used on a lane that its memory is not recorded for", which)
            self.read[at][lane] = now
        for at in map(address, writes):
            if any(lane.known[by] < then for by, then in self.read[at].items()):
                self.fault("overwritten before it is read", which)
            self.written[at] = lane, now
        for value in fresh:
            self.kept.append(value)
            self.owner[address(value)], self.written[address(value)] = lane, (lane, now)


class Lane:
    """A stream: its own time, and how far it knows each other one to be."""

    def __init__(self, machine, device=None):
        self.machine, self.time, self.known = machine, 0, defaultdict(int)
        machine.lanes.append(self)

    def tick(self):
        self.time += 1
        self.known[self] = self.time
        return self.time

    def absorb(self, known):
        for lane, then in known.items():
            self.known[lane] = max(self.known[lane], then)

    def wait_stream(self, other):
        self.absorb(other.known)

    def record_event(self):
        event = Event(self.machine)
        event.record(self)
        return event


class Event:
    def __init__(self, machine, enable_timing=False):
        self.machine, self.known = machine, {}

    def record(self, lane=None):
        self.known, self.at = dict((lane or self.machine.lane).known), time.perf_counter()

    def synchronize(self):
        self.machine.host.absorb(self.known)

    def elapsed_time(self, other):
        if any(self.machine.host.known[lane] < then for lane, then in other.known.items()):
            self.machine.fault("an event's time is asked for before it is over", "elapsed_time")
        return (other.at - self.at) * 1e3


class OnDevice(Tensor):
    """Says that it is on `cuda`; `held` is its value."""

    machine: Machine

    @staticmethod
    def __new__(cls, held):
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        with torch.inference_mode(False):
            made = Tensor._make_wrapper_subclass(cls, held.shape, device=torch.device("cuda", 0), **layout)
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        kwargs, machine = kwargs or {}, cls.machine
        if operator._can_decompose():
            return operator.decompose(*args, **kwargs)
        name = operator._schema.name.removeprefix("aten::")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        ours = [leaf for leaf in tensors if isinstance(leaf, cls)]
        if any(not isinstance(leaf, cls) and leaf.ndim for leaf in tensors):
            raise RuntimeError(f"Expected all tensors to be on the same device, in {name}")
        to_host = name == "_to_copy" and torch.device(kwargs.get("device") or "cuda").type == "cpu"
        masks = name.startswith("index") and any(leaf.dtype == torch.bool for leaf in tensors[1:])
        with torch.inference_mode(False), torch.no_grad():
            answer = operator(*tree_map(_held, args), **tree_map(_held, kwargs))
        known = {id(leaf.held): leaf for leaf in ours}
        inputs = {address(leaf.held) for leaf in ours}
        answers = [leaf for leaf in tree_leaves(answer) if isinstance(leaf, Tensor)]
        fresh = [leaf for leaf in answers if address(leaf) not in inputs]
        written = [leaf for leaf in answers if id(leaf) in known]
        # A view moves nothing.
        if fresh or written or not answers:
            reads = [leaf.held for leaf in ours if not any(leaf.held is other for other in written)]
            machine.note(name, reads, written, () if to_host else fresh)
        if name in _ASKS or masks or (to_host and not kwargs.get("non_blocking")):
            machine.wait(name)
        if to_host or name == "_local_scalar_dense":
            return answer
        return tree_map(lambda leaf: known.get(id(leaf), _on_device(leaf)), answer)


class _Factories(TorchFunctionMode):
    """What makes a tensor on `cuda` makes a stand-in."""

    def __init__(self, machine):
        super().__init__()
        self.machine = machine

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function is Tensor.pin_memory:
            return self._pinned(args[0])
        if function is Tensor.to:
            device, dtype, non_blocking, layout = torch._C._nn._parse_to(*args[1:], **kwargs)
            if device is not None and device.type == "cuda":
                changed = {"dtype": dtype, "memory_format": layout}
                changed = {name: value for name, value in changed.items() if value is not None}
                value = function(args[0], **changed) if changed else args[0]
                return value if isinstance(value, OnDevice) else self._sent(value, non_blocking)
        if torch.device(kwargs.get("device") or "cpu").type == "cuda":
            made = function(*tree_map(_held, args), **kwargs | {"device": "cpu"})
            # Values that the host has are copied there, and waited for.
            return self._sent(made, False) if function in (torch.tensor, torch.as_tensor) else self._made(made)
        if kwargs.pop("pin_memory", False):
            return self._pinned(function(*args, **kwargs))
        return function(*args, **kwargs)

    def _pinned(self, value):
        self.machine.kept.append(value)
        self.machine.pinned.add(address(value))
        return value

    def _sent(self, value, non_blocking):
        waits = not non_blocking or address(value) not in self.machine.pinned
        if waits:
            self.machine.wait("copy to the device")
        made = self._made(value.detach().clone())
        if waits:
            self.machine.host.absorb(self.machine.lane.known)
        return made

    def _made(self, held):
        self.machine.note("made", (), (), [held])
        return OnDevice(held)


@contextlib.contextmanager
def standing_in(monkeypatch):
    """The machine, while torch takes it for a GPU. Page-locked memory that other threads ask for is theirs to fill."""
    machine = OnDevice.machine = Machine()
    torch._C._ensureCUDADeviceGuardSet()

    @contextlib.contextmanager
    def on(lane):
        before, machine.lane = machine.lane, lane
        yield
        machine.lane = before

    factories, empty = _Factories(machine), torch.empty
    monkeypatch.setattr(torch.cuda, "Stream", lambda device=None: Lane(machine))
    monkeypatch.setattr(torch.cuda, "Event", type("Event", (Event,), {"__init__": _with(machine)}))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: machine.lane)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(Tensor, "record_stream", lambda value, lane: machine.recorded.add((address(value.held), lane)))
    # Threads do not see the mode.
    monkeypatch.setattr(
        torch,
        "empty",
        lambda *shape, pin_memory=False, **kwargs: (
            factories._pinned(empty(*shape, **kwargs)) if pin_memory else empty(*shape, **kwargs)
        ),
    )
    # Tables kept by device are of this one alone.
    for tables in ("_SIGNS", "_MATRICES"):
        monkeypatch.setattr(hadamard, tables, {})
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with factories:
            yield machine
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def _with(machine):
    return lambda self, enable_timing=False: Event.__init__(self, machine, enable_timing)


def address(value):
    """Of the memory that a tensor, or a view of it, lies in."""
    return value.untyped_storage().data_ptr()


def _held(leaf):
    if isinstance(leaf, torch.device):
        return torch.device("cpu")
    return leaf.held if isinstance(leaf, OnDevice) else leaf


def _on_device(leaf):
    return OnDevice(leaf) if isinstance(leaf, Tensor) else leaf

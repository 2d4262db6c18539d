"""One process or many: device, precision and the sums over processes, by Lightning Fabric.

Started by `torchrun`, every process takes its share of each batch; otherwise there is one process.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.distributed
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy

from clarice.core.errors import UsageError
from clarice.geometry.angular import fast_dtype

_PRECISIONS: Mapping[str, Literal["32-true", "bf16-mixed"]] = {"32": "32-true", "bf16-mixed": "bf16-mixed"}


def settled_precision(precision: str, kind: str) -> str:
    """Which of "32" and "bf16-mixed" is used: `precision`, or for "auto" the latter where bfloat16 is native.

    A CPU that has to emulate it takes several times as long for a step as in float32.
    """
    if precision != "auto":
        return precision
    return "bf16-mixed" if fast_dtype(torch.device(kind)) == torch.bfloat16 else "32"


class Processes:
    """This process among those that train together: `rank` of `world`, on `device`, in `precision`."""

    def __init__(self, device: str = "auto", precision: str = "32") -> None:
        kind, numbers = _chosen(device)
        self.precision = settled_precision(precision, kind)
        fabric_precision = _PRECISIONS[self.precision]
        plugin: TorchElasticEnvironment | LightningEnvironment
        if TorchElasticEnvironment.detect():
            local = int(os.environ["LOCAL_WORLD_SIZE"])
            hosts = int(os.environ["WORLD_SIZE"]) // local
            if kind == "cuda" and local > torch.cuda.device_count():
                raise UsageError(
                    f"{local} processes were started for {torch.cuda.device_count()} GPUs: "
                    "pass torchrun --nproc-per-node as many as there are"
                )
            plugin = TorchElasticEnvironment()
            self.fabric = Fabric(
                accelerator=kind,
                devices=local,
                num_nodes=hosts,
                strategy=DDPStrategy(),
                precision=fabric_precision,
                plugins=[plugin],
            )
        else:
            # Said outright, so that an interactive job's variables do not suggest other processes.
            plugin = LightningEnvironment()
            self.fabric = Fabric(
                accelerator=kind, devices=numbers, strategy="auto", precision=fabric_precision, plugins=[plugin]
            )
        self.fabric.launch()
        self.rank: int = self.fabric.global_rank
        self.world: int = self.fabric.world_size
        self.device: torch.device = self.fabric.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    @property
    def gpus(self) -> list[int]:
        """The GPU this process works on, as `torch.random.fork_rng` wants it; empty on the CPU."""
        return [self.device.index or 0] if self.device.type == "cuda" else []

    def add_up(self, tensor: torch.Tensor) -> None:
        """Replaces `tensor` by its sum over the processes."""
        if self.world > 1:
            torch.distributed.all_reduce(tensor)

    def largest(self, number: int) -> int:
        """The largest of the processes' numbers."""
        if self.world == 1:
            return number
        value = torch.tensor(number, device=self.device)
        torch.distributed.all_reduce(value, op=torch.distributed.ReduceOp.MAX)
        return int(value)

    def gathered(self, value: Any) -> list[Any]:
        """Every process's plain `value`, by rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(values, value)
        return values

    def close(self) -> None:
        """Leaves the group of processes."""
        if self.world > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _chosen(device: str) -> tuple[str, int | list[int]]:
    if device == "auto":
        return ("cuda", 1) if torch.cuda.is_available() else ("cpu", 1)
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not (kind == "cuda" and number.isdigit())):
        raise UsageError(f"{device!r} is not a device: choose auto, cpu, cuda, or one GPU such as cuda:0")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device is available: choose --device cpu, or install a CUDA build of torch")
    if number and int(number) >= torch.cuda.device_count():
        raise UsageError(f"there is no {device}: {torch.cuda.device_count()} GPUs are visible, counted from 0")
    return kind, [int(number)] if number else 1

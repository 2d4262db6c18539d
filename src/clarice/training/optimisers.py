"""What moves the parameters: AdamW, or Muon for matrices with AdamW for the rest."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from clarice.core.errors import UsageError
from clarice.training.settings import TrainingSettings

# Matrices with fewer rows or columns are left to AdamW: there is little to orthogonalise.
LEAST_MUON_EDGE = 32


class Optimisers:
    """The optimisers of named parameters, driven and saved as one. Offsets and gains are not pulled to zero."""

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], settings: TrainingSettings, device: torch.device
    ) -> None:
        self._parameters = dict(parameters)
        by_muon = [p for p in parameters.values() if settings.optimiser == "muon" and _is_matrix(p)]
        chosen = {id(p) for p in by_muon}
        rest = [p for p in parameters.values() if id(p) not in chosen]
        groups = [
            {"params": [p for p in rest if p.ndim >= 2], "weight_decay": settings.weight_decay},
            {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        ]
        rate, fused = settings.learning_rate, device.type == "cuda"
        self._all: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=rate, betas=settings.betas, fused=fused)]
        if by_muon and not hasattr(torch.optim, "Muon"):
            raise UsageError(f"torch {torch.__version__} has no Muon: take 2.9 or newer, or training.optimiser=adamw")
        if by_muon:
            self._all.append(
                torch.optim.Muon(
                    by_muon,
                    lr=settings.matrix_learning_rate,
                    weight_decay=settings.weight_decay,
                    adjust_lr_fn="match_rms_adamw",  # its steps are as long as AdamW's would be
                )
            )
        self._peaks = [[group["lr"] for group in one.param_groups] for one in self._all]

    def step(self, share_of_rate: float) -> None:
        """One step at `share_of_rate` of the full learning rates."""
        for optimiser, peaks in zip(self._all, self._peaks, strict=True):
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * share_of_rate
            optimiser.step()

    def clear_gradients(self) -> None:
        """Zeros rather than nothing: a parameter unused in one share may be used in another process's."""
        for parameter in self._parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            else:
                parameter.grad.zero_()

    def state(self) -> dict[str, Tensor]:
        """Momenta and counts as `key.name of the parameter`."""
        return {
            f"{key}.{name}": value
            for name, parameter in self._parameters.items()
            for optimiser in self._all
            if parameter in optimiser.state
            for key, value in optimiser.state[parameter].items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over what `state` gave."""
        of_parameter: dict[str, dict[str, Tensor]] = {}
        for key_and_name, value in tensors.items():
            key, _, name = key_and_name.partition(".")
            of_parameter.setdefault(name, {})[key] = value
        names = {id(parameter): name for name, parameter in self._parameters.items()}
        for optimiser in self._all:
            content = optimiser.state_dict()
            order = [names[id(p)] for group in optimiser.param_groups for p in group["params"]]
            content["state"] = {i: of_parameter[name] for i, name in enumerate(order) if name in of_parameter}
            optimiser.load_state_dict(content)


def _is_matrix(parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 and min(parameter.shape) >= LEAST_MUON_EDGE

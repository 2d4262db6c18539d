"""What the protocol `denoise` compares: every registered denoiser, class averaging, the oracle, and peers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clarice.benchmark.denoise_classes import class_averaging, oracle_then
from clarice.benchmark.denoise_provenance import told
from clarice.benchmark.denoise_scores import Answer
from clarice.benchmark.denoise_sets import ImageSet, joined
from clarice.core.errors import UsageError
from clarice.denoise.networks import NETWORKS
from clarice.denoise.registry import denoise_all, denoiser_names, get_denoiser
from clarice.denoise.trained import trained_names, trained_network
from clarice.io.weights import weights_path

# Answers to sets of one structure, of the setting named.
Measure = Callable[[Sequence[ImageSet], str], list[Answer]]

OURS, COVARIANCE, CLASSES, ORACLE = "polar-transformer", "covariance-wiener", "classes", "oracle"
# Images that a method which sees each alone is given at once.
_BATCH = 512


@dataclass(frozen=True)
class Method:
    """A method by name. `with_null`: its answer to pure noise is measured as well; `about`: what a row says of it."""

    name: str
    measure: Measure
    with_null: bool = True
    about: dict[str, Any] = field(default_factory=dict)


def single_image_networks() -> list[str]:
    """The networks with weights that see each image alone."""
    return [name for name in trained_names() if NETWORKS[name].alone]


def our_methods() -> dict[str, Method]:
    """Everything of ours, by name; the oracle with each way of denoising its averages."""
    methods = [_registered(name) for name in denoiser_names()]
    methods.append(Method(CLASSES, _one_by_one(class_averaging)))
    methods.append(Method(ORACLE, _one_by_one(oracle_then("wiener")), with_null=False))
    for name in single_image_networks():
        methods.append(Method(f"{ORACLE}+{name}", _one_by_one(oracle_then(name)), with_null=False, about=_card(name)))
    return {method.name: method for method in methods}


def _one_by_one(answer: Callable[[ImageSet, str], Answer]) -> Measure:
    return lambda sets, setting: [answer(one, setting) for one in sets]


def _card(name: str) -> dict[str, Any]:
    """What the weights' card says: parameters and images trained on; nothing of methods that are not trained."""
    if name not in NETWORKS:
        return {}
    trained = trained_network(name)
    digest = hashlib.sha256(weights_path(name).read_bytes()).hexdigest()
    return {
        "parameters": trained.parameters,
        "images_trained": trained.card.get("images"),
        "weights_sha256": digest,
    }


def _registered(name: str) -> Method:
    method = get_denoiser(name)
    alone = name in NETWORKS and NETWORKS[name].alone
    warm: list[bool] = []

    def measure(sets: Sequence[ImageSet], setting: str) -> list[Answer]:  # noqa: ARG001
        if not warm:  # weights are read and buffers made outside the time
            denoise_all(method(sets[0].noisy_set()), len(sets[0]), sets[0].box)
            warm.append(True)
        return [answer for part in _batches(sets, alone) for answer in answers(part)]

    def answers(part: list[ImageSet]) -> Iterator[Answer]:
        noisy = joined(part)
        started = time.perf_counter()
        images = denoise_all(method(noisy), len(noisy), noisy.box)
        seconds = (time.perf_counter() - started) / len(noisy)
        ends = np.cumsum([len(one) for one in part])
        for one, found in zip(part, np.split(images, ends[:-1]), strict=True):
            # What it tells is asked for once a structure, outside the time.
            remarks = told(method, one) if one.number == 0 and one.clean.any() else None
            yield Answer(found, seconds * len(one), remarks=remarks)

    return Method(name, measure, about=_card(name))


def _batches(sets: Sequence[ImageSet], alone: bool) -> Iterator[list[ImageSet]]:
    """Sets one by one, or as many as fit a batch where images are looked at by themselves."""
    step = max(1, _BATCH // len(sets[0])) if alone else 1
    for start in range(0, len(sets), step):
        yield list(sets[start : start + step])


def chosen_methods(words: Sequence[str], known: dict[str, Method], groups: Mapping[str, Sequence[str]]) -> list[Method]:
    """The methods named, or of the groups named. Raises UsageError, with the names there are, for any other word."""
    names = [name for word in words for name in groups.get(word, (word,))]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UsageError(f"--methods {','.join(names)!r} is not known: use some of {', '.join(known)}")
    return [known[name] for name in names]

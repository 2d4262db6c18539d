"""The protocol of moments: exact ones against drawn views, shards against one another, and a whole small call."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from clarice.abinitio.moment_fit import FitSettings, model_for
from clarice.abinitio.moments import Moments
from clarice.benchmark import moment_contest
from clarice.benchmark import moment_particles as particles
from clarice.benchmark.main_job import Request
from clarice.benchmark.moment_contest import paired_gains, summarise
from clarice.benchmark.moment_retrieval import RetrievalInput
from clarice.benchmark.protocol import StackSettings
from clarice.benchmark.records import Results, Row
from clarice.benchmark.structures import load_subject
from clarice.cli.app import app
from clarice.core.errors import UsageError
from clarice.geometry.slices import project
from clarice.physics.potential import atoms_to_volume
from clarice.physics.simulate import default_pixel_size
from clarice.physics.view_mixture import ViewMixture

BOX = 24


def common(tmp_path: Path) -> Request:
    return Request(["molecule-101"], [1], StackSettings(box=BOX), None, tmp_path / "out", tmp_path / "work")


def test_exact_moments_are_the_means_over_drawn_views() -> None:
    atoms = load_subject("molecule-101", None).atoms.centred()
    volume = atoms_to_volume(atoms, BOX, default_pixel_size(atoms, BOX))
    model, views = model_for(BOX, 0.65 * BOX, 3), ViewMixture.drawn(10, 6.0, 1)
    exact = particles.exact_moments(volume, model, views)
    total: Moments | None = None
    for part in np.array_split(views.rotations(20_000, np.random.default_rng(0)), 5):
        each = Moments.of(project(volume, part), torch.ones(len(part), 3), model.rings, noise_variance=0.0)
        total = each if total is None else total + each
    assert total is not None
    power = exact.second.real.diagonal(dim1=1, dim2=2)
    bound = (power + power.mean(dim=0)).sqrt()
    assert float(((total.second_moment() - exact.second).abs() / (bound[:, :, None] * bound[:, None])).max()) < 0.03
    np.testing.assert_allclose(total.first_moment(), exact.first, atol=0.03 * float(bound[0].max()))


def test_shards_of_a_call_have_noise_and_defocus_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two shards of the same settings differ, and the sum counts all particles."""
    monkeypatch.setattr(particles, "SHARD", 100)
    made = []
    real = particles.simulate
    monkeypatch.setattr(particles, "simulate", lambda *args, **how: made.append(real(*args, **how)) or made[-1])
    case = particles.Case(250, 0.1, 4)
    model = model_for(BOX, 0.65 * BOX, 3)
    found = particles.measured_moments(common(tmp_path), load_subject("molecule-101", None), 1, case, model)
    assert found.raw.count == 250
    assert found.denoised.count == 250
    # What a reference is made from has the scale of the moments: it is of the first shard.
    np.testing.assert_array_equal(found.shown.particles.read(), made[0].particles.read())
    assert [len(each.particles) for each in made] == [100, 100, 50]
    optics = [each.particles.optics for each in made]
    assert all(np.array_equal(each.defocus_u_angstrom, each.defocus_v_angstrom) for each in optics)
    assert not np.array_equal(optics[0].defocus_u_angstrom, optics[1].defocus_u_angstrom)
    assert not np.allclose(made[0].images[:10], made[1].images[:10])


def test_exact_input_of_retrieval_has_the_moments_of_views_from_everywhere() -> None:
    atoms = load_subject("molecule-101", None).atoms.centred()
    volume = atoms_to_volume(atoms, BOX, default_pixel_size(atoms, BOX))
    model = model_for(BOX, 0.65 * BOX, 3)
    given = RetrievalInput.exact(volume, model, 1)
    exact = particles.exact_moments(volume, model, ViewMixture.everywhere())
    np.testing.assert_allclose(given.first, exact.first, rtol=1e-3, atol=1e-4 * float(exact.first.abs().max()))


def test_moments_of_denoised_particles_are_those_of_the_same_structure(tmp_path: Path) -> None:
    """At SNR 0.2 little is left out, and no noise has to be taken off."""
    model, case = model_for(BOX, 0.65 * BOX, 3), particles.Case(300, 0.2, 2, everywhere=True)
    subject = load_subject("molecule-101", None)
    found = particles.measured_moments(common(tmp_path), subject, 1, case, model)
    assert found.denoised.count == 300
    assert not found.denoised.noise.any()
    raw, denoised = found.raw.second_moment(), found.denoised.second_moment()
    assert float((raw - denoised).abs().square().sum() / raw.abs().square().sum()) < 0.1
    before = RetrievalInput.measured(found.raw, found.shown, model)
    after = before.with_moments(found.denoised)
    assert torch.equal(before.reference, after.reference)
    torch.testing.assert_close(after.first, found.denoised.first_moment())


def test_a_small_call_makes_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(particles.CASES, "10,000", particles.Case(200, 0.1, 2))
    monkeypatch.setattr(moment_contest, "FitSettings", partial(FitSettings, iterations=10, last_iterations=40))
    out, work = tmp_path / "out", tmp_path / "work"
    options = ["--molecules", "--entries", "molecule-101,molecule-104", "--box", str(BOX), "--starts", "1"]
    told = CliRunner().invoke(app, ["benchmark", "moments", *options, "--out", str(out), "--work", str(work)])
    assert told.exit_code == 0, told.output
    table = (out / "moments.md").read_text()
    assert "| molecule-101 | 1 | exact | fit |" in table
    assert "| molecule-101 | 1 | 10,000 | fit | 200 | 0.1 | wrong |" in table or "| 200 | 0.1 | right |" in table
    assert "| molecule-101 | 1 | 10,000 | fit, denoised | 200 | 0.1 |" in table
    assert "left out, since" in table
    assert "molecule-104" in table
    for case in ("exact", "10000"):
        assert (work / "moments" / f"molecule-101_seed1_{case}_fit" / "fitted.mrc").is_file()
    rows = json.loads((out / "moments.json").read_text())["rows"]
    again = [*options, "--resume", "--out", str(out), "--work", str(tmp_path / "nothing")]
    told = CliRunner().invoke(app, ["benchmark", "moments", *again])
    assert told.exit_code == 0, told.output
    assert json.loads((out / "moments.json").read_text())["rows"] == rows
    assert not list((tmp_path / "nothing").rglob("fitted.mrc"))


def test_an_unknown_case_is_refused(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["benchmark", "moments", "--molecules", "--cases", "few", "--out", str(tmp_path)])
    assert isinstance(told.exception, UsageError)
    assert "--cases 'few'" in str(told.exception)
    assert "10000" in str(told.exception)


def test_what_was_learned_is_compared_with_the_better_of_the_others_on_the_same_structure() -> None:
    sizes = {"a": (20.0, 8.0, 6.5), "b": (7.0, 9.0, 6.6), "c": (30.0, 9.0, 9.5)}
    rows: list[Row] = [
        {"case": "exact", "method": method, "entry": entry, "seed": 1, "fsc_05_px": size, "right": size <= 8}
        for entry, by_method in sizes.items()
        for method, size in zip(("fit", "retrieval", "learned"), by_method, strict=True)
    ]
    gains = {row["entry"]: row["finer_px"] for row in paired_gains(rows, "exact", "learned")}
    assert gains == pytest.approx({"a": 1.5, "b": 0.4, "c": -0.5})
    results = Results("moments", 1, {}, (), (), rows)
    summarise(results)
    assert "median 6.60; 2 of 3 within 8 px" in results.summary["exact, learned"]
    assert results.summary["exact, learned finer than the best that learned nothing by"].startswith(
        "0.47 px (95 %: -0.5"
    )
    failed: Row = {"case": "exact", "method": "learned", "entry": "d", "seed": 1, "failed": True}
    assert len(paired_gains([*rows, failed], "exact", "learned")) == 3

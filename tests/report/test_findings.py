"""What the page concludes from the files: warnings, selected classes, the verdict, the way on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.report.fake_run import CLASSES, PARTICLES, make_run, replace_file

from clarice.io.star import read_star, write_star
from clarice.report.convergence import FirstMap, convergence, pose_summary
from clarice.report.folder import RunFiles
from clarice.report.next_steps import folder_of_names, next_steps
from clarice.report.page import render, write_report
from clarice.report.particles import class_averages, particle_pairs
from clarice.report.provenance import stages
from clarice.report.resolution import resolution
from clarice.report.verdict import Findings, findings_warnings, verdict


def document_text(folder: Path) -> str:
    """The page, thin spaces made plain."""
    return write_report(folder).read_text(encoding="utf-8").replace("\u202f", " ")


def messages(folder: Path) -> str:
    """All warnings that follow from the folder's files."""
    run = RunFiles(folder)
    record = run.json("run.json")
    found = Findings(resolution(run), pose_summary(run), stages(record), PARTICLES, PARTICLES)
    return " ".join(warning.message for warning in findings_warnings(run, record, found))


def test_a_good_run_gives_no_warning_of_its_own(finished_run: Path) -> None:
    assert messages(finished_run).count(".") == 1  # the pipeline's one


def test_a_resolution_at_nyquist_is_the_box_s_doing(copied_run) -> None:
    folder = copied_run()
    content = json.loads((folder / "fsc.json").read_text())
    content["resolution_angstrom"]["0.143"] = content["nyquist_angstrom"]
    replace_file(folder / "fsc.json", json.dumps(content))
    assert "the pixels of the working box, not the data, set this limit" in messages(folder)
    prepared = json.loads((folder / "prepared.json").read_text())
    replace_file(folder / "prepared.json", json.dumps({**prepared, "input_box": prepared["working_box"]}))
    assert "extracted with smaller pixels" in messages(folder)
    found = Findings(resolution(RunFiles(folder)), None, None, PARTICLES, 1100)
    words = verdict(found, True, True, "wiener").replace("\u202f", " ")
    assert "agree to Nyquist (8.40 Å) or beyond at the FSC threshold 0.143" in words
    tiles = document_text(folder)
    assert "≤ 8.40 Å" in tiles
    assert "falls below 0.143 at Nyquist (8.40 Å) or beyond" in tiles


def test_views_along_one_axis_are_warned_of(copied_run) -> None:
    folder = copied_run()
    blocks = read_star(folder / "particles.star")
    table = blocks["particles"].assign(rlnAngleTilt=np.random.default_rng(1).normal(0, 8, PARTICLES))
    (folder / "particles.star").unlink()
    write_star(folder / "particles.star", {**blocks, "particles": table})
    assert "Views are uneven" in messages(folder)


def test_classes_come_largest_first_with_those_left_out_marked(finished_run: Path) -> None:
    classes = class_averages(RunFiles(finished_run))
    assert classes is not None
    sizes = [average.size or 0 for average in classes.averages]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == PARTICLES == classes.members
    assert sum(average.share or 0 for average in classes.averages) == 1.0
    left_out = {average.number for average in classes.averages if average.selected is False}
    assert left_out == {CLASSES - 2, CLASSES - 1, CLASSES}


def test_the_page_says_of_each_class_left_out_why(copied_run) -> None:
    folder = copied_run()
    reason = "no particle in the disk: an edge, a gradient or a neighbour"
    fates = [{"number": 1, "members": 9, "kept": 0, "reason": reason}, {"number": 2, "kept": 4, "reason": "kept"}]
    record = {"selected_classes": [2], "classes": fates}
    replace_file(folder / "selection.json", json.dumps(record))
    classes = class_averages(RunFiles(folder))
    assert classes is not None
    assert {average.number: average.reason for average in classes.averages if average.reason} == {1: reason}
    assert f"not selected ({reason})" in render(RunFiles(folder))


def test_a_recorded_selection_is_taken_as_it_is(copied_run) -> None:
    folder = copied_run()
    replace_file(folder / "selection.json", json.dumps({"selected_classes": [2, 5]}))
    classes = class_averages(RunFiles(folder))
    assert classes is not None
    assert {average.number for average in classes.averages if average.selected} == {2, 5}


def test_classes_that_do_not_fit_the_members_have_no_sizes(copied_run) -> None:
    folder = copied_run()
    (folder / "class_members.star").unlink()
    write_star(folder / "class_members.star", {"": pd.DataFrame({"rlnClassNumber": [1, CLASSES + 1]})})
    classes = class_averages(RunFiles(folder))
    assert classes is not None
    assert all(average.size is None for average in classes.averages)


def test_pairs_span_the_stack(finished_run: Path) -> None:
    pairs = particle_pairs(RunFiles(finished_run))
    assert [pair.row for pair in pairs][:: len(pairs) - 1] == [1, PARTICLES]
    assert all(pair.denoised and pair.raw != pair.denoised for pair in pairs)


def test_starts_are_measured_from_the_best(finished_run: Path) -> None:
    search = convergence(RunFiles(finished_run))
    assert search is not None
    assert [start.chosen for start in search.starts] == [True, False, False]
    assert search.starts[0].behind == "0.00"
    assert [chart.title for chart in search.charts] == ["Log-likelihood of the starts", "Refinement"]


def test_a_likelihood_that_is_one_number_gives_no_course(copied_run) -> None:
    folder = copied_run()
    starts = [{"seed": 1, "log_likelihood": -10.0}, {"seed": 2, "log_likelihood": -9.5}]
    replace_file(folder / "abinitio.json", json.dumps({"starts": starts, "chosen": 1}))
    search = convergence(RunFiles(folder))
    assert search is not None
    assert [(start.behind, start.chosen) for start in search.starts] == [("0.50", False), ("0.00", True)]
    assert [chart.title for chart in search.charts] == ["Refinement"]


def test_a_first_map_by_moments_is_told(copied_run) -> None:
    folder = copied_run()
    moments = {"method": "moments", "denoiser": "wiener", "particles_in_moments": 2000, "misfit": 0.4}
    replace_file(folder / "abinitio.json", json.dumps(moments))
    search = convergence(RunFiles(folder))
    assert search is not None
    ((method, words),) = ((first.method, first.found) for first in search.first_maps)
    assert method == "moments"
    assert words.startswith("fitted to moments of 2")
    assert "denoised" not in words


def test_both_ways_to_a_first_map_are_told(copied_run) -> None:
    folder = copied_run()
    matched = {"method": "projection-matching", "starts": [{"seed": 1}, {"seed": 2}], "chosen": 1}
    lines = {"method": "common-lines", "denoiser": "wiener", "laid_by_lines": [3, 4, 7], "agreeing_lines": 0.251}
    chosen, other = {**lines, "log_likelihood_compared": 12.5}, {**matched, "log_likelihood_compared": 11.0}
    replace_file(folder / "abinitio.json", json.dumps({**chosen, "other": other}))
    search = convergence(RunFiles(folder))
    assert search is not None
    assert search.first_maps == (
        FirstMap("common-lines", "12.50", "3 particles denoised by wiener; 25% of their lines agree", True),
        FirstMap("projection-matching", "11.00", "start 2 of 2", False),
    )
    assert [(start.index, start.chosen) for start in search.starts] == [(1, False), (2, True)]


def test_the_map_is_not_resampled_when_it_already_fits(copied_run) -> None:
    folder = copied_run()
    run = RunFiles(folder)
    record = run.json("run.json")
    record["input"] |= {"box": 48, "pixel_size_angstrom": 4.2}
    record["arguments"] |= {"symmetry": "D7"}
    steps = next_steps(run, record, 100.0)
    assert steps is not None
    assert not any("--rescale_angpix" in command.text for command in steps.relion)
    assert all("--sym D7" in command.text for command in steps.relion[-2:])
    assert "--ref map.mrc" in steps.relion[-1].text
    assert "--particle_diameter 120" in steps.relion[-1].text


def test_dark_protein_and_particles_left_out_are_seen_to_before_relion(copied_run) -> None:
    run = RunFiles(copied_run())
    steps = next_steps(run, run.json("run.json"), 100.0)
    assert steps is not None
    select, invert, *_, check, refine = (command.text for command in steps.relion)
    assert select == "clarice select class_members.star --auto --stack particles.star -o kept.star"
    assert invert == "relion_image_handler --i kept.star --o bright --multiply_constant -1"
    assert "--i kept_bright.star" in check
    assert "--i kept_bright.star" in refine
    assert "kept.star" in steps.cryosparc[0]
    assert "dark on light" in steps.cryosparc[1]


def test_a_bright_stack_of_which_all_is_kept_goes_on_as_it_is(copied_run) -> None:
    folder = copied_run()
    run = RunFiles(folder)
    prepared, selection = run.json("prepared.json"), run.json("selection.json")
    replace_file(folder / "prepared.json", json.dumps({**prepared, "sign": 1}))
    replace_file(folder / "selection.json", json.dumps({**selection, "kept": PARTICLES}))
    steps = next_steps(run, run.json("run.json"), 100.0)
    assert steps is not None
    assert all("--i particles.star" in command.text for command in steps.relion[-2:])
    assert not any("select" in command.text or "multiply" in command.text for command in steps.relion)


@pytest.mark.parametrize(
    ("state", "options"), [("none", ""), ("raw", " --ctf"), ("flipped", " --ctf --ctf_phase_flipped")]
)
def test_relion_is_told_of_the_ctf_what_the_stack_has_of_it(copied_run, state: str, options: str) -> None:
    folder = copied_run()
    run = RunFiles(folder)
    replace_file(folder / "prepared.json", json.dumps({**run.json("prepared.json"), "ctf_state": state}))
    steps = next_steps(run, run.json("run.json"), 100.0)
    assert steps is not None
    assert f"check.mrc{options} --sym" in steps.relion[-2].text
    assert f"--split_random_halves{options} --particle_diameter" in steps.relion[-1].text


def test_commands_start_where_the_image_names_lead_from(tmp_path: Path) -> None:
    project = tmp_path / "a project"
    folder = make_run(project / "runs" / "first")
    (project / "stack").mkdir()
    (project / "stack" / "T20S_particles.stars.mrcs").touch()
    run = RunFiles(folder)
    assert folder_of_names(run) == project.resolve()
    steps = next_steps(run, run.json("run.json"), 100.0)
    assert steps is not None
    assert steps.relion[0].text == f"cd '{project.resolve()}'"
    assert "--i runs/first/kept_bright.star --ref runs/first/map_for_relion.mrc" in steps.relion[-1].text


def test_views_are_those_of_the_particles_in_the_map(copied_run) -> None:
    folder = copied_run()
    kept = RunFiles(folder).json("selection.json")["kept"]
    assert kept < PARTICLES
    summary = pose_summary(RunFiles(folder))
    assert summary is not None
    assert summary.particles == kept


def test_pictures_of_dark_particles_are_shown_bright(copied_run, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[np.ndarray] = []
    monkeypatch.setattr("clarice.report.particles.grey_png", lambda image, *_: shown.append(image) or "")
    run = RunFiles(copied_run())
    particle_pairs(run)
    for raw, denoised in zip(shown[::2], shown[1::2], strict=True):
        assert np.corrcoef(raw.ravel(), denoised.ravel())[0, 1] > 0.1
    shown.clear()
    assert class_averages(run) is not None
    middle = [image[20:28, 20:28].mean() > image[:8].mean() for image in shown]
    assert np.mean(middle) > 0.7


def test_stages_of_an_earlier_call_are_said_to_be_out_of_date(copied_run) -> None:
    folder = copied_run()
    record = RunFiles(folder).json("run.json")
    record["stages"][5]["status"] = "outdated"
    found = Findings(None, None, stages(record), PARTICLES, None)
    said = [warning.message for warning in findings_warnings(RunFiles(folder), record, found)]
    assert any(message.startswith("Out of date: abinitio.") for message in said)


def test_the_verdict_names_threshold_and_nyquist_or_that_there_is_no_map(finished_run: Path) -> None:
    found = Findings(resolution(RunFiles(finished_run)), None, None, PARTICLES, 1100)
    words = verdict(found, True, True, "wiener").replace("\u202f", " ")
    assert "threshold 0.143 (Nyquist: 8.40 Å)" in words
    assert "hand" in words
    assert "to look at;" in words
    assert "for the first map;" in verdict(found, True, True, "wiener", first_map_of_denoised=True)
    assert "There is no map yet." in verdict(Findings(None, None, None, None, None), False, False, None)

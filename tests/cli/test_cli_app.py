"""The verbs, and how errors are shown."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from colour_world import Shell
from hypothesis import given
from hypothesis import strategies as st

from geoglot.cli.app import VERBS, is_slip, without_debug

COMMANDS = {
    ("search",): (
        "--archive --bbox --within --since --until --gsd-min --gsd-max --sensor --scene --like --image --limit "
        "--offset --page --min-confidence --no-merge --point --candidates --all --format --output --preview --map "
        "--model"
    ),
    ("index", "add"): "--archive --model --chip-m --overlap --keep --strict --dry-run --json",
    ("index", "remove"): "--archive --json",
    ("index", "info"): "--archive --json",
    ("index", "check"): "--archive --json",
    ("models", "list"): "--installed --json",
    ("models", "show"): "--json",
    ("models", "pull"): "--accept-licence --activation --force --json",
    ("models", "bundle"): "--output --unpack --force --json",
    ("models", "convert"): "--card --name --activation --tokenizer --json",
    ("models", "export"): "--precision --name --image --allow-below --json",
    ("models", "compare"): "--image --texts --json",
    ("demo",): "--folder --seed --model",
    ("train",): "--config --like --data --out --smoke",
    ("eval",): "--model --data --dataset --format --out --limit --seed --partial --cache --no-cache --list",
    ("serve",): (
        "--host --port --title --api-key --rate --cors --root --allow-host --public-url --state --max-jobs "
        "--job-minutes"
    ),
    ("localize",): "--out --model --finer --side --ground --level --most --dry-run --json",
    ("segment",): (
        "--class --background --out --vectors --model --window-m --window-px --model-px --overlap --presence "
        "--cls-bias --upsampler --dry-run --json"
    ),
    ("task", "classify"): "--archive --labels --picture --chip",
    ("doctor",): "--archive --json",
    ("data", "regions", "show"): "--layout --split --images --labels --skip-bad --json",
    ("data", "regions", "build"): "--out --data --copy --skip-bad --dry-run --json",
    ("data", "masks"): "--split --json",
}


def geoglot(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "geoglot", *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60)


def test_help_is_quick() -> None:
    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert geoglot("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # Processor time is what the clock on the wall shows on an idle machine; it holds on a busy one too.
    assert min(once() for _ in range(3)) < 0.3


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_its_options(shell: Shell, words: tuple[str, ...]) -> None:
    done = shell(*words, "--help")
    assert done.exit_code == 0
    listed = {part.rstrip(",") for part in done.stdout.split() if part.startswith("--")}
    assert set(COMMANDS[words].split()) | {"--help"} <= listed
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


def test_the_list_of_verbs_is_what_there_is(shell: Shell) -> None:
    shown = shell().stdout
    assert all(f"\n  {verb}" in shown for verb in VERBS)
    assert {words[0] for words in COMMANDS} == set(VERBS)


def test_version() -> None:
    from geoglot.version import __version__

    assert geoglot("--version").stdout == f"geoglot {__version__}\n"


@pytest.mark.parametrize("words", [("serach", "x"), ("dmeo",), ("idnex", "."), ("doctr",), ("index", "chek")])
def test_a_slip_of_a_verb_does_not_search(shell: Shell, words: tuple[str, ...]) -> None:
    done = shell(*words)
    assert done.exit_code == 2
    assert "did you mean" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("word", ["beach", "arch", "church", "research", "dome", "indexes", "doctorate"])
def test_words_that_only_resemble_verbs_are_questions(word: str) -> None:
    assert not any(is_slip(word, verb) for verb in VERBS)


@given(st.sampled_from(sorted(VERBS)), st.integers(0, 8), st.sampled_from("qy"))  # letters of no verb
def test_one_wrong_letter_is_a_slip(verb: str, at: int, letter: str) -> None:
    at %= len(verb)
    for word in (verb[:at] + verb[at + 1 :], verb[:at] + letter + verb[at:], verb[:at] + letter + verb[at + 1 :]):
        assert is_slip(word, verb)
    swapped = verb[:at] + verb[at : at + 2][::-1] + verb[at + 2 :]
    assert is_slip(swapped, verb) == (swapped != verb)
    assert not is_slip(verb, verb)
    assert not is_slip(f"{letter}{verb}{letter}", verb)


def test_debug_may_stand_anywhere_but_not_in_the_question() -> None:
    assert without_debug(["a", "--debug", "b"]) == (["a", "b"], True)
    assert without_debug(["a", "--", "--debug"]) == (["a", "--", "--debug"], False)


def test_errors_are_a_message_and_a_hint(tmp_path: Path) -> None:
    words = ("water", "--archive", str(tmp_path / "nowhere"))
    done = geoglot(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: no archive at ")
    assert "Hint:  Make one with `geoglot index`" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in geoglot("--debug", *words).stderr
    assert "Traceback" in geoglot(*words, "--debug").stderr


def test_interrupt_exits_130(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("geoglot.models.load.load_encoder", interrupted)
    assert shell("water").exit_code == 130


def test_a_closed_pipe_is_quiet(world: Path) -> None:
    command = f"{sys.executable} -m geoglot index info --json | true"
    environment = {**os.environ, "GEOGLOT_ARCHIVE": str(world / ".geoglot")}
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env=environment, timeout=60)
    assert "Traceback" not in done.stderr

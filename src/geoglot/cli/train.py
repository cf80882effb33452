"""`geoglot train`: run a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geoglot.cli.app import PLAIN
from geoglot.training.registry import RECIPES

app = typer.Typer(**PLAIN)


@app.command()
def train(
    recipe: Annotated[str | None, typer.Argument(help=f"One of {', '.join(RECIPES)}.", show_default=False)] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="The recipe's settings, TOML.")] = None,
    like: Annotated[Path | None, typer.Option(metavar="FILE", help="Repeat an earlier run: its run.json.")] = None,
    data: Annotated[Path, typer.Option(metavar="FOLDER", help="What the config's paths are relative to.")] = Path(),
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Run folder; an unfinished run there is continued.")
    ] = Path("runs/latest"),
    smoke: Annotated[bool, typer.Option("--smoke", help="A few steps, to see that everything works.")] = False,
) -> None:
    """Train a model by a recipe; stop it at any time and start it again.

    On many GPUs: torchrun --nproc-per-node 8 -m geoglot train RECIPE --config FILE ...
    """
    from geoglot.cli.screen import results, show_logs, training_progress
    from geoglot.training.registry import run_recipe

    show_logs()
    with training_progress() as show:
        left = run_recipe(recipe, config, data, out, like=like, smoke=smoke, on_progress=show)
    results().print(f"Done: {left}", soft_wrap=True)

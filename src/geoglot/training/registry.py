"""Recipes by name, and how one is started from files. Light: a recipe's module is imported when it is run.

A recipe is a module with `Config` (a frozen dataclass), `run(config, data, out, on_progress)` and `smoke(config, out)`:
the config of a few steps on a drawn world below `out`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoglot.errors import MissingExtraError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from geoglot.training.journal import OnProgress

RECIPES = {
    "contrastive": "Tune a dual encoder on image-text pairs: GeoRSCLIP's method, and the way to train on your own.",
    "farslip": "Make patches agree with words: distil crops into patches, align regions with categories (FarSLIP).",
    "gaia": "Tune on long captions, true to what they say of left and right; then weigh old and new weights (GAIA).",
    "mini": "Train the bundled model from scratch.",
    "pair": "Join a pretrained image backbone and a frozen text encoder into a dual encoder, and tune it.",
    "purify": "Clean doubtful captions with a model trained on good ones, and train on what is left (CLIP-RS).",
    "upsample": "Learn to sharpen a frozen model's patches along edges, for segmentation.",
}


def run_recipe(
    recipe: str | None,
    config: Path | None,
    data: Path,
    out: Path,
    *,
    like: Path | None = None,
    smoke: bool = False,
    on_progress: OnProgress | None = None,
) -> Path:
    """Run a recipe from its config, or as an earlier run was.

    Args:
        recipe: A name of RECIPES; may be left out with `like`.
        config: TOML file.
        data: Folder that the config's paths are relative to.
        out: Run folder; an unfinished run there is continued.
        like: `run.json` of an earlier run, in place of the config.
        smoke: A few steps only.
        on_progress: Called now and then.

    Returns:
        What the recipe left: a folder or file below `out`.

    Raises:
        UnknownNameError: No such recipe, or no such key in the config.
        UsageError: Neither or both of `config` and `like`; or the config is refused.
        MissingExtraError: PyTorch is not installed.
    """
    if (config is None) == (like is None):
        raise UsageError("a recipe needs --config or --like, and only one of them")
    if find_spec("torch") is None:
        raise MissingExtraError("training", "torch")
    from geoglot.config import from_table, load_config
    from geoglot.training.run_folder import read_facts

    facts = read_facts(like) if like else {}
    name = recipe or str(facts.get("recipe", ""))
    if like and recipe not in (None, facts["recipe"]):
        raise UsageError(f"{like} is a run of {facts['recipe']}, not of {recipe}")
    module = load_recipe(name)
    settings: Any = load_config(module.Config, config) if config else from_table(module.Config, facts["config"])
    if smoke:
        settings = module.smoke(settings, out)
    result: Path = module.run(settings, data, out, on_progress)
    return result


def load_recipe(name: str) -> Any:
    """Import a recipe's module: the file of its name, or `recipe.py` in the folder of its name.

    Raises:
        UnknownNameError: No such recipe; suggests the nearest.
    """
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES)
    module = f"geoglot.training.recipes.{name}"
    spec = find_spec(module)
    return import_module(f"{module}.recipe" if spec and spec.submodule_search_locations else module)

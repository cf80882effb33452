"""Where a package that carries weights keeps them. The package's own code is never run."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from geoglot.errors import MissingExtraError, ModelFileError


def package_file(package: str, inside: str, what: str, extra: str = "parts") -> Path:
    """Path of a file that an installed package carries.

    Args:
        package: Its import name. It is located, not imported.
        inside: Path of the file within the package.
        what: The part, in words, for the error.
        extra: The extra of geoglot that brings the package.

    Raises:
        MissingExtraError: The package is not installed.
        ModelFileError: It is installed and does not hold the file.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(what, extra)
    path = Path(spec.submodule_search_locations[0]) / inside
    if not path.is_file():
        raise ModelFileError(
            f"package {package!r} holds no {inside}; looked in {path.parent}",
            hint=f'Install the version that geoglot names: pip install "geoglot[{extra}]"',
        )
    return path

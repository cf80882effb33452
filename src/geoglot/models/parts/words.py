"""The commonest words of a language, to choose which pieces of a large vocabulary a model keeps.

Package `wordfreq` (Apache-2.0; its lists CC BY-SA 4.0) ranks them. The lists only choose; nothing of them is kept.
"""

from __future__ import annotations

from collections.abc import Iterable

from geoglot.errors import MissingExtraError


def common_words(languages: Iterable[str], count: int) -> list[str]:
    """The commonest words of each language, as they stand and capitalised.

    Args:
        languages: ISO 639-1 codes.
        count: Words a language; at most what the lists hold, about 30,000 for Korean and 300,000 for English.

    Raises:
        MissingExtraError: The package is not installed.
    """
    try:
        from wordfreq import top_n_list
    except ImportError as error:
        raise MissingExtraError("choosing words by how common they are", "parts") from error
    words = [word for language in languages for word in top_n_list(language, count)]
    return words + [word.capitalize() for word in words]

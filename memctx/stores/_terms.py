"""Texts as terms for a word index: lower case, stems, identifiers whole and in parts, scripts without spaces as pairs."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_STOP = (
    "a about above after again all also am an and any are as at be because been before being below between both but "
    "by can could d did do does doing down during each few for from further had has have having he her here hers "
    "him his how i if in into is it its just ll m may me might more most must my no nor not of off on once only or "
    "other our out over own re s same shall she should so some such t than that the their them then there these "
    "they this those through to too under until up ve very was we were what when where which while who whom whose "
    "why will with would you your "
)
STOP = frozenset(_STOP.split())
_RUN = re.compile(r"\w+(?:[-./:@+&]\w+)*")  # a word, number, date, path, address or identifier
_PART = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")  # fooBar -> foo Bar
_APOSTROPHE = re.compile(r"(?<=\w)['’](?:s|t|re|ve|ll|d|m)\b", re.IGNORECASE)
_NO_SPACES = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0e7f\U00020000-\U0002fa1f]+")
_LONGEST = 64  # characters of a term


def terms(text: str) -> list[str]:
    """The terms of a text, repeats kept, in order. What is made of several parts gives itself and its parts."""
    plain = _APOSTROPHE.sub("", text if text.isascii() else _folded(text))
    found: list[str] = []
    for run in _RUN.findall(plain):
        if run.isalpha() and run.isascii() and (run.islower() or run.istitle()):
            found += _word(run.lower())
        else:
            found += _parts(run)
    return found


@lru_cache(maxsize=50_000)
def _word(word: str) -> tuple[str, ...]:
    return () if word in STOP else (stem(word)[:_LONGEST],)


@lru_cache(maxsize=20_000)
def _parts(run: str) -> tuple[str, ...]:
    """A run that is more than a plain word: itself, if it has several parts, and each part."""
    pieces = _PART.findall(_HUMP.sub("_", run))
    found: list[str] = []
    if len(pieces) > 1:
        found.append(run.lower()[:_LONGEST])
    for piece in pieces:
        lower = piece.lower()
        if _NO_SPACES.search(lower):
            found += _pairs(lower)
        elif lower not in STOP:
            found.append((stem(lower) if lower.isalpha() else lower)[:_LONGEST])
    return tuple(found)


def _pairs(run: str) -> list[str]:
    """Each two neighbouring characters of a script without spaces; what stands between is a word."""
    found: list[str] = []
    last = 0
    for match in _NO_SPACES.finditer(run):
        chunk = match.group()
        found += [run[last : match.start()]] if match.start() > last else []
        found += [chunk[i : i + 2] for i in range(len(chunk) - 1)] if len(chunk) > 1 else [chunk]
        last = match.end()
    return found + ([run[last:]] if last < len(run) else [])


def _folded(text: str) -> str:
    """Full-width forms as usual ones, and Latin letters without their marks."""
    split = unicodedata.normalize("NFKD", text)
    return unicodedata.normalize("NFC", "".join(c for c in split if not "\u0300" <= c <= "\u036f"))


_DOUBLE = re.compile(r"([bdfgmnprt])\1$")
_VOWEL = re.compile("[aeiouy]")
_ENDINGS = (  # longest first; what is left must have a vowel and three letters
    ("ation", "ate"), ("ally", "al"), ("ness", ""), ("ment", ""), ("ing", ""), ("ion", ""),
    ("ed", ""), ("er", ""), ("ly", ""), ("e", ""),
)  # fmt: skip


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """What the forms of an English word have in common, by rules; any other word loses at most an ending as well."""
    if len(word) < 4 or not word.isascii():
        return word
    word = _singular(word)
    for _ in range(3):
        for ending, put in _ENDINGS:
            base = word[: -len(ending)]
            if word.endswith(ending) and len(base) >= 3 and _VOWEL.search(base):
                word = _DOUBLE.sub(r"\1", base) if ending in ("ing", "ed", "er") else base + put
                break
        else:
            break
    return word[:-1] + "i" if word.endswith("y") and len(word) > 3 else word


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def clear() -> None:
    """Forget the words seen so far."""
    for kept in (_word, _parts, stem):
        kept.cache_clear()

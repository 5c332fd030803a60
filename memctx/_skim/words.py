"""Which words of a text a later step could need to copy: identifiers, dates, paths, addresses, long numbers.

Everything here is linear in the text: one pass of a regular expression with no nested repeats, then set look-ups.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

WORD = re.compile(r"https?://[^\s\"'<>()\[\]{}\\,]+|[A-Za-z0-9_./@:#+~-]+")
TOKEN = re.compile(r"(?<=['\"`])([A-Za-z][a-z-]{3,23})(?=['\"`])|" + WORD.pattern)
NUMBERED = re.compile(r"^ {0,8}\d{1,7}[:|\t]", re.MULTILINE)  # `cat -n`, editors, grep -n
CLOCK = re.compile(r"(?<=\d)[T ]\d\d:\d\d(:\d\d)?(\.\d{1,9})?(Z|[+-]\d\d:?\d\d)?|\b\d\d:\d\d(:\d\d)?\b")
PLAIN_NUMBER = re.compile(r"-?(\d{1,4}|\d+\.\d{1,2})[%x]?")
ERROR = re.compile(
    r"\b(errors?|exception|traceback|failed|failure|fatal|denied|refused|invalid|cannot|warning|panic|not found"
    r"|timed? ?out|unable|undefined|unauthori[sz]ed|forbidden|\w{1,40}(?:error|exception))\b"
    r"(?!['\"]?\s{0,4}[=:]\s{0,4}(?:none|null|false|0|''|\"\")\b)",
    re.IGNORECASE,
)
NAMING = re.compile(r"(?:name|id|type|kind|code|slug|key)s?$", re.IGNORECASE)
TITLED = re.compile(r"(?:name|title|label|city|place)s?$", re.IGNORECASE)
NAME = re.compile(r"[^\W\d_a-z][^\n;]{2,59}")
WHOLE = re.compile(r"[A-Za-z0-9_./@#+~=%&?!$-]+")  # a value that is one code; times of day (with a colon) are none
BOOKKEEPING = re.compile(
    r"(?:^|_)(?:created|updated|modified|last|expir\w{0,6}|timestamp|end)(?:_|$)|(?:created|updated|modified)At$"
)
CODE = re.compile(r" {0,8}\d{1,7}[:|\t]|[ \t]{4}|[ \t]*(?:#|//|\*|except |raise |catch )")
MIN_WORD, MAX_WORD = 4, 600


def words(text: str) -> Iterator[str]:
    """Every word-like run of 4 to 600 characters, without the punctuation at its ends."""
    for found in WORD.finditer(text):
        word = _trim(found[0])
        if MIN_WORD <= len(word) <= MAX_WORD:
            yield word


def _trim(run: str) -> str:
    """Without punctuation at the ends; the sign of a number stays."""
    word = run.rstrip(".:-+@#~").lstrip(".:-+~")
    start = len(run) - len(run.lstrip(".:-+~"))
    signed = start and run[start - 1] == "-" and word[:1].isdigit()
    return f"-{word}" if signed else word


def is_identifier(word: str) -> bool:
    """True for what is copied, never guessed: codes, snake_case, CamelCase, paths, dates, e-mails, long numbers."""
    if word.isalpha():
        return word[1:] != word[1:].lower() and not word.isupper()
    return not PLAIN_NUMBER.fullmatch(word) and any(c.isalnum() for c in word)


def identifiers(text: str) -> Iterator[str]:
    """The identifiers of a text in order, repeats included; line numbers and times of day are not among them."""
    for found in TOKEN.finditer(CLOCK.sub(" ", NUMBERED.sub("", text))):
        word = found[1] or _trim(found[0])
        if MIN_WORD <= len(word) <= MAX_WORD and (found[1] or is_identifier(word)):
            yield word

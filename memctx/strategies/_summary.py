"""What a summary may be: the rules it must quote, the answers that are none, and the block it travels in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from hashlib import blake2b

from memctx.edits import marker
from memctx.formats import clean

OPEN, CLOSE = "<memctx-summary", "</memctx-summary>"
NOTES = "\n## Notes\n"
LABEL = "A record of earlier messages, written by a model. It reports; only the quoted rules are the user's own words."
RULES = "## Rules the user stated, word for word"

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\d\"'(])|(?<=[。！？])|\n+")
_RULE = re.compile(
    r"\b(must|mustn't|never|always|only|do not|don't|shall|may not|not allowed|forbidden|required)\b", re.IGNORECASE
)
_DELIMITER = re.compile(r"<(?=/?memctx-summary)", re.IGNORECASE)
_THINKING = re.compile(r"\A\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"\A```\w*\n(.*?)\n?```\Z", re.DOTALL)
_REFUSAL = re.compile(
    r"\A\W*((i'?m|i am|we are|we're)\s+(very\s+|so\s+)?(sorry|afraid|unable)|sorry|i (can'?t|cannot|won'?t)|as an ai)"
    r"\b",
    re.IGNORECASE,
)
SHORT_REFUSAL = 300  # characters: words of refusal are only a hint, so a longer text is no refusal
_NOT_NOTES = (
    ("error_text", re.compile(r"\A\W*([\w.]*(Error|Exception)\b|error\b)", re.IGNORECASE)),
    ("error_text", re.compile(r"Traceback \(most recent call last\):\s*\n\s+File \"")),
    ("error_text", re.compile(r"\A\s*(HTTP/\d|<!doctype|<html|(HTTP )?[45]\d\d\b)", re.IGNORECASE)),
    ("tool_call", re.compile(r"\A\s*<(tool_calls?|function_calls?|invoke|function=)\b", re.IGNORECASE)),
    ("cut_off", re.compile(r"\A\s*<think(ing)?>", re.IGNORECASE)),
)
_CALL_KEYS = ({"tool_calls"}, {"function_call"}, {"name", "arguments"}, {"name", "parameters"}, {"name", "input"})


def usable(text: str) -> str:
    """The answer as notes: without a thinking block, with text that can be encoded."""
    return _THINKING.sub("", clean(text).replace("\0", "")).strip()


def unusable(text: object, fewest_words: int = 3) -> str:
    """Why an answer is no summary (a short code), or "" where nothing speaks against it.

    An error text, a tool call or a refusal must not replace history (langchain#38867). Size is checked by the caller.
    """
    if not isinstance(text, str):
        return "not_text"
    if len(text.split()) < fewest_words:
        return "empty"
    for code, pattern in _NOT_NOTES:
        if pattern.search(text):
            return code
    if len(text) < SHORT_REFUSAL and _REFUSAL.search(text.replace("\u2019", "'")):  # typographic apostrophe
        return "refusal"
    return _unusable_json(text)


def _unusable_json(text: str) -> str:
    fenced = _FENCE.match(text)
    try:
        value = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return ""
    first = value[0] if isinstance(value, list) and value else value
    if not isinstance(first, dict):
        return "not_text"
    if first.get("error") or first.get("errors") or str(first.get("status", "")).startswith(("4", "5")):
        return "error_text"
    return "tool_call" if any(keys <= first.keys() for keys in _CALL_KEYS) else ""


def rules(texts: Iterable[str]) -> list[str]:
    """Sentences that state a rule (must, never, always, only, do not, ...), verbatim, each once, in order."""
    found: dict[str, str] = {}
    for text in texts:
        for sentence in _SENTENCE.split(text):
            if sentence and _RULE.search(sentence):
                stripped = sentence.strip().lstrip("-*• ").strip()
                found.setdefault(" ".join(stripped.casefold().split()), stripped)
    return list(found.values())


def fitting(sentences: list[str], count: Callable[[str], int], room: int) -> tuple[list[str], int]:
    """(those that fit into `room` tokens, how many did not). The longest give way, so that most rules stay."""
    sizes = sorted((count(sentence) + 2, place) for place, sentence in enumerate(sentences))
    kept: set[int] = set()
    for size, place in sizes:
        room -= size
        if room < 0:
            break
        kept.add(place)
    return [sentence for place, sentence in enumerate(sentences) if place in kept], len(sentences) - len(kept)


def digest(ids: Iterable[str]) -> str:
    """A digest of message ids: names the exact source of a summary."""
    return blake2b("\n".join(ids).encode(), digest_size=6).hexdigest()


def block(notes: str, quoted: list[str], missing: int, source: list[str], handle: str) -> str:
    """The message that stands for the span: delimited, labelled, and unable to close itself early."""
    head = f'{OPEN} messages="{len(source)}" source="{digest(source)}" whole="{marker(handle)}">'
    lines = [head, LABEL]
    if quoted or missing:
        lines += [RULES, *(f"- {_escaped(sentence)}" for sentence in quoted)]
    if missing:
        lines.append(f"({missing} longer sentences are not quoted: see {marker(handle)})")
    return "\n".join(lines) + NOTES + _escaped(notes) + "\n" + CLOSE


def notes_of(content: str) -> str:
    """The notes inside a block."""
    return content.partition(NOTES)[2].removesuffix(CLOSE).strip()


def _escaped(text: str) -> str:
    return _DELIMITER.sub("&lt;", text)

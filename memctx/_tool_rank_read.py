"""A host's tool as the catalogue keeps it: its words, within bounds, and what is wrong with them.

Nothing here trusts a tool. A schema may refer to itself, weigh megabytes or be no schema; a description may be written to be
found by every query, or to give the model orders. Text is cut, walks are counted, and what looks wrong is named in `warnings`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from memctx._tools import definitions
from memctx.errors import ConfigError
from memctx.stores._terms import terms

DESCRIPTION, ABOUT, ARGUMENTS = 2_000, 600, 2_000  # characters that are ranked on
SUSPECT = 160  # characters of a suspect description that are ranked on
WORDY = 40  # words from which a description can be judged
OFTEN, JOINED = 0.2, 0.08  # share of one word above which, and of joining words below which, a text only lists words
NODES = 1_000  # parts of a schema that are looked at
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # what every provider takes
_ORDER = re.compile(
    r"(?:ignore|disregard|forget) (?:all |any |the |your )*(?:previous|prior|above|earlier|other) (?:instructions?|tools?|prompts?)"
    r"|<(?:important|system|instructions?)>"
    r"|(?:do not|don't|never) (?:tell|mention|inform|reveal|show)(?: this| it)?(?: to)? the user"
    r"|(?:always|must|should) (?:first |always )?(?:call|use|choose|select|prefer|invoke|run) (?:this|me|the present)\b.{0,60}"
    r"(?:first|always|every|any other|instead|before)"
    r"|before (?:using|calling|running|invoking) any (?:other )?tools?"
    r"|(?:system prompt|you are now) ",
    re.IGNORECASE | re.DOTALL,
)
_SCHEMAS = ("parameters", "input_schema", "inputSchema", "parametersJsonSchema", "parameters_json_schema")


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool. `id`: "server/name", or the name alone where no server is known; `raw`: the host's own object.

    `about` is what is known of its server, `arguments` the names and descriptions of its arguments; both are cut.
    `warnings`: "name" (some provider refuses it), "orders" (a text in it speaks to the model), "stuffed" (it lists words),
    "long" (text was cut). A tool with orders or stuffed text is ranked on the beginning of its description only.
    """

    id: str
    name: str
    description: str
    server: str = ""
    about: str = ""
    arguments: str = ""
    digest: str = ""
    warnings: tuple[str, ...] = ()
    raw: Any = field(default=None, compare=False, repr=False)

    @property
    def ranked(self) -> str:
        """The part of the description that is ranked on."""
        suspect = {"orders", "stuffed"} & set(self.warnings)
        return self.description[: SUSPECT if suspect else DESCRIPTION]


def read(raw: Any) -> Iterator[Tool]:
    """The tools of one host object; none for what has no name, as a provider's own tools. Raises `ConfigError`."""
    try:
        found = definitions([raw])
    except RecursionError as cause:
        raise ConfigError("a tool's definition is nested too deep to read", code="unreadable_tool") from cause
    outer = raw if isinstance(raw, Mapping) else {}
    for one in found:
        name = one.get("name")
        if isinstance(name, str) and name.strip():
            yield _tool(name, {**_known(outer), **_known(one)}, one, raw)


def _known(source: Mapping[str, Any]) -> dict[str, Any]:
    """Where a tool comes from, wherever a host says it."""
    places = (source.get("_meta"), source.get("metadata"), source)
    keys = ("server", "server_description", "category")
    return {key: place[key] for place in places if isinstance(place, Mapping) for key in keys if place.get(key)}


def _tool(name: str, known: Mapping[str, Any], definition: Mapping[str, Any], raw: Any) -> Tool:
    server = str(known.get("server", ""))
    description = str(definition.get("description") or "")
    schema: Any = next((definition[key] for key in _SCHEMAS if isinstance(definition.get(key), Mapping)), {})
    arguments = " ".join(_words(schema))
    about = " ".join(str(known[key]) for key in ("category", "server_description") if key in known)
    identity = f"{server}/{name}" if server else name
    told = (identity, about, description, arguments, _text(definition))
    digest = blake2b("\0".join(told).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    long = len(description) > DESCRIPTION or len(arguments) > ARGUMENTS
    warnings = [
        *([] if _NAME.fullmatch(name) else ["name"]),
        *(["orders"] if _ORDER.search(description) or _ORDER.search(arguments) else []),
        *(["stuffed"] if stuffed(description) else []),
        *(["long"] if long else []),
    ]
    return Tool(identity, name, description, server, about[:ABOUT], arguments[:ARGUMENTS], digest, tuple(warnings), raw)


def _text(definition: Mapping[str, Any]) -> str:
    """The whole definition as text, so that a change anywhere in it is a change; a cycle of objects is left out."""
    try:
        return json.dumps(definition, sort_keys=True, default=str)
    except (TypeError, ValueError, RecursionError):
        return ""


def _words(schema: Mapping[str, Any]) -> Iterator[str]:
    """Names and descriptions of the arguments, outer ones first. References and cycles are followed once."""
    queue: list[Any] = [schema]
    seen: set[int] = set()
    for number, part in enumerate(queue):
        if number >= NODES:
            return
        if not isinstance(part, Mapping) or id(part) in seen:
            continue
        seen.add(id(part))
        properties = part.get("properties")
        for name, below in properties.items() if isinstance(properties, Mapping) else ():
            told = below.get("description") if isinstance(below, Mapping) else None
            yield f"{name}: {told}" if isinstance(told, str) and told else str(name)
            queue.append(below)
        queue += [
            below for key in ("anyOf", "oneOf", "allOf") if isinstance(part.get(key), list) for below in part[key]
        ]
        queue += [part.get("items"), _target(part.get("$ref"), schema)]


def _target(reference: Any, root: Mapping[str, Any]) -> Any:
    """What a local `$ref` points at."""
    found: Any = root
    for key in reference[2:].split("/") if isinstance(reference, str) and reference.startswith("#/") else ("",):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def stuffed(text: str) -> bool:
    """Whether a text lists words instead of saying something: a word again and again, or hardly a word that joins others."""
    text = text[: 4 * DESCRIPTION]
    said = re.findall(r"[^\W\d_]{2,}", text.lower())
    telling = terms(text)
    if len(said) < WORDY or len(telling) < WORDY:
        return False
    most = Counter(telling).most_common(1)[0][1]
    joining = sum(not terms(word) for word in said)
    return most > OFTEN * len(telling) or (text.isascii() and joining < JOINED * len(said))

"""A shop and an airline in tau-bench's form, of a few rows, for tests that must run without its data."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

TEXT = {"type": "string"}
ADDRESS = {"address1": "1 Elm", "address2": "", "city": "Bonn", "state": "NW", "country": "DE", "zip": "53111"}


def item(number: str, price: float, *, available: bool = True) -> dict[str, Any]:
    return {"item_id": number, "options": {"size": number}, "available": available, "price": price}


def order(number: str, status: str, *items: str) -> dict[str, Any]:
    lines = [{"name": "Lamp", "product_id": "p1", "item_id": i, "price": 10.1, "options": {"size": i}} for i in items]
    paid = [{"transaction_type": "payment", "amount": 10.1 * len(items), "payment_method_id": "gift_card_1"}]
    head = {"order_id": number, "user_id": "ana_1", "address": ADDRESS, "items": lines, "fulfillments": []}
    return {**head, "status": status, "payment_history": paid}


METHODS = {
    "gift_card_1": {"source": "gift_card", "balance": 5.0, "id": "gift_card_1"},
    "paypal_2": {"source": "paypal", "id": "paypal_2"},
}
SHOP: dict[str, Any] = {
    "users": {
        "ana_1": {
            "name": {"first_name": "Ana", "last_name": "Brel"},
            "address": ADDRESS,
            "email": "ana@example.com",
            "payment_methods": METHODS,
            "orders": ["#W1", "#W2"],
        }
    },
    "orders": {"#W1": order("#W1", "pending", "i1", "i1"), "#W2": order("#W2", "delivered", "i1")},
    "products": {
        "p1": {
            "name": "Lamp",
            "product_id": "p1",
            "variants": {"i1": item("i1", 10.1), "i2": item("i2", 12.2), "i3": item("i3", 1.0, available=False)},
        }
    },
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "get_order_details": {"order_id": TEXT},
    "get_user_details": {"user_id": TEXT},
    "find_user_id_by_email": {"email": TEXT},
    "calculate": {"expression": TEXT},
    "think": {"thought": TEXT},
    "transfer_to_human_agents": {"summary": TEXT},
    "cancel_pending_order": {"order_id": TEXT, "reason": {**TEXT, "enum": ["no longer needed", "ordered by mistake"]}},
    "modify_pending_order_payment": {"order_id": TEXT, "payment_method_id": TEXT},
    "modify_pending_order_items": {
        "order_id": TEXT,
        "item_ids": {"type": "array", "items": TEXT},
        "new_item_ids": {"type": "array", "items": TEXT},
        "payment_method_id": TEXT,
    },
}
SWAP = {"order_id": "#W1", "item_ids": ["i1"], "new_item_ids": ["i2"], "payment_method_id": "paypal_2"}
TASKS: list[dict[str, Any]] = [
    {
        "instruction": "Cancel #W1 and tell me what comes back.",
        "actions": [
            {"name": "get_order_details", "kwargs": {"order_id": "#W1"}},
            {"name": "cancel_pending_order", "kwargs": {"order_id": "#W1", "reason": "no longer needed"}},
        ],
        "outputs": ["20.2"],
    },
    {"instruction": "Swap a lamp.", "actions": [{"name": "modify_pending_order_items", "kwargs": SWAP}], "outputs": []},
    {"instruction": "Buy me a castle.", "actions": [], "outputs": []},
]


def written(folder: Path, tasks: list[dict[str, Any]] = TASKS) -> str:
    """The shop's files; returns the folder."""
    rows = [{"id": f"retail-test-{n}", "user_id": "ana_1", **task} for n, task in enumerate(tasks)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "v1_retail_db.json.gz").write_bytes(gzip.compress(json.dumps(SHOP).encode()))
    (folder / "v1_retail_tasks.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "v1_retail_policy.md").write_text("Be kind.")
    tools = [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": name,
                "parameters": {"type": "object", "properties": fields, "required": list(fields)},
            },
        }
        for name, fields in SCHEMAS.items()
    ]
    (folder / "v1_retail_tools.json").write_text(json.dumps(tools))
    return str(folder)

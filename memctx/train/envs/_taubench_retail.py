"""The tools of tau-bench's shop (arXiv 2406.12045, data MIT)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from memctx.train.envs._taubench import SHARED, Desk, Refused, Row, Tool


def find_user_id_by_email(desk: Desk, email: str) -> str:
    return _user(desk, lambda user: user["email"].lower() == email.lower())


def find_user_id_by_name_zip(desk: Desk, first_name: str, last_name: str, zip: str) -> str:
    wanted = (first_name.lower(), last_name.lower(), zip)

    def fits(user: Row) -> bool:
        name = user["name"]
        return (name["first_name"].lower(), name["last_name"].lower(), user["address"]["zip"]) == wanted

    return _user(desk, fits)


def get_user_details(desk: Desk, user_id: str) -> Row:
    return desk.get("users", user_id)


def get_order_details(desk: Desk, order_id: str) -> Row:
    return desk.get("orders", order_id)


def get_product_details(desk: Desk, product_id: str) -> Row:
    return desk.get("products", product_id)


def list_all_product_types(desk: Desk) -> dict[str, str]:
    return {row["name"]: key for key, row in sorted(desk.rows("products"), key=lambda each: each[1]["name"])}


def modify_user_address(desk: Desk, user_id: str, **address: str) -> Row:
    user = desk.edit("users", user_id)
    user["address"] = _address(address)
    return user


def modify_pending_order_address(desk: Desk, order_id: str, **address: str) -> Row:
    order = _order(desk, order_id, "pending", "modified")
    order["address"] = _address(address)
    return order


def cancel_pending_order(desk: Desk, order_id: str, reason: str) -> Row:
    order = _order(desk, order_id, "pending", "cancelled")
    for paid in list(order["payment_history"]):
        _pay(desk, order, -paid["amount"], paid["payment_method_id"])
    order["status"], order["cancel_reason"] = "cancelled", reason
    return order


def modify_pending_order_payment(desk: Desk, order_id: str, payment_method_id: str) -> Row:
    order = _order(desk, order_id, "pending", "modified")
    _method(desk, order, payment_method_id)
    if len(order["payment_history"]) != 1:
        raise Refused("there should be exactly one payment for a pending order")
    paid = order["payment_history"][0]
    if paid["payment_method_id"] == payment_method_id:
        raise Refused("the new payment method should be different from the current one")
    _pay(desk, order, paid["amount"], payment_method_id)
    _pay(desk, order, -paid["amount"], paid["payment_method_id"])
    return order


def modify_pending_order_items(
    desk: Desk, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
) -> Row:
    order = _order(desk, order_id, "pending", "modified")
    pairs = _swapped(desk, order, item_ids, new_item_ids)
    _method(desk, order, payment_method_id)
    _pay(desk, order, sum(new["price"] - old["price"] for old, new in pairs), payment_method_id)
    for old, new in pairs:
        old |= {"item_id": new["item_id"], "price": new["price"], "options": new["options"]}
    order["status"] = "pending (item modified)"
    return order


def return_delivered_order_items(desk: Desk, order_id: str, item_ids: list[str], payment_method_id: str) -> Row:
    order = _order(desk, order_id, "delivered", "returned")
    _method(desk, order, payment_method_id)
    original = {paid["payment_method_id"] for paid in order["payment_history"]}
    if payment_method_id not in original and not payment_method_id.startswith("gift_card"):
        raise Refused("payment method should be either the original payment method or a gift card")
    _held(order, item_ids)
    order |= {
        "status": "return requested",
        "return_items": sorted(item_ids),
        "return_payment_method_id": payment_method_id,
    }
    return order


def exchange_delivered_order_items(
    desk: Desk, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
) -> Row:
    order = _order(desk, order_id, "delivered", "exchanged")
    pairs = _swapped(desk, order, item_ids, new_item_ids)
    owed = round(sum(new["price"] - old["price"] for old, new in pairs), 2)
    _covered(_method(desk, order, payment_method_id), owed)
    order |= {
        "status": "exchange requested",
        "exchange_items": sorted(item_ids),
        "exchange_new_items": sorted(new_item_ids),
        "exchange_payment_method_id": payment_method_id,
        "exchange_price_difference": owed,
    }
    return order


def _user(desk: Desk, fits: Callable[[Row], bool]) -> str:
    for key, user in desk.rows("users"):
        if fits(user):
            return key
    raise Refused("user not found")


def _address(given: Mapping[str, str]) -> dict[str, str]:
    return {part: given[part] for part in ("address1", "address2", "city", "state", "country", "zip")}


def _order(desk: Desk, order_id: str, status: str, done: str) -> Row:
    """An order to write to, which must have the status."""
    if desk.get("orders", order_id)["status"] != status:
        raise Refused(f"non-{status} order cannot be {done}")
    return desk.edit("orders", order_id)


def _held(order: Row, item_ids: Sequence[str]) -> None:
    """Every item as often as it is named."""
    held = Counter(item["item_id"] for item in order["items"])
    if missing := [each for each, count in Counter(item_ids).items() if held[each] < count]:
        raise Refused(f"{missing[0]} not found")


def _swapped(desk: Desk, order: Row, item_ids: list[str], new_item_ids: list[str]) -> list[tuple[Row, Row]]:
    """(item of the order, variant of the same product that takes its place)."""
    _held(order, item_ids)
    if len(item_ids) != len(new_item_ids):
        raise Refused("the number of items to be exchanged should match")
    free, pairs = list(order["items"]), []
    for old_id, new_id in zip(item_ids, new_item_ids, strict=True):
        old = next(item for item in free if item["item_id"] == old_id)
        free = [item for item in free if item is not old]
        new = desk.get("products", old["product_id"])["variants"].get(new_id)
        if new is None or not new["available"]:
            raise Refused(f"new item {new_id} not found or available")
        pairs.append((old, new))
    return pairs


def _method(desk: Desk, order: Row, payment_method_id: str) -> Row:
    """A way to pay of the order's user."""
    found: Row | None = desk.get("users", order["user_id"])["payment_methods"].get(payment_method_id)
    if found is None:
        raise Refused("payment method not found")
    return found


def _covered(method: Row, amount: float) -> None:
    if method["source"] == "gift_card" and method["balance"] < amount:
        raise Refused("insufficient gift card balance")


def _pay(desk: Desk, order: Row, amount: float, payment_method_id: str) -> None:
    """Enter a payment, or below zero a refund. A gift card's balance follows at once."""
    method = _method(desk, order, payment_method_id)
    _covered(method, amount)
    kind = "payment" if amount > 0 else "refund"
    entry = {"transaction_type": kind, "amount": abs(amount), "payment_method_id": payment_method_id}
    order["payment_history"].append(entry)
    if method["source"] == "gift_card":
        card = desk.edit("users", order["user_id"])["payment_methods"][payment_method_id]
        card["balance"] = round(card["balance"] - amount, 2)


TOOLS: Mapping[str, Tool] = {
    **SHARED,
    **{
        tool.__name__: tool
        for tool in (
            find_user_id_by_email,
            find_user_id_by_name_zip,
            get_user_details,
            get_order_details,
            get_product_details,
            list_all_product_types,
            modify_user_address,
            modify_pending_order_address,
            modify_pending_order_payment,
            modify_pending_order_items,
            cancel_pending_order,
            return_delivered_order_items,
            exchange_delivered_order_items,
        )
    },
}

"""The tools of tau-bench's airline (arXiv 2406.12045, data MIT)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from memctx.train.envs._taubench import SHARED, Desk, Refused, Row, Tool

NOW = "2024-05-15T15:00:00"  # the time that the policy names
BAG = 50  # dollars of a bag that is not free
INSURANCE = 30  # dollars a passenger
BOOKINGS = ("HATHAT", "HATHAU", "HATHAV")  # ids that new reservations get, in turn
CERTIFICATES = ("certificate_3221322", "certificate_3221323", "certificate_3221324")
AIRPORTS = {
    "SFO": "San Francisco", "JFK": "New York", "LAX": "Los Angeles", "ORD": "Chicago", "DFW": "Dallas", "DEN": "Denver",
    "SEA": "Seattle", "ATL": "Atlanta", "MIA": "Miami", "BOS": "Boston", "PHX": "Phoenix", "IAH": "Houston",
    "LAS": "Las Vegas", "MCO": "Orlando", "EWR": "Newark", "CLT": "Charlotte", "MSP": "Minneapolis", "DTW": "Detroit",
    "PHL": "Philadelphia", "LGA": "LaGuardia",
}  # fmt: skip


def get_user_details(desk: Desk, user_id: str) -> Row:
    return desk.get("users", user_id)


def get_reservation_details(desk: Desk, reservation_id: str) -> Row:
    return desk.get("reservations", reservation_id)


def list_all_airports(_: Desk) -> dict[str, str]:
    return AIRPORTS


def search_direct_flight(desk: Desk, origin: str, destination: str, date: str) -> list[Row]:
    return [flight for flight in _leaving(desk, origin, date) if flight["destination"] == destination]


def search_onestop_flight(desk: Desk, origin: str, destination: str, date: str) -> list[list[Row]]:
    """The second flight leaves after the first one lands, on the next day where that lands after midnight."""
    return [
        [{**first, "date": date}, {**second, "date": then}]
        for first in _leaving(desk, origin, date)
        for then in (_landing(first, date),)
        for second in search_direct_flight(desk, first["destination"], destination, then)
        if first["scheduled_arrival_time_est"] <= second["scheduled_departure_time_est"]
    ]


def book_reservation(desk: Desk, user_id: str, flights: list[Row], payment_methods: list[Row], **given: Any) -> Row:
    desk.get("users", user_id)
    many = len(given["passengers"])
    legs = [{**leg, **_leg(desk, leg, given["cabin"], many)} for leg in flights]
    total = sum(leg["price"] for leg in legs) * many + BAG * given["nonfree_baggages"]
    total += INSURANCE * many if given["insurance"] == "yes" else 0
    if len({payment["payment_id"] for payment in payment_methods}) < len(payment_methods):
        raise Refused("each payment method can be used once")
    for payment in payment_methods:
        _covered(_method(desk, user_id, payment["payment_id"]), payment)
    if (paid := sum(payment["amount"] for payment in payment_methods)) != total:
        raise Refused(f"payment amount does not add up, total price is {total}, but paid {paid}")
    user = desk.edit("users", user_id)
    for payment in payment_methods:
        _take(user["payment_methods"], payment)
    free = [each for each in BOOKINGS if ("reservations", each) not in desk.changed]
    if not free:
        raise Refused("Too many reservations")
    user["reservations"].append(free[0])
    trip = {name: given[name] for name in ("origin", "destination", "flight_type", "cabin")}
    extra = {name: given[name] for name in ("total_baggages", "nonfree_baggages", "insurance")}
    booked = {"reservation_id": free[0], "user_id": user_id, **trip, "flights": legs, "passengers": given["passengers"]}
    booked |= {"payment_history": payment_methods, "created_at": NOW, **extra}
    desk.changed["reservations", free[0]] = booked
    return booked


def cancel_reservation(desk: Desk, reservation_id: str) -> Row:
    """What was paid is paid back to where it came from; the balance of a gift card is not raised at once."""
    booked = desk.edit("reservations", reservation_id)
    back = [{"payment_id": each["payment_id"], "amount": -each["amount"]} for each in booked["payment_history"]]
    booked["payment_history"] += back
    booked["status"] = "cancelled"
    return booked


def update_reservation_flights(desk: Desk, reservation_id: str, cabin: str, flights: list[Row], payment_id: str) -> Row:
    """A leg that stays keeps its price; the reservation's own cabin stays as it was booked, as recorded runs show."""
    booked = desk.edit("reservations", reservation_id)
    many = len(booked["passengers"])
    legs = [_kept(booked, leg, cabin) or {**leg, **_leg(desk, leg, cabin, many)} for leg in flights]
    owed = (sum(leg["price"] for leg in legs) - sum(leg["price"] for leg in booked["flights"])) * many
    _charge(desk, booked, payment_id, owed)
    booked["flights"] = legs
    return booked


def update_reservation_baggages(
    desk: Desk, reservation_id: str, total_baggages: int, nonfree_baggages: int, payment_id: str
) -> Row:
    booked = desk.edit("reservations", reservation_id)
    _charge(desk, booked, payment_id, BAG * max(0, nonfree_baggages - booked["nonfree_baggages"]))
    booked["total_baggages"], booked["nonfree_baggages"] = total_baggages, nonfree_baggages
    return booked


def update_reservation_passengers(desk: Desk, reservation_id: str, passengers: list[Row]) -> Row:
    booked = desk.edit("reservations", reservation_id)
    if len(passengers) != len(booked["passengers"]):
        raise Refused("number of passengers does not match")
    booked["passengers"] = passengers
    return booked


def send_certificate(desk: Desk, user_id: str, amount: float) -> str:
    methods = desk.edit("users", user_id)["payment_methods"]
    free = [each for each in CERTIFICATES if each not in methods]
    if not free:
        raise Refused("Too many certificates")
    methods[free[0]] = {"source": "certificate", "amount": amount, "id": free[0]}
    return f"Certificate {free[0]} added to user {user_id} with amount {amount}."


def _leaving(desk: Desk, origin: str, date: str) -> Iterator[Row]:
    """The flights from a place that can be booked on a day, each with that day's seats and prices."""
    for _, flight in desk.rows("flights"):
        day = flight["dates"].get(date)
        if flight["origin"] == origin and day is not None and day["status"] == "available":
            yield {name: value for name, value in flight.items() if name != "dates"} | day


def _landing(flight: Row, date: str) -> str:
    """The day on which a flight of `date` lands; all flights of the data are in May."""
    return f"{date[:8]}{int(date[8:]) + 1:02}" if "+1" in flight["scheduled_arrival_time_est"] else date


def _leg(desk: Desk, wanted: Row, cabin: str, many: int) -> Row:
    """What a reservation notes of a flight that has the seats."""
    number, date = wanted["flight_number"], wanted["date"]
    flight = desk.get("flights", number)
    day = flight["dates"].get(date)
    if day is None or day["status"] != "available":
        raise Refused(f"flight {number} not available on date {date}")
    if day["available_seats"][cabin] < many:
        raise Refused(f"not enough seats on flight {number}")
    return {"price": day["prices"][cabin], "origin": flight["origin"], "destination": flight["destination"]}


def _kept(booked: Row, wanted: Row, cabin: str) -> Row | None:
    """The leg as it was booked, if it is one and the cabin is the same."""
    if cabin != booked["cabin"]:
        return None
    old = (
        leg
        for leg in booked["flights"]
        if (leg["flight_number"], leg["date"]) == (wanted["flight_number"], wanted["date"])
    )
    return next(({**wanted, **{n: leg[n] for n in ("price", "origin", "destination")}} for leg in old), None)


def _method(desk: Desk, user_id: str, payment_id: str) -> Row:
    found: Row | None = desk.get("users", user_id)["payment_methods"].get(payment_id)
    if found is None:
        raise Refused(f"payment method {payment_id} not found")
    return found


def _covered(method: Row, payment: Row) -> None:
    if method["source"] != "credit_card" and method["amount"] < payment["amount"]:
        raise Refused(f"not enough balance in payment method {payment['payment_id']}")


def _take(methods: dict[str, Row], payment: Row) -> None:
    """A certificate is used up whole, a gift card by the amount."""
    if methods[payment["payment_id"]]["source"] == "certificate":
        del methods[payment["payment_id"]]
    elif methods[payment["payment_id"]]["source"] == "gift_card":
        methods[payment["payment_id"]]["amount"] -= payment["amount"]


def _charge(desk: Desk, booked: Row, payment_id: str, owed: float) -> None:
    """Pay for a change, or below zero be paid."""
    method = _method(desk, booked["user_id"], payment_id)
    if method["source"] == "certificate":
        raise Refused("certificate cannot be used to update reservation")
    if method["source"] == "gift_card":
        if method["amount"] < owed:
            raise Refused("gift card balance is not enough")
        desk.edit("users", booked["user_id"])["payment_methods"][payment_id]["amount"] -= owed
    if owed:
        booked["payment_history"].append({"payment_id": payment_id, "amount": owed})


TOOLS: Mapping[str, Tool] = {
    **SHARED,
    **{
        tool.__name__: tool
        for tool in (
            get_user_details,
            get_reservation_details,
            list_all_airports,
            search_direct_flight,
            search_onestop_flight,
            book_reservation,
            cancel_reservation,
            update_reservation_flights,
            update_reservation_baggages,
            update_reservation_passengers,
            send_certificate,
        )
    },
}

"""Items of a cell's own table as DynamoDB's API has them. Nothing here calls anything."""

from __future__ import annotations

from typing import Any, Final

from cell_worker.api.tables import PK, SK, Change, ItemKey, ItemValue, TableItem
from cell_worker.contract.strict_reader import MAX_WHOLE, Unreadable

WireItem = dict[str, Any]
MAX_ATTRIBUTES: Final = 100
MAX_ITEM_CHARS: Final = 400 * 1024
"""DynamoDB keeps no larger item."""
_MAX_DIGITS: Final = 17  # of MAX_WHOLE, with a sign


def wire_value(value: ItemValue) -> WireItem:
    """Return a text or a whole number as an attribute's value."""
    return {"S": value} if isinstance(value, str) else {"N": str(value)}


def wire_item(item: TableItem) -> WireItem:
    """Return an item as DynamoDB's API takes it."""
    return {name: wire_value(value) for name, value in item.items()}


def wire_key(key: ItemKey) -> WireItem:
    """Return a key as DynamoDB's API takes it."""
    return {PK: {"S": key.pk}, SK: {"S": key.sk}}


def wire_put(table: str, item: TableItem, was: TableItem | None) -> WireItem:
    """Return one write of a transaction, on condition that what is there is what was read."""
    put: WireItem = {"TableName": table, "Item": wire_item(item)}
    if was is None:
        return {
            "Put": put | {"ConditionExpression": "attribute_not_exists(#0)", "ExpressionAttributeNames": {"#0": PK}}
        }
    names = {name: f"#{number}" for number, name in enumerate(dict.fromkeys((*was, *item)))}
    equal = [f"{names[name]} = :{names[name][1:]}" for name in was]
    absent = [f"attribute_not_exists({names[name]})" for name in item if name not in was]
    condition = {
        "ConditionExpression": " AND ".join(equal + absent),
        "ExpressionAttributeNames": {short: name for name, short in names.items()},
        "ExpressionAttributeValues": {f":{names[name][1:]}": wire_value(value) for name, value in was.items()},
    }
    return {"Put": put | condition}


def item_of(wire: object) -> TableItem | Unreadable:
    """Read an item that DynamoDB has answered, or say why it is none of this table's. Never raises."""
    if not isinstance(wire, dict) or len(wire) > MAX_ATTRIBUTES:
        return Unreadable(f"an item is no record of at most {MAX_ATTRIBUTES} attributes")
    item: dict[str, ItemValue] = {}
    for name, typed in wire.items():
        value = _value_of(typed)
        if value is None or not isinstance(name, str):
            return Unreadable(f"the attribute {name!r:.80} is neither a text nor a whole number")
        item[name] = value
    if not isinstance(item.get(PK), str) or not isinstance(item.get(SK), str):
        return Unreadable(f"an item has no {PK} and {SK} that are texts")
    return item


def change_of(record: object) -> tuple[str, Change | Unreadable] | Unreadable:
    """Read one record of a stream: its number, and the change that it tells or why it can't be read. Never raises."""
    match record:
        case {"dynamodb": {"SequenceNumber": str(number), **told}} if 0 < len(number) <= 40 and number.isdigit():  # noqa: PLR2004 - as AWS has it
            found = [item_of(told[name]) if name in told else None for name in ("OldImage", "NewImage")]
            for each in found:
                if isinstance(each, Unreadable):
                    return number, each
            old, new = found
            if old is None and new is None:
                return number, Unreadable("a change has neither an old nor a new image")
            assert not isinstance(old, Unreadable)
            assert not isinstance(new, Unreadable)
            return number, Change(old, new)
    return Unreadable("a record of the stream has no number")


def _value_of(typed: Any) -> ItemValue | None:
    match typed:
        case {"S": str(text)} if len(typed) == 1 and len(text) <= MAX_ITEM_CHARS:
            return text
        case {"N": str(digits)} if len(typed) == 1 and len(digits) <= _MAX_DIGITS:
            return _whole(digits)
    return None


def _whole(digits: str) -> int | None:
    plain = digits.isascii() and digits.removeprefix("-").isdigit()
    return number if plain and abs(number := int(digits)) <= MAX_WHOLE else None

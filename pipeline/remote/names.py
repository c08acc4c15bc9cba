"""What objects are called, below the bucket's URL.

    <kind>/<recipe key>/recipe.json                            as in the store
    <kind>/<recipe key>/items/<item key>.json                  the item's item.json; once it is there, the item is
    <kind>/<recipe key>/files/<item key>/<digest>/<file>       its files, under the digest of that item.json
    <kind>/<recipe key>/heads/<item key>.zip                   what of tiles and tokens is small (heads.py)

Files are never written over by others: two people whose bytes of one item differ have two digests, and whichever
item.json is read last names the files that belong to it. One listing of `items` is a request for 1,000 items.
"""

from __future__ import annotations

import hashlib

from pipeline.base.store import Ref


def marker(ref: Ref) -> str:
    """The object that says that the item is there."""
    return f"{items_of(ref)}/{ref.item}.json"


def items_of(ref: Ref) -> str:
    """The folder of the markers of a recipe."""
    return f"{ref.kind}/{ref.recipe}/items"


def recipe_file(ref: Ref) -> str:
    """The recipe of an item."""
    return f"{ref.kind}/{ref.recipe}/recipe.json"


def of_file(ref: Ref, item: bytes, name: str) -> str:
    """One of the files that an item.json of this content names."""
    return f"{folder_of(ref, item)}/{name}"


def folder_of(ref: Ref, item: bytes) -> str:
    """Where the files are that an item.json of this content names."""
    return f"{ref.kind}/{ref.recipe}/files/{ref.item}/{hashlib.sha256(item).hexdigest()[:32]}"


def head(ref: Ref) -> str:
    """The object that opens the item in one request."""
    return f"{ref.kind}/{ref.recipe}/heads/{ref.item}.zip"

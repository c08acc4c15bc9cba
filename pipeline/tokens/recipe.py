"""What a slide's tokens depend on besides its tiles: the recipe of train slides, and that of all others.

Views are for training. A held-out slide, or a data set that only probes look at, needs the teacher's answer to the tile
as it is: its recipe is the same with one view, whatever is trained on, so that studies of views share it. Both share
the calibration, which is kept under the recipe of one view: tokens of train and held-out slides lie in one space.

Random views of a slide's tiles are drawn by its key and their row; those of images of a folder, whose rows move when
one image is added, by each image's content. That is a recipe of its own.
"""

from __future__ import annotations

from pipeline.base.items import TilesManifest, TokensManifest
from pipeline.base.store import recipe_key
from pipeline.base.types import Json, Recipe
from pipeline.params.tokens import TokensParams
from pipeline.teachers.teacher import Teacher
from pipeline.tokens.calibration import CALIBRATED_BY
from pipeline.tokens.item.attributes import IMPORTED
from pipeline.views import stores_fields

DRAWN_BY = "drawn_by"
"""In a recipe of folders of images with random views: what these are drawn by."""
RECIPE_VERSION = 2
"""Count up when the same parameters give other bytes."""


def tokens_recipe(tiles: TilesManifest, teacher: Teacher, params: TokensParams, precision: str) -> Recipe:
    """That of train slides; `precision` is resolved, since its bytes differ."""
    recipe: dict[str, Json] = {
        "recipe_version": RECIPE_VERSION,
        "tiles": tiles.recipe_key,
        "teacher": teacher.describe(),
        "precision": precision,
        "patch": params.patch,
        "views": params.views,
        # Without patch tokens nothing is standardised.
        "calibration_tiles": None if params.patch == "none" else params.calibration_tiles,
    }
    if tiles.recipe.get("also_mpp"):
        # Such items say the scale of each tile.
        recipe["scales"] = "mpp"
    if stores_fields(params):
        recipe["augment"] = params.augment.model_dump(mode="json")
    if params.n_views > 1 and params.patch != "none":
        recipe[CALIBRATED_BY] = recipe_key(one_view(recipe))
    return recipe


def by_content(recipe: Recipe) -> Recipe:
    """The recipe of images whose random views are drawn by their content; without such views, the same."""
    return {**recipe, DRAWN_BY: "content"} if "augment" in recipe else recipe


def one_view(recipe: Recipe) -> Recipe:
    """The recipe with the tile as it is alone, computed here; of such a recipe with one view, the same."""
    others = ("augment", CALIBRATED_BY, DRAWN_BY, IMPORTED)
    return {name: value for name, value in recipe.items() if name not in others} | {"views": 1}


def one_view_key(tokens: TokensManifest) -> str:
    """The key of the recipe that tokens.json's held-out slides have, and data sets beside them; imported ones aside."""
    recipe = one_view(tokens.recipe)
    return tokens.recipe_key if recipe == tokens.recipe else recipe_key(recipe)

"""Recipes and budgets: shipped ones, files, flags, and what is refused."""

import dataclasses
import re
import tomllib
from importlib import resources
from pathlib import Path

import pytest
import tyro
from hypothesis import given
from hypothesis import strategies as st

from levelground.config import Budget, Recipe
from levelground.errors import ConfigError, LevelgroundError
from levelground.recipe_files import check_recipe, load_recipe, recipe_flags, shipped_recipes

FIELDS = {field.name for field in dataclasses.fields(Recipe)} - {"name"}


def shipped_text(name: str) -> str:
    """A shipped recipe as it lies in the package."""
    return (resources.files("levelground") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def test_two_recipes_are_shipped() -> None:
    """Default and origin."""
    assert shipped_recipes() == ("default", "origin")


def test_the_default_recipe_is_the_default_of_every_field() -> None:
    """The file and the class say the same, so a command without --recipe trains by the default recipe."""
    assert load_recipe("default") == load_recipe() == Recipe()


@pytest.mark.parametrize("name", ["default", "origin"])
def test_shipped_recipes_name_every_field(name: str) -> None:
    """Nothing in a shipped recipe is left to a default elsewhere."""
    assert set(tomllib.loads(shipped_text(name))) == FIELDS


def test_the_origin_recipe_is_the_origin_study() -> None:
    """The origin study's configuration, value by value."""
    recipe = load_recipe("origin")
    expected = {
        "batch": 1,
        "lr": 2e-4,
        "default_epochs": 5.0,
        "encoder": "resnet18",
        "encoder_weights": "imagenet",
        "outputs": "all",
        "optimiser": "adam",
        "weight_decay": 0.0,
        "encoder_lr_factor": 1.0,
        "schedule": "constant",
        "warmup": 0.0,
        "clip": 0.0,
        "loss": "smp-dice",
        "tile": 0,
        "d4": False,
        "colour": 0.0,
        "normalise": "none",
        "freeze_encoder_children": -2,
        "select": "val_loss",
        "validations": 0,
        "sanity_check": True,
    }
    assert {name: getattr(recipe, name) for name in expected} == expected


def test_a_file_names_only_what_it_changes(tmp_path: Path) -> None:
    """What the file leaves out is the default recipe's; its name is the path."""
    path = tmp_path / "mine.toml"
    path.write_text('lr = 5e-4\nloss = "focal+dice"\n', encoding="utf-8")
    assert load_recipe(str(path)) == dataclasses.replace(Recipe(), name=str(path), lr=5e-4, loss="focal+dice")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr = ", r"mine\.toml: no TOML \(.+\)\. Mend the file\.$"),
        ("lr = 11", r"mine\.toml: lr = 11 should be less than or equal to 10\. Mend the recipe\.$"),
        ("tile = -1", r"mine\.toml: tile = -1 should be greater than or equal to 0\. Mend the recipe\.$"),
        ('loss = "l1"', r"mine\.toml: loss = 'l1' should be 'ce', 'dice', .+ or 'smp-dice'\. Mend the recipe\.$"),
        ("learning_rate = 1", r"mine\.toml: unknown recipe key 'learning_rate'\. Known keys: name, encoder, .+\.$"),
        ("scale_min = 2", r"mine\.toml: scale_min 2\.0 exceeds scale_max 1\.5; exchange the two\. Mend the recipe\.$"),
        ("lr = nan", r"mine\.toml: lr = nan should be .+\. Mend the recipe\.$"),
    ],
)
def test_a_file_that_cannot_work_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """One line names file, key and value."""
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_recipe(str(path))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are no UTF-8."""
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"mine\.toml: unreadable recipe \(.+\)\. Give a UTF-8 TOML file\."):
        load_recipe(str(path))


@pytest.mark.parametrize("name", ["best", "nowhere.toml", "", "../default"])
def test_an_unknown_recipe_names_the_known_ones(name: str) -> None:
    """Shipped recipes are listed."""
    message = rf"--recipe {name}: no such recipe\. Give default, origin or the path of a \.toml\."
    with pytest.raises(ConfigError, match=message):
        load_recipe(name)


@pytest.mark.parametrize("name", ["default", "origin"])
def test_flags_of_a_recipe_make_the_recipe(name: str) -> None:
    """A recipe written as flags and parsed again is the same, but for its name."""
    recipe = load_recipe(name)
    parsed = tyro.cli(Recipe, args=recipe_flags(recipe))
    assert dataclasses.replace(parsed, name=name) == recipe


def test_later_flags_win() -> None:
    """Flags given beside --recipe come after the recipe's own and override them."""
    parsed = tyro.cli(Recipe, args=[*recipe_flags(load_recipe("origin")), "--batch", "4", "--d4", "--loss=ce"])
    assert (parsed.batch, parsed.d4, parsed.loss, parsed.lr) == (4, True, "ce", 2e-4)


def test_card_fields_make_the_recipe_again() -> None:
    """What a run card holds reads back."""
    recipe = load_recipe("origin")
    assert check_recipe(dataclasses.asdict(recipe), source="run.json") == recipe


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)) | st.text(max_size=8), st.none() | st.integers() | st.text()))
def test_any_values_make_a_recipe_or_one_line(fields: dict[str, object]) -> None:
    """Whatever stands in a file, it is a recipe or an error of ours."""
    try:
        recipe = check_recipe(fields, source="fuzz")
    except LevelgroundError as error:
        assert str(error).startswith("fuzz: ")
    else:
        assert isinstance(recipe, Recipe)


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (Budget(), "5 epochs"),
        (Budget(steps=200), "200 steps"),
        (Budget(epochs=0.5), "0.5 epochs"),
        (Budget(minutes=2), "2 minutes"),
        (Budget(steps=12_345_678), "12345678 steps"),
    ],
)
def test_a_budget_describes_itself(budget: Budget, expected: str) -> None:
    """As it was asked for, every digit."""
    assert budget.describe(Recipe()) == expected


@pytest.mark.parametrize("given_values", [{"steps": 1, "minutes": 2.0}, {"epochs": 1.0, "steps": 3}])
def test_two_budgets_are_refused(given_values: dict[str, float]) -> None:
    """At most one."""
    with pytest.raises(ValueError, match=r"give one of --steps, --epochs and --minutes, not --\w+ and --\w+"):
        Budget(**given_values)  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [{"steps": 0}, {"steps": -5}, {"epochs": 0.0}, {"minutes": -1.0}])
def test_a_budget_of_nothing_is_refused(values: dict[str, float]) -> None:
    """Steps, epochs and minutes are more than none."""
    with pytest.raises(ValueError, match="greater than"):
        Budget(**values)  # type: ignore[arg-type]


def test_the_documentation_gives_a_reason_for_every_field() -> None:
    """With the value that the default recipe has."""
    page = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", page.partition("## The origin recipe")[0], re.MULTILINE))
    shown = {True: "on", False: "off"}
    values = {name: getattr(Recipe(), name) for name in FIELDS}
    expected = {
        name: shown[v] if isinstance(v, bool) else f"`{v}`" if isinstance(v, str) else f"{v:g}"
        for name, v in values.items()
    }
    assert rows == expected


def test_the_documentation_names_every_field_of_the_origin_recipe() -> None:
    """Beside what the origin study had."""
    page = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", page.partition("## The origin recipe")[2]))
    assert named >= FIELDS

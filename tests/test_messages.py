"""The English of every finding and of every pair, in one golden file; and that a language can change all of it."""

import ast
import gettext as catalogues
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from builders.benchmarks import benchmark_sentences
from builders.facts import CAVEATS, DESCRIPTIONS, HEADLINES, LEADER, PAIRS

from levelground import wording
from levelground.cli import main
from levelground.comparison.facts import Fact
from levelground.comparison.sentences import WRITERS, write, write_pair
from levelground.comparison.text import per_cent, recorded, score, split_words, verdict_word, weights_kept
from levelground.errors import ConfigError
from levelground.metrics.named import METRICS
from levelground.runs import SelectionRecord
from levelground.serving.service import page_words

GOLD = Path(__file__).parent / "gold" / "messages.en.txt"


def every_sentence() -> Iterator[str]:
    """Each example with its code and severity, pairs first."""
    for pair in PAIRS:
        yield f"pair: {pair.verdict}\n{write_pair(pair)}\n"
    for fact in (*HEADLINES, *CAVEATS, *DESCRIPTIONS):
        yield f"{fact.code}: {fact.severity}\n{write(fact)}\n"
    yield from benchmark_sentences()


RECORDED = (
    "48 steps", "1 steps", "3 epochs", "2.5 epochs", "2 minutes", "1 epochs", "1 minutes", "none",
    "scenes drawn at random, seed 1, by class shares",
    "blocks of 1000 m, buffer 125.5 m drawn at random, seed 1, by class shares",
    "5 folds, every scene a test scene once; groups of scenes drawn at random, seed 0, by class shares",
    "21 folds, every scene a test scene once; lists in splits", "1 folds, every scene a test scene once; scenes",
    "the data's own folders", "the origin study's split", "lists in splits",
    "validation has 1 scene", "validation has 6 scenes in 2 groups and lacks 2 of 6 classes (Water, Barren land)",
    "validation lacks 2 of 6 classes", "validation has no pixel of a class that is scored",
)  # fmt: skip
"""Texts as records hold them: budgets, rules of splits, reasons of a choice of weights."""


def every_message() -> Iterator[str]:
    """The sentences, words of tables and records, and the labels of the server's page."""
    yield from every_sentence()
    yield "texts of records\n" + "\n".join(recorded(text) for text in RECORDED) + "\n"
    words = [verdict_word(word) for word in ("better", "worse", "equal", "undecided")]
    words += [weights_kept(SelectionRecord(rule="last", step=120, averaged=n, reason="none")) for n in (1, 24)]
    yield "words\n" + "\n".join([*words, *(split_words(split) for split in ("train", "val", "test"))]) + "\n"
    yield "page of the server\n" + "\n".join(page_words().values()) + "\n"


def test_messages_are_those_seen_and_approved(renew_gold: bool) -> None:
    """After a change that is meant: ``make gold``, then read the difference before committing it."""
    text = "\n".join(every_message())
    if renew_gold:
        GOLD.write_text(text, encoding="utf-8")
    assert text == GOLD.read_text(encoding="utf-8")


def test_sentences_are_finished() -> None:
    """Sentences end and hold no leftovers of code."""
    for text in every_sentence():
        sentence = text.partition("\n")[2].strip()
        assert sentence.endswith(".")
        assert not any(mark in sentence for mark in ("None", "nan", "{", "}", "  ", "['", "..", "np.", "%("))


def concrete(kind: type[Fact]) -> set[type[Fact]]:
    """All types of fact, but for the bases of several."""
    found = set() if kind.__name__.startswith("_") or kind is Fact else {kind}
    return found.union(*(concrete(one) for one in kind.__subclasses__()))


def test_every_type_of_fact_has_a_sentence_and_an_example() -> None:
    """Nothing can be found that cannot be said, and nothing is said that the golden file does not show."""
    kinds = concrete(Fact)
    assert kinds == set(WRITERS)
    assert kinds == {type(fact) for fact in (*HEADLINES, *CAVEATS, *DESCRIPTIONS)}


class Recorder(catalogues.NullTranslations):
    """English that notes which messages, and which forms of them, were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[tuple[str | None, str]] = set()

    def info(self) -> dict[str, str]:
        """Be another language than English."""
        return {"language": "recorded"}

    def _note(self, context: str | None, text: str) -> str:
        self.asked.add((context, text))
        return text

    def gettext(self, message: str) -> str:
        """Note a message."""
        return self._note(None, message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        """Note the form of a message."""
        return self._note(None, msgid1 if n == 1 else msgid2)

    def pgettext(self, context: str, message: str) -> str:
        """Note a message in a context."""
        return self._note(context, message)

    def npgettext(self, context: str, msgid1: str, msgid2: str, n: int) -> str:
        """Note the form of a message in a context."""
        return self._note(context, msgid1 if n == 1 else msgid2)


def test_examples_use_every_message_in_every_form() -> None:
    """No message of the template is left over, and each plural form is in the golden file."""
    recorder = Recorder()
    with wording.catalogue(recorder):
        list(every_message())
    with (wording.FOLDER / "levelground.pot").open("rb") as file:
        template = read_po(file)
    metrics = {kind.words for kind in METRICS.values()}
    known = {(message.context, text): message for message in template for text in _forms(message) if text}
    sentences = {one for one, message in known.items() if any(place in SENTENCES for place, _ in message.locations)}
    assert {one for one in sentences - recorder.asked if one[1] not in metrics} == set()
    assert recorder.asked - set(known) == set()


SENTENCES = {
    *(f"comparison/{name}.py" for name in ("benchmark", "findings", "sentences", "caveat_sentences")),
    *(f"comparison/{name}.py" for name in ("description_sentences", "text")),
    "serving/service.py",
}
"""Modules whose every message is in the golden file; those of the page are in the golden page."""


def _forms(message: Message) -> tuple[str, ...]:
    """The singular, and the plural where a message has one."""
    return (message.id,) if isinstance(message.id, str) else tuple(message.id)


@pytest.fixture(scope="module")
def russian() -> Catalog:
    """The Russian catalogue as its translators see it."""
    with (wording.FOLDER / "ru" / "LC_MESSAGES" / "levelground.po").open("rb") as file:
        return read_po(file, locale="ru")


def test_russian_has_every_message_in_every_form(russian: Catalog) -> None:
    """Each message of the template is translated, none is uncertain, and plurals have all three forms."""
    with (wording.FOLDER / "levelground.pot").open("rb") as file:
        template = read_po(file)
    assert russian.num_plurals == 3
    for message in template:
        if message.id:
            own = russian.get(message.id, message.context)
            assert own is not None, message.id
            forms = (own.string,) if isinstance(own.string, str) else own.string
            assert len(forms) == (1 if isinstance(message.id, str) else 3), message.id
            assert all(form.strip() or message.id == " " for form in forms), message.id
            assert not own.fuzzy, message.id


def test_russian_fills_in_what_english_fills_in(russian: Catalog) -> None:
    """Every form has the placeholders of its English one, the tags of its markup, and no other per cent sign."""
    for message in russian:
        if not message.id:
            continue
        english = _forms(message)[-1]
        forms = (message.string,) if isinstance(message.string, str) else message.string
        singular = set(_placeholders(_forms(message)[0]))
        for number, form in enumerate(forms):
            allowed = [set(_placeholders(english)), *([singular] if number == 0 else [])]
            assert set(_placeholders(form)) in allowed, form
            assert re.findall(r"</?\w+", form) == re.findall(r"</?\w+", english), form
            if "%%" in english or "%(" in english:
                assert not re.search(r"%(?![%(])", form.replace("%%", "")), form


def _placeholders(text: str) -> list[str]:
    return re.findall(r"%\(\w+\)s|\{\w+\}", text)


def test_russian_says_numbers_with_the_right_noun() -> None:
    """The forms are those of 1, 2 and 5, also for 11 and 21; thousands and decimals have Russian marks."""
    with wording.language("ru"):
        scenes = [wording.ngettext("%(n)s scene", "%(n)s scenes", n) for n in (1, 2, 5, 11, 21, 112, 1234)]
        assert score(0.474) == "0,474"
        assert [recorded(text) for text in RECORDED[:5]] == ["48 шагов", "1 шаг", "3 эпохи", "2,5 эпохи", "2 минуты"]
    assert scenes == ["1 сцена", "2 сцены", "5 сцен", "11 сцен", "21 сцена", "112 сцен", "1\u202f234 сцены"]


NAMES = re.compile(
    r"unet|fpn|pspnet|pan|twin|theirs|others|scene\d|north|south|east|coast|other\d|[abc]\b|s\d|metric\d|folds"
    r"|recipe\.\w+|DiskError: disk full|was lost 3 times|official(?:\.miou)?|boundary\.miou|kept|all|grouped"
    r"|groups\.csv|[FmI]*IoU|F1|p\b|field\d|Rangeland|Water|Barren land|rangeland|water|unknown|agriculture land"
    r"|splits|--groups km|m\b|last\b|budget\b"
)
"""Names, units and codes of the examples, which Russian keeps."""


def test_russian_sentences_hold_no_english() -> None:
    """Every example is said in Russian; only names, units and codes have Latin letters."""
    with wording.language("ru"):
        texts = [text.partition("\n")[2] for text in every_message()]
    left = {text: re.findall(r"[A-Za-z]+", NAMES.sub("", re.sub(r"\{\w+\}", "", text))) for text in texts}
    assert {text: words for text, words in left.items() if words} == {}


@pytest.fixture(scope="module")
def sentences() -> dict[str, str]:
    """The sentences of errors in the code, each with its Russian one; empty where there is none."""
    with (wording.FOLDER / "ru" / "LC_MESSAGES" / "errors.po").open("rb") as file:
        known = {message.id: message.string for message in read_po(file, locale="ru")}
    script = runpy.run_path(str(Path(__file__).parent.parent / "docs" / "messages.py"), run_name="messages")
    return {message.id: known.get(message.id, "") for message in script["errors"]() if message.id}


def test_nearly_every_error_has_a_russian_sentence(sentences: dict[str, str]) -> None:
    """A new or changed one is English for a while; of all, nineteen in twenty are translated, with their names."""
    assert len(sentences) > 700
    assert sum(map(bool, sentences.values())) > 0.95 * len(sentences)
    for english, russian in sentences.items():
        assert {*_placeholders(russian)} <= {*_placeholders(english)}, english
        assert not re.search(r"%(?![%(])", russian.replace("%%", "")), russian
        if re.search(r"[a-z]{3}", re.sub(r"--[\w-]+|%\(\w+\)s|(Run )?levelground.*", "", english)):
            assert not russian or re.search(r"[а-я]", russian), russian


def test_errors_are_shown_in_russian(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The finished English line becomes the Russian one, what it quotes of ours too; English stays as it was."""
    text = "scenes/a.png: is empty (0 bytes). Copy the file again."
    assert wording.translated(text) == text
    with wording.language("ru"):
        assert wording.translated(text) == "scenes/a.png: пуст (0 байт). Скопируйте файл ещё раз."
        again = wording.translated(
            "a.json: unreadable run record (not a JSON object). Restore it from a copy, or make the run anew."
        )
        assert again == (
            "a.json: запись (run) не удалось прочитать (не объект JSON). "
            "Восстановите её из копии или создайте запуск заново."
        )
        assert wording.translated("Something that no sentence says.") == "Something that no sentence says."
        assert wording.translated("no window is over 50 % here") == "no window is over 50 % here"
    for lang, words in (
        ("ru", "в ней нет ни run.json, ни runs/. Дайте папку запуска или исследования."),
        ("en", "no run.json and no runs/ in it. Give a run folder or a study folder."),
    ):
        assert main(["compare", str(tmp_path), "--lang", lang]) == 2
        assert capsys.readouterr().err == f"RecordError: {tmp_path}: {words}\n"


LANGUAGE = """
msgid ""
msgstr ""
"Content-Type: text/plain; charset=utf-8\\n"
"Plural-Forms: nplurals=3; plural=(n%10==1 && n%100!=11 ? 0 : n%10>=2 && n%10<=4 && (n%100<12 || n%100>14) ? 1 : 2);\\n"

msgctxt "decimal mark"
msgid "."
msgstr ","

msgctxt "on"
msgid "%(n)s group"
msgid_plural "%(n)s groups"
msgstr[0] "%(n)s группе"
msgstr[1] "%(n)s группах"
msgstr[2] "%(n)s группах (много)"

msgid "The difference to %(name)s is %(difference)s (95 %% interval %(interval)s, %(p)s)."
msgstr "Разница с %(name)s: %(difference)s (интервал 95 %%: %(interval)s; %(p)s)."
"""


@pytest.fixture
def other_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A language with a few messages, compiled as ``docs/messages.py`` compiles them."""
    folder = tmp_path / "ru" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    (folder / "levelground.po").write_text(LANGUAGE, encoding="utf-8")
    with (folder / "levelground.po").open("rb") as source, (folder / "levelground.mo").open("wb") as target:
        write_mo(target, read_po(source, locale="ru"))
    monkeypatch.setattr(wording, "FOLDER", tmp_path)
    return "ru"


def test_a_language_changes_sentences_plural_forms_and_marks(other_language: str) -> None:
    """What is translated is said so; the rest stays English; after the block all is English."""
    english = write(LEADER)
    assert wording.languages() == ("en", other_language)
    with wording.language(other_language):
        text = write(LEADER)
        assert (score(0.474), per_cent(0.0064)) == ("0,474", "0,6 %")
    assert "Разница с fpn s0: 0,004 (интервал 95 %: −0,006 to +0,014; Holm-adjusted p = 0,220)." in text
    assert "on 30 группах (много) of test scenes" in text
    assert write(LEADER) == english


def test_a_language_without_messages_is_refused() -> None:
    """The known ones are named."""
    with (
        pytest.raises(ConfigError, match=r"^language 'xx': there are no messages in it\. Expected one of en"),
        wording.language("xx"),
    ):
        pass


def test_every_p_value_after_holm_says_so() -> None:
    """A p of a pair that was tested with others is never called p alone."""
    for text in every_sentence():
        if not text.startswith("twins"):
            assert not re.search(r"(?<!adjusted )\bp [=<]", text)


SPOKEN = ("say", "say_counted", "say_table", "progress_bar", "track", "part_of")
"""What prints a line, a table or a bar for people."""


COUNTED = re.compile(
    r"%\((\w+)\)s (?:(?:small|test|training|data|more) )?(?:scenes|blocks|runs|groups|files|polygons|pictures"
    r"|points|predictions|outputs|bands|models|jobs|steps|strips|classes|folds|seeds|trials|sets|pixels|workers|threads|values|images|masks)\b(?!/)"
)
SEVERAL = {
    "groups": "of which there are more than three, or a part", "regions": "two or more",
    "seeds": "two or more", "folds": "two or more", "sets": "two or more", "needed": "three or more",
    "rate": "images a second", "shown": "a part of several", "all": "of more than are shown",
    "blocks": "three or more", "scenes": "of a data set: at least three",
    "others": "names", "a": "names", "names": "names",
    "dtype": "a type of values", "value": "a type of values", "metric": "its name", "percent": "a share",
    "split": "which scenes", "engine": "its name", "engine2": "its name",
}  # fmt: skip
"""Names of numbers that are never one, and of values that are no numbers, in messages without a plural form."""


def test_numbers_that_may_be_one_have_a_plural_form(russian: Catalog) -> None:
    """No line says "1 scenes": beside a noun stands a number of several, or the message has forms."""
    several = {"benchmark.py": {"n"}, "report.html.j2": {"n"}, "data_source.py": {"n"}}
    for message in russian:
        if not message.id or not isinstance(message.id, str):
            continue
        place = Path(message.locations[0][0]).name if message.locations else ""
        names = set(COUNTED.findall(message.id)) - SEVERAL.keys() - several.get(place, set())
        assert not names, message.id


def test_lines_for_people_are_messages() -> None:
    """What is said is a message with values, or a text made of messages: no sentence is put together in place."""
    found = []
    for path in sorted(Path(wording.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SPOKEN:
                texts = [
                    part for one in node.args for part in ([one, *one.elts] if isinstance(one, ast.Tuple) else [one])
                ]
                bare = [one for one in texts if _holds_words(one, plain=node.func.id not in ("say", "say_counted"))]
                found += [f"{path.name}:{node.lineno}: {ast.unparse(one)}" for one in bare]
    assert found == []


def _holds_words(node: ast.expr, *, plain: bool) -> bool:
    """Tell whether an expression is an f-string with words in it, or, where that matters, a string of words."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node] if plain else []
    return any(isinstance(one, ast.Constant) and re.search(r"[A-Za-z]{2}", str(one.value)) for one in parts)

"""The English of every finding and of every pair, in one golden file; and that a language can change all of it."""

import gettext as catalogues
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from builders.benchmarks import benchmark_sentences
from builders.facts import CAVEATS, DESCRIPTIONS, HEADLINES, LEADER, PAIRS

from levelground import wording
from levelground.comparison.facts import Fact
from levelground.comparison.sentences import WRITERS, write, write_pair
from levelground.comparison.text import per_cent, score
from levelground.errors import ConfigError
from levelground.metrics.named import METRICS
from levelground.serving.page_words import page_words

GOLD = Path(__file__).parent / "gold" / "messages.en.txt"


def every_sentence() -> Iterator[str]:
    """Each example with its code and severity, pairs first."""
    for pair in PAIRS:
        yield f"pair: {pair.verdict}\n{write_pair(pair)}\n"
    for fact in (*HEADLINES, *CAVEATS, *DESCRIPTIONS):
        yield f"{fact.code}: {fact.severity}\n{write(fact)}\n"
    yield from benchmark_sentences()


def every_message() -> Iterator[str]:
    """The sentences, and the labels of the server's page."""
    yield from every_sentence()
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
    written = {
        (message.context, text)
        for message in template
        for text in ([message.id] if isinstance(message.id, str) else message.id)
        if text and text not in metrics
    }
    assert written - recorder.asked == set()
    assert {one for one in recorder.asked if one[1] not in metrics} - written == set()


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

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from core.routing.ask import Message
from core.terms import Sampling
from webchat.answers import Answers, How, Question
from webchat.fake import ANSWER, FakeReader
from webchat.history import Entry, History
from webchat.refusals import Refusal


class FakePage:
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.shows: str | None = None
        self.heard: list[tuple[str, Mapping[str, Any]]] = []

    def hear(self, kind: str, fields: Mapping[str, object]) -> None:
        self.heard.append((kind, fields))

    def all(self, kind: str) -> list[Mapping[str, Any]]:
        return [fields for heard, fields in self.heard if heard == kind]


def wait(until: Callable[[], object], seconds: float = 10) -> None:
    ends = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < ends
        time.sleep(0.005)


@pytest.fixture
def kept() -> Iterator[History]:
    history = History(None)
    yield history
    history.close()


@pytest.fixture
def answers(reader: FakeReader, kept: History) -> Iterator[Answers]:
    made = Answers(reader, kept, linger=0.2)
    yield made
    for conversation in kept.conversations():
        made.stop(conversation.id)


@pytest.fixture
def page(answers: Answers) -> FakePage:
    made = FakePage()
    answers.join(made)
    answers.show(made, None)
    return made


def ask(answers: Answers, page: FakePage, text: str, **more: Any) -> str:
    """Returns the conversation; the answer may still run."""
    answers.ask(page, Question(more.pop("conversation", None), more.pop("parent", None), text, **more), How())
    assert page.shows is not None
    return page.shows


def ended(page: FakePage, count: int = 1) -> Mapping[str, Any]:
    wait(lambda: len(page.all("ended")) >= count)
    return page.all("ended")[count - 1]


def texts(entries: list[Entry]) -> list[str]:
    return [one.text for one in entries]


def test_an_answer_is_kept_and_told(answers: Answers, page: FakePage, kept: History) -> None:
    """Question first, then the answer as it grows, then its numbers; and the list has changed."""
    conversation = ask(answers, page, "What is a flower?", system="Be kind.")
    end = ended(page)
    (said,) = page.all("said")
    assert [one["role"] for one in said["messages"]] == ["user", "assistant"]
    assert "".join(one["text"] for one in page.all("piece")) == ANSWER
    assert (end["state"], end["finish"], end["tokens"], end["html"]) == (
        "done",
        "stop",
        36,
        f"<p>{ANSWER}</p>",
    )
    (found,) = kept.conversations()
    assert texts(kept.path(found.leaf or "")) == ["What is a flower?", ANSWER]
    assert found.id == conversation and page.all("conversations")


def test_what_is_told_as_ended_is_already_kept(
    answers: Answers, page: FakePage, kept: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill at any time after loses nothing."""
    seen: list[str] = []
    monkeypatch.setattr(
        page,
        "hear",
        lambda kind, fields: kind == "ended" and seen.append(kept.entry(fields["message"]).text),  # type: ignore[union-attr]
    )
    ask(answers, page, "hi")
    wait(lambda: seen)
    assert seen == [ANSWER]


def test_the_model_is_told_the_branch(answers: Answers, page: FakePage, reader: FakeReader) -> None:
    """System prompt, whole turns up to the question's parent, the question; failed turns are left out."""
    conversation = ask(answers, page, "one", system="Be kind.")
    first = ended(page)["message"]
    ask(answers, page, "/lost", conversation=conversation, parent=first)
    lost = ended(page, 2)
    assert lost["state"] == "failed" and "was lost" in lost["error"]["title"]
    ask(answers, page, "two", conversation=conversation, parent=lost["message"])
    ended(page, 3)
    told = [Message("system", "Be kind."), Message("user", "one"), Message("assistant", ANSWER)]
    assert reader.asks[2].prompt == (*told, Message("user", "two"))
    assert reader.asks[2].forgets
    assert {one.conversation for one in reader.asks} == {f"page:{conversation}"}


def test_another_answer_is_a_branch(
    answers: Answers, page: FakePage, kept: History, reader: FakeReader
) -> None:
    """Beside the first, under the same question, with its own sampling."""
    conversation = ask(answers, page, "one")
    ended(page)
    question, first = kept.entries(conversation)
    answers.again(conversation, question.id, How(Sampling(temperature=1.0, seed=5)))
    ended(page, 2)
    second = kept.entries(conversation)[-1]
    assert second.parent == first.parent == question.id
    assert (first.facts["seed"], second.facts["seed"]) == (None, 5)
    assert reader.asks[1].prompt == reader.asks[0].prompt
    assert kept.conversation(conversation).leaf == second.id  # type: ignore[union-attr]
    answers.choose(conversation, first.id, None)
    assert kept.conversation(conversation).leaf == first.id  # type: ignore[union-attr]


def test_a_page_that_returns_in_time_finds_its_answer_going_on(kept: History, reader: FakeReader) -> None:
    """It is shown all that was said meanwhile, and hears the rest."""
    answers, page, again = Answers(reader, kept, linger=60), FakePage(), FakePage()
    reader.pause = 0.02
    answers.join(page)
    conversation = ask(answers, page, "one")
    wait(lambda: len(page.all("piece")) > 2)
    answers.leave(page)
    answers.join(again)
    answers.show(again, conversation)
    (shown,) = again.all("shown")
    said = shown["messages"][1]
    assert said["state"] == "running" and ANSWER.startswith(said["text"])
    assert ended(again)["state"] == "done"
    assert said["text"] + "".join(one["text"] for one in again.all("piece")) == ANSWER


def test_when_the_last_page_stays_away_the_answer_stops_and_is_kept(
    answers: Answers, page: FakePage, reader: FakeReader, kept: History
) -> None:
    """After a while nobody computes for nobody; a second page that is open keeps it going."""
    reader.pause = 0.05
    other = FakePage()
    answers.join(other)
    conversation = ask(answers, page, "one")
    wait(lambda: len(page.all("piece")) > 1)
    answers.leave(page)
    assert not reader.cancelled.wait(0.5)
    answers.leave(other)
    assert reader.cancelled.wait(5)
    wait(lambda: kept.entries(conversation)[1].state == "stopped")
    said = kept.entries(conversation)[1].text
    assert 0 < len(said) < len(ANSWER) and ANSWER.startswith(said)


def test_stop_returns_when_the_answer_is_kept(
    answers: Answers, page: FakePage, reader: FakeReader, kept: History
) -> None:
    """Even before its first word."""
    reader.late = 60
    conversation = ask(answers, page, "one")
    answers.stop(conversation)
    assert (kept.entries(conversation)[1].text, kept.entries(conversation)[1].state) == ("", "stopped")
    assert ended(page)["finish"] == "cancelled"


def test_a_growing_answer_is_written_down_now_and_then(
    answers: Answers, page: FakePage, reader: FakeReader, kept: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a kill loses no more than moments of it."""
    monkeypatch.setattr("webchat.answers.KEEP_SECONDS", 0.0)
    reader.pause = 0.05
    conversation = ask(answers, page, "one")
    wait(lambda: kept.entries(conversation)[1].text)
    assert kept.entries(conversation)[1].state == "running"


def test_two_conversations_are_answered_side_by_side(
    answers: Answers, page: FakePage, reader: FakeReader
) -> None:
    """Each page hears of the one that it shows."""
    reader.pause = 0.01
    other = FakePage()
    answers.join(other)
    first = ask(answers, page, "one")
    second = ask(answers, other, "two")
    assert ended(page)["conversation"] == first and ended(other)["conversation"] == second
    assert {fields["conversation"] for kind, fields in page.heard if fields} == {first}


def test_deleting_stops_and_frees(
    answers: Answers, page: FakePage, reader: FakeReader, kept: History
) -> None:
    """The donors forget it, the page is told, nothing is left."""
    reader.late = 60
    conversation = ask(answers, page, "one")
    answers.forget(conversation)
    assert reader.cancelled.is_set() and reader.forgotten == [f"page:{conversation}"]
    assert kept.conversations() == [] and kept.entries(conversation) == []
    assert page.all("deleted")
    answers.show(page, conversation)
    assert len(page.all("deleted")) == 2


def test_where_the_memory_starts_is_told(answers: Answers, page: FakePage, reader: FakeReader) -> None:
    """By the first message that the model still knows."""
    conversation = ask(answers, page, "one")
    first = ended(page)["message"]
    reader.forgotten_messages = 2
    ask(answers, page, "two", conversation=conversation, parent=first)
    assert ended(page, 2)["memory_start"] == page.all("said")[1]["messages"][0]["id"]


def test_questions_to_what_is_not_there_are_refused(
    answers: Answers, page: FakePage, kept: History, reader: FakeReader
) -> None:
    """Unknown conversations, parents of another one, answers to answers."""
    conversation = ask(answers, page, "one")
    ended(page)
    other = kept.add(kept.begin("x", "").id, None, "assistant", "y")
    question, answer = kept.entries(conversation)
    for asked in (
        Question("gone", None, "a"),
        Question(conversation, other.id, "a"),
        Question(conversation, question.id, "a"),
    ):
        with pytest.raises(Refusal):
            answers.ask(page, asked, How())
    with pytest.raises(Refusal):
        answers.again(conversation, answer.id, How())
    with pytest.raises(Refusal):
        answers.choose(conversation, other.id, None)
    assert len(reader.asks) == 1


def test_many_ask_at_once_in_one_conversation(answers: Answers, page: FakePage, kept: History) -> None:
    """One answer at a time; each that gave way is kept as stopped, and none is left running."""
    conversation = ask(answers, page, "one")
    parent = ended(page)["message"]
    question = Question(conversation, parent, "more")
    threads = [threading.Thread(target=answers.ask, args=(page, question, How())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait(lambda: all(one.state != "running" for one in kept.entries(conversation)))
    assert len(kept.entries(conversation)) == 2 + 6 * 2


def test_who_comes_while_an_answer_waits_is_told_for_what(
    answers: Answers, page: FakePage, reader: FakeReader
) -> None:
    """A page that is reloaded sees what the one before saw; when the answer goes on it is over."""
    reader.waits_after, reader.waits_seconds = 3, 0.3
    conversation = ask(answers, page, "one")
    wait(lambda: page.all("waiting"))
    later = FakePage()
    answers.join(later)
    answers.show(later, conversation)
    lacks = [{"start": 4, "end": 7}]
    assert page.all("waiting")[0]["missing"] == later.all("shown")[0]["messages"][1]["waiting"] == lacks
    ended(page)
    answers.show(later, conversation)
    assert not later.all("shown")[1]["messages"][1].get("waiting")


def test_an_answer_is_kept_when_the_program_ends(
    answers: Answers, page: FakePage, kept: History, reader: FakeReader
) -> None:
    """As far as it has come."""
    reader.pause = 0.05
    conversation = ask(answers, page, "one")
    wait(lambda: len(page.all("piece")) >= 3)
    answers.close()
    said = kept.entries(conversation)[1]
    assert said.state == "stopped" and said.text == "".join(one["text"] for one in page.all("piece"))

"""Answers in words over a ring in memory, with the bundled model."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from core.errors import NoDonor, PromptError, TooLong, UserError
from core.model.text import Text
from core.paths import bundled_model
from core.routing.ask import Ask, Ended, Event, Ids, Message, Moved, Piece, Started, Waiting
from core.routing.curious import leading_over, least_known, unknown
from core.routing.generate import Generator
from core.routing.seen import BELIEVED
from core.terms import Finish, Sampling, Span
from tests.core.rings import FakeRing, fake_ring, reference


@pytest.fixture
async def ring() -> AsyncIterator[FakeRing]:
    async with fake_ring(bundled_model(), [(0, 4), (4, 7), (7, 10)]) as made:
        yield made


@pytest.fixture
async def generator(ring: FakeRing) -> AsyncIterator[Generator]:
    made = Generator(ring.client, ring.config, Text(bundled_model()))
    yield made
    await made.leave()


async def told(generator: Generator, ask: Ask) -> tuple[Started, str, Ended]:
    """One answer: how it began, its text piece by piece, how it ended."""
    events: list[Event] = [event async for event in generator.generate(ask)]
    started, ended = events[0], events[-1]
    assert isinstance(started, Started)
    assert isinstance(ended, Ended)
    return started, "".join(event.text for event in events if isinstance(event, Piece)), ended


def question(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


async def test_a_question_is_answered_in_pieces(generator: Generator) -> None:
    """The pieces make the text, the text is what the tokens say, and the stop id ends it."""
    started, text, ended = await told(generator, Ask(question("What is Idlebloom?")))
    assert len(started.route.stages) == 3
    assert ended.finish is Finish.STOP
    assert text == ended.text == generator.text.decode(ended.token_ids)
    assert ended.tokens_per_second > 0


async def test_the_tokens_are_those_of_transformers(generator: Generator) -> None:
    """The model's own chat template included."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bundled_model())
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is Idlebloom?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    out = reference(bundled_model()).generate(**prompt, max_new_tokens=200, do_sample=False)
    _, _, ended = await told(generator, Ask(question("What is Idlebloom?"), max_tokens=200))
    assert list(ended.token_ids) == out[0, prompt["input_ids"].shape[1] :].tolist()


async def test_a_next_turn_sends_only_what_is_new(generator: Generator) -> None:
    """The conversation's session holds the rest."""
    first, text, _ = await told(generator, Ask(question("Hello"), conversation="c"))
    assert first.reused_tokens == 0
    turns = (*question("Hello"), Message("assistant", text), Message("user", "What is Idlebloom?"))
    second, _, _ = await told(generator, Ask(turns, conversation="c"))
    assert second.reused_tokens >= first.prompt_tokens
    generator.forget("c")
    third, _, _ = await told(generator, Ask(turns, conversation="c"))
    assert third.reused_tokens == 0


async def test_a_stop_text_ends_the_answer_before_it(generator: Generator) -> None:
    """And nothing of it is shown."""
    _, whole, _ = await told(generator, Ask(question("What is Idlebloom?")))
    word = whole.split()[5]
    _, text, ended = await told(generator, Ask(question("What is Idlebloom?"), stop=(word,)))
    assert text == whole[: whole.index(word)]
    assert ended.finish is Finish.STOP


async def test_max_tokens_ends_the_answer_by_length(generator: Generator) -> None:
    """Exactly so many, and one is enough."""
    for count in (1, 5):
        _, _, ended = await told(generator, Ask(question("What is Idlebloom?"), max_tokens=count))
        assert (ended.finish, len(ended.token_ids)) == (Finish.LENGTH, count)


async def test_a_prompt_may_be_tokens(generator: Generator) -> None:
    """The same answer as to their text."""
    ids = Ids(tuple(generator.text.encode("The moon")))
    one, other = [(await told(generator, Ask(prompt, 12)))[1] for prompt in ("The moon", ids)]
    assert one == other


async def test_the_same_seed_gives_the_same_text(generator: Generator) -> None:
    """Another seed another one."""
    asks = [Ask("The moon", 30, Sampling(temperature=1.5, seed=seed)) for seed in (1, 1, 2)]
    one, again, other = [(await told(generator, ask))[1] for ask in asks]
    assert one == again != other


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (Ask(""), PromptError),
        (Ask(question("  ")), PromptError),
        (Ask("moon " * 10_000), TooLong),
        (Ask("moon", max_tokens=0), PromptError),
        (Ask(Ids(())), PromptError),
        (Ask(Ids((1, -1))), PromptError),
        (Ask(Ids((1, 1 << 20))), PromptError),
        (Ask("moon", max_tokens=5000), TooLong),
        (Ask("moon", sampling=Sampling(temperature=-1)), UserError),
        (Ask("moon", sampling=Sampling(top_p=float("nan"))), UserError),
    ],
    ids=["empty", "blank", "long", "none", "no ids", "below", "beyond", "many", "cold", "nan"],
)
async def test_what_cannot_be_asked_is_refused_in_words(
    generator: Generator, ask: Ask, error: type[Exception]
) -> None:
    """Before anything is sent, and the next question is answered."""
    with pytest.raises(error):
        await told(generator, ask)
    assert (await told(generator, Ask("moon", 2)))[2].finish is Finish.LENGTH


async def test_layers_without_a_donor_are_named(ring: FakeRing, generator: Generator) -> None:
    """In numbers that the swarm's map shows too."""
    await ring.donors[1].stop()
    with pytest.raises(NoDonor, match="layers 4 to 6 have no donor"):
        await told(generator, Ask("moon", 2, patience=0.3))


async def test_an_answer_that_waits_for_its_first_route_says_so(ring: FakeRing, generator: Generator) -> None:
    """Before it has started; it is whole when the layers have a donor again."""
    _, whole, _ = await told(generator, Ask("The moon", 8))
    await ring.donors[1].stop()
    events: list[Event] = []
    async for event in generator.generate(Ask("The moon", 8)):
        events.append(event)
        if isinstance(event, Waiting):
            await ring.add(Span(4, 7))
    assert isinstance(events[0], Waiting)
    assert events[0].missing == (Span(4, 7),)
    assert "".join(event.text for event in events if isinstance(event, Piece)) == whole


async def test_closing_the_events_stops_the_ring_and_frees_the_caches(
    ring: FakeRing, generator: Generator
) -> None:
    """Nothing is computed for nobody."""
    async with aclosing(generator.generate(Ask("moon", 1500))) as events:  # type: ignore[type-var]
        async for event in events:
            if isinstance(event, Piece):
                break
    await asyncio.sleep(0.1)
    drawn = ring.donors[2].engine.tokens
    await asyncio.sleep(0.1)
    assert ring.donors[2].engine.tokens == drawn
    assert all(donor.pool.free_tokens == donor.pool.capacity for donor in ring.donors)


async def test_an_answer_that_moves_says_so(ring: FakeRing, generator: Generator) -> None:
    """With the new route and how long it took; the text is whole."""
    _, whole, _ = await told(generator, Ask(question("Tell me a story")))
    await ring.add(Span(4, 7))
    moved, text = [], ""
    async for event in generator.generate(Ask(question("Tell me a story"))):
        if isinstance(event, Started):
            gone = event.route.stages[1].peer_id
        if isinstance(event, Piece):
            text += event.text
            if len(text) < 30:
                await next(d for d in ring.donors if d.peer.peer_id == gone).stop()
        if isinstance(event, Moved):
            moved.append(event)
    assert text == whole
    assert moved[0].route.stages[1].peer_id != gone
    assert moved[0].seconds > 0


async def test_a_trial_reads_over_those_it_is_given(
    ring: FakeRing, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A donor may go if the swarm answers without it; no cache is left behind."""
    monkeypatch.setattr("core.routing.generate.TRIAL_SECONDS", 8.0)  # of which it waits for two
    spare = await ring.add(Span(4, 7))
    records = await generator.records(fresh=True)
    without = [one for one in records if one.span != Span(4, 7) or one.peer_id == spare.peer.peer_id]
    assert len(without) < len(records)
    answered = await generator.read_over(without)
    assert spare.peer.peer_id in answered and answered <= {one.peer_id for one in without}
    assert generator.experience.seen.met_at(spare.peer.peer_id) > 0
    assert not await generator.read_over([one for one in records if one.span != Span(4, 7)])
    await asyncio.sleep(0.2)
    assert all(donor.pool.free_tokens == donor.pool.capacity for donor in ring.donors)


async def test_trials_find_out_who_serves_nothing(
    ring: FakeRing, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others can do without it, so no answer ever meets it; trials do, and it is believed no more. Whoever
    serves stays believed."""
    monkeypatch.setattr("core.routing.generate.TRIAL_SECONDS", 8.0)  # of which it waits for two
    spare, chance = await ring.add(Span(4, 7)), random.Random(1)
    liar = ring.swarm.peer()
    records = await generator.records(fresh=True)
    real = next(one for one in records if one.peer_id == spare.peer.peer_id)
    told = replace(real, peer_id=liar.peer_id, addresses=())
    await liar.directory.announce(told)
    records, seen = await generator.records(fresh=True), generator.experience.seen
    assert liar.peer_id in {one.peer_id for one in records}
    for _ in range(12):
        one = least_known(records, seen, (), chance)
        assert one is not None
        await generator.read_over(leading_over(one, records, chance))
        if not unknown(records, seen, ()):
            break
    assert [one.peer_id for one in records if seen.trust(one.peer_id) < BELIEVED] == [liar.peer_id]
    assert all(seen.met_at(one.peer_id) > 0 for one in records)


async def test_streams_to_standbys_are_kept_open(ring: FakeRing, generator: Generator) -> None:
    """The stage before knows who would replace the next one."""
    spare = await ring.add(Span(4, 7))
    await generator.records(fresh=True)
    async for event in generator.generate(Ask(question("Tell me a story"), conversation="c")):
        if isinstance(event, Started):
            serving = event.route.stages[1].peer_id
    await asyncio.sleep(0.1)
    other = ring.donors[1] if serving == spare.peer.peer_id else spare
    [held] = ring.donors[0].sessions.table
    assert {link.remote for link in held.standby} == {other.peer.peer_id}


async def test_a_conversation_beyond_the_models_length_forgets_its_oldest_turns(generator: Generator) -> None:
    """Whole turns go, the system's words and the question stay, and the answer says how many; an API's
    request, which must not lose anything unseen, is refused."""
    turn = (Message("user", "moon " * 60), Message("assistant", "flower " * 60))
    talk = (Message("system", "Be kind."), *turn * 30, Message("user", "What is Idlebloom?"))
    started, _, ended = await told(generator, Ask(talk, max_tokens=8, forgets=True))
    assert started.forgotten > 0 and started.forgotten % 2 == 0
    assert started.prompt_tokens <= generator.config.max_length - 8
    kept = Ask((talk[0], *talk[1 + started.forgotten :]), max_tokens=8)
    again, _, same = await told(generator, kept)
    assert (again.forgotten, same.token_ids) == (0, ended.token_ids)
    with pytest.raises(TooLong):
        await told(generator, Ask(talk, max_tokens=8))


async def test_a_system_prompt_is_computed_once_for_all_conversations(
    ring: FakeRing, generator: Generator
) -> None:
    """The donors copy what another conversation of this client has run; texts are those without that."""
    system = Message("system", "Be kind. " + "The moon is a computer. " * 8)
    asks = [(system, Message("user", words)) for words in ("What is Idlebloom?", "Tell me a story")]
    alone = [(await told(generator, Ask(prompt)))[1] for prompt in asks]
    first, text, _ = await told(generator, Ask(asks[0], conversation="one"))
    before = [donor.engine.rows for donor in ring.donors]
    second, other, ended = await told(generator, Ask(asks[1], conversation="two"))
    assert [text, other] == alone
    assert (first.reused_tokens, second.route.stages) == (0, first.route.stages)
    assert second.reused_tokens > 30
    run = [donor.engine.rows - rows for donor, rows in zip(ring.donors, before, strict=True)]
    most = second.prompt_tokens - second.reused_tokens + 2 * len(ended.token_ids) + 8
    assert all(rows <= most for rows in run)


async def test_api_requests_at_the_same_time_share_what_they_begin_with(
    ring: FakeRing, generator: Generator
) -> None:
    """Of no conversation, and freed when they end; texts are those without that."""
    system = Message("system", "Be kind. " + "The moon is a computer. " * 8)
    asks = [Ask((system, Message("user", words))) for words in ("What is Idlebloom?", "Tell me a story")]
    alone = [(await told(generator, ask))[1] for ask in asks]
    text, other = "", None
    async for event in generator.generate(asks[0]):
        if isinstance(event, Piece):
            text += event.text
            other = other or await told(generator, asks[1])
    assert other is not None
    assert [text, other[1]] == alone
    assert other[0].reused_tokens > 30
    await asyncio.sleep(0.1)
    assert not any(len(donor.sessions) for donor in ring.donors)


async def test_what_was_taken_over_survives_a_lost_donor(ring: FakeRing, generator: Generator) -> None:
    """The copied log fills the replacement."""
    system = Message("system", "Be kind. " + "The moon is a computer. " * 8)
    prompt = (system, Message("user", "Tell me a story"))
    _, whole, _ = await told(generator, Ask(prompt))
    await told(generator, Ask((system, Message("user", "Hello")), conversation="one"))
    await ring.add(Span(4, 7))
    text = ""
    async for event in generator.generate(Ask(prompt, conversation="two")):
        if isinstance(event, Started):
            assert event.reused_tokens > 30
            gone = event.route.stages[1].peer_id
        if isinstance(event, Piece):
            text += event.text
            if len(text) < 30:
                await next(d for d in ring.donors if d.peer.peer_id == gone).stop()
    assert text == whole

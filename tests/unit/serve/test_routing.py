"""Routing tables: laws of applying changes, and of keeping them on disk."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptory.core.auth import Caller, Role
from adaptory.core.errors import FailedPrecondition, NotFound
from adaptory.core.names import BotName, TenantName, VersionName
from serve_svc.registry.convert import dump_table, parse_update
from serve_svc.registry.snapshot import SnapshotFile
from serve_svc.routing import (
    NOTHING_KNOWN,
    BaseIdentity,
    BotKind,
    Delta,
    GenerationDefaults,
    Lane,
    RoutedBot,
    RoutedTenant,
    RoutedVersion,
    Router,
    RoutingTable,
)
from serve_svc.usage.quota import Quota
from serve_svc.version import AdapterVersion

BASE = BaseIdentity("tiny", "b" * 64, "c" * 64)
ACME = Caller(Role.TENANT, "acme")

tenants = st.builds(
    RoutedTenant,
    name=st.sampled_from(["acme", "globex"]).map(TenantName),
    key_digests=st.frozensets(st.text("0123456789abcdef", min_size=64, max_size=64), max_size=2),
    max_requests_in_flight=st.integers(1, 100),
    weight=st.integers(1, 1_000),
    quota=st.builds(Quota, tokens_per_day=st.integers(0, 2**40)),
)
bot_names = st.builds(BotName, st.sampled_from(["acme", "globex"]), st.sampled_from(["faq", "help"]))
version_names = st.builds(
    VersionName, st.sampled_from(["acme", "globex"]), st.sampled_from(["faq", "help"]), st.integers(1, 3)
)
bots = st.builds(
    RoutedBot,
    name=bot_names,
    kind=st.sampled_from(BotKind),
    base_model=st.just("tiny"),
    system_prompt=st.text(max_size=10),
    defaults=st.builds(
        GenerationDefaults,
        max_output_tokens=st.integers(1, 512),
        temperature=st.floats(0, 2, width=32),
        top_p=st.floats(0.125, 1, width=32),
    ),
    production=st.none() | version_names,
    previous=st.none() | version_names,
    canary=st.none() | version_names,
    canary_percent=st.integers(0, 100),
    shadow=st.none() | version_names,
    shadow_percent=st.integers(0, 100),
    answer_schema=st.text(max_size=10),
)


def version_of(name: VersionName, *, base_digest: str = BASE.digest) -> RoutedVersion:
    """Return a version whose numbers follow from its name."""
    adapter = AdapterVersion(
        name=str(name),
        tenant=name.tenant,
        bot=name.bot,
        number=name.number,
        engine_id=name.number,
        digest="d" * 64,
        rank=8,
        base_digest=base_digest,
        size_bytes=100,
    )
    return RoutedVersion(name, adapter, "Be kind.", BASE.template_digest)


versions = version_names.map(version_of)
deltas = st.builds(
    Delta,
    generation=st.integers(0, 20),
    tenants=st.lists(tenants, max_size=2).map(tuple),
    bots=st.lists(bots, max_size=3).map(tuple),
    versions=st.lists(versions, max_size=3).map(tuple),
    removed=st.frozensets(st.one_of(bot_names, version_names).map(str), max_size=3),
)


def table_of(changes: list[Delta]) -> RoutingTable:
    """Return the table after all changes."""
    table = NOTHING_KNOWN
    for change in changes:
        table = table.apply(change)
    return table


@given(st.lists(deltas, max_size=8))
def test_a_table_never_goes_back(changes: list[Delta]) -> None:
    """Only a newer generation changes a table; whatever else comes, it is the same table."""
    table = NOTHING_KNOWN
    for change in changes:
        after = table.apply(change)
        assert after.generation == max(table.generation, change.generation)
        assert after.generation > table.generation or after is table
        table = after


@given(st.lists(deltas, max_size=8))
def test_a_table_survives_the_wire(changes: list[Delta]) -> None:
    """What is written as a snapshot is read as an equal table."""
    table = table_of(changes)

    assert parse_update(dump_table(table)) == table


@given(deltas)
def test_a_change_is_all_there_afterwards(change: Delta) -> None:
    """Every changed item is in the table, the last of a name, and no removed name is unless it changed too."""
    table = table_of([change])

    assert table.bots == {str(bot.name): bot for bot in change.bots}
    assert not change.removed & (table.versions.keys() - {str(version.name) for version in change.versions})


def router_with(
    production: VersionName | None,
    previous: VersionName | None = None,
    canary: VersionName | None = None,
    canary_percent: int = 0,
    **version: str,
) -> Router:
    """Return a router that knows one bot of acme, and versions 1 and 2 of it."""
    defaults = GenerationDefaults(max_output_tokens=16, temperature=0, top_p=1)
    routes = (production, previous, canary, canary_percent)
    bot = RoutedBot(BotName("acme", "faq"), BotKind.FAQ, "tiny", "Be kind.", defaults, *routes)
    names = [VersionName("acme", "faq", number) for number in (1, 2)]
    router = Router(BASE)
    router.table = NOTHING_KNOWN.apply(
        Delta(
            generation=1,
            tenants=(RoutedTenant(TenantName("acme"), frozenset(), 32),),
            bots=(bot,),
            versions=tuple(version_of(name, **version) for name in names),
        )
    )
    return router


def test_a_bot_is_answered_by_production_with_the_former_version_behind_it() -> None:
    """The route of a bot has its production version, and the previous one to stand in."""
    first, second = VersionName("acme", "faq", 1), VersionName("acme", "faq", 2)

    route = router_with(second, first).route(BotName("acme", "faq"), ACME)

    assert route.name == second
    assert route.former is not None
    assert route.former.name == first


def test_a_canary_answers_its_share_of_conversations_and_production_stands_in_for_it() -> None:
    """Each conversation is answered by one of the two; of a thousand, about as many as were asked for by the canary."""
    first, second = VersionName("acme", "faq", 1), VersionName("acme", "faq", 2)
    router = router_with(first, canary=second, canary_percent=30)
    routes = [router.route(BotName("acme", "faq"), ACME, f"conversation {number}") for number in range(1000)]
    to_canary = [route for route in routes if route.lane is Lane.CANARY]

    assert 250 < len(to_canary) < 350
    assert {route.name for route in to_canary} == {second}
    assert {route.former.name for route in to_canary if route.former} == {first}
    assert {route.name for route in routes if route.lane is Lane.PRODUCTION} == {first}


@given(key=st.text(max_size=40), percents=st.tuples(st.integers(0, 100), st.integers(0, 100)).map(sorted))
def test_a_conversation_stays_with_a_canary_whose_share_grows(key: str, percents: list[int]) -> None:
    """No one is sent back and forth while a canary is widened; nobody goes to one of 0 %, and everybody to one of 100 %."""
    first, second = VersionName("acme", "faq", 1), VersionName("acme", "faq", 2)
    fewer, more = (
        router_with(first, canary=second, canary_percent=percent).route(BotName("acme", "faq"), ACME, key).lane
        for percent in percents
    )

    assert fewer is Lane.PRODUCTION or more is Lane.CANARY
    assert more is Lane.PRODUCTION or percents[1] > 0
    assert fewer is Lane.CANARY or percents[0] < 100


def test_a_canary_this_server_cannot_serve_answers_nobody() -> None:
    """Such as one it has not heard of."""
    first, unknown = VersionName("acme", "faq", 1), VersionName("acme", "faq", 9)
    route = router_with(first, canary=unknown, canary_percent=100).route(BotName("acme", "faq"), ACME, "any")

    assert (route.name, route.lane) == (first, Lane.PRODUCTION)


def test_a_version_asked_for_by_name_has_no_stand_in() -> None:
    """Who names a version wants that version or an error."""
    first, second = VersionName("acme", "faq", 1), VersionName("acme", "faq", 2)

    route = router_with(second, first).route(second, ACME)

    assert (route.name, route.former) == (second, None)


def test_version_zero_has_the_bots_own_system_turn_and_no_adapter() -> None:
    """The bare base is asked with the turn that versions are trained with."""
    route = router_with(None).route(VersionName("acme", "faq", 0), ACME)

    assert (route.adapter, route.system_prompt) == (None, "Be kind.")


@pytest.mark.parametrize(
    "name",
    [BotName("globex", "faq"), BotName("acme", "none"), VersionName("acme", "faq", 9), VersionName("acme", "none", 0)],
    ids=str,
)
def test_what_is_absent_or_foreign_is_not_found(name: BotName | VersionName) -> None:
    """Nothing tells the two apart."""
    with pytest.raises(NotFound, match="does not exist, or is not the caller's"):
        router_with(None).route(name, ACME)


def test_a_version_of_another_base_names_both_digests() -> None:
    """The error says what the version was made for and what is served."""
    router = router_with(VersionName("acme", "faq", 1), base_digest="f" * 64)

    with pytest.raises(FailedPrecondition) as caught:
        router.route(BotName("acme", "faq"), ACME)

    assert (caught.value.metadata["wanted"], caught.value.metadata["served"]) == ("f" * 64, "b" * 64)


@given(changes=st.lists(deltas, max_size=4), place=st.floats(0, 1, exclude_max=True))
def test_any_flipped_bit_makes_a_snapshot_absent(
    changes: list[Delta], place: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A snapshot is loaded as it was saved, or not at all."""
    path = tmp_path_factory.mktemp("state") / "routing.snapshot"
    table = table_of(changes)
    file = SnapshotFile(path)
    file.save(table)
    assert file.load() == table

    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)

    assert file.load() is NOTHING_KNOWN


def test_a_snapshot_is_for_its_owner_alone(tmp_path: Path) -> None:
    """System prompts are the tenants' own, so nobody else on the machine reads them."""
    file = SnapshotFile(tmp_path / "routing.snapshot")
    file.save(table_of([]))

    assert stat.S_IMODE((tmp_path / "routing.snapshot").stat().st_mode) == 0o600

"""The states of an adapter and the ways between them."""

import itertools

import pytest

from serve_svc.adapters.life import AdapterLife, AdapterState, IllegalStepError, Step

# Every way there is; what is not here cannot happen.
WAYS = {
    "ABSENT": "FETCH>DOWNLOADED QUARANTINE>QUARANTINED RETIRE>DRAINING",
    "DOWNLOADED": "FETCH>DOWNLOADED VERIFY>VERIFIED DISCARD>ABSENT QUARANTINE>QUARANTINED RETIRE>DRAINING",
    "VERIFIED": "FETCH>VERIFIED LOAD>LOADED DISCARD>ABSENT QUARANTINE>QUARANTINED RETIRE>DRAINING",
    "LOADED": "UNLOAD>VERIFIED LOSE>VERIFIED QUARANTINE>QUARANTINED RETIRE>DRAINING",
    "DRAINING": "LOAD>DRAINING UNLOAD>DRAINING LOSE>DRAINING DISCARD>DRAINING FORGET>ABSENT",
    "QUARANTINED": "LOAD>QUARANTINED UNLOAD>QUARANTINED LOSE>QUARANTINED DISCARD>QUARANTINED QUARANTINE>QUARANTINED "
    "RELEASE>ABSENT RETIRE>DRAINING",
}
PATHS = {
    AdapterState.ABSENT: (),
    AdapterState.DOWNLOADED: (Step.FETCH,),
    AdapterState.VERIFIED: (Step.FETCH, Step.VERIFY),
    AdapterState.LOADED: (Step.FETCH, Step.VERIFY, Step.LOAD),
    AdapterState.DRAINING: (Step.RETIRE,),
    AdapterState.QUARANTINED: (Step.QUARANTINE,),
}


def life_in(state: AdapterState) -> AdapterLife:
    """Return a life that has come to the state."""
    life = AdapterLife()
    for step in PATHS[state]:
        life.take(step)
    return life


@pytest.mark.parametrize(("state", "step"), list(itertools.product(AdapterState, Step)))
def test_there_are_these_ways_and_no_others(state: AdapterState, step: Step) -> None:
    """Each step leads from each state where the table says, and where it says nothing the step is refused and changes nothing."""
    ways = dict(way.split(">") for way in WAYS[state.value].split())
    life = life_in(state)

    if step.name in ways:
        life.take(step)
        assert life.state == ways[step.name]
    else:
        with pytest.raises(IllegalStepError, match=f"{step.name} cannot happen to an adapter that is {state}"):
            life.take(step)
        assert life.state is state


@pytest.mark.parametrize(
    ("state", "step"),
    [
        (AdapterState.LOADED, Step.UNLOAD),
        (AdapterState.VERIFIED, Step.DISCARD),
        (AdapterState.DRAINING, Step.FORGET),
        (AdapterState.QUARANTINED, Step.RELEASE),
    ],
)
def test_what_would_take_it_from_its_users_is_refused(state: AdapterState, step: Step) -> None:
    """While a lease is held the adapter stays where it is needed, unless the engine dies; afterwards it may go."""
    life = life_in(AdapterState.LOADED if _refuses(state) else state)
    with life.lease():
        if _refuses(state):
            life.take(PATHS[state][0])
        with pytest.raises(IllegalStepError, match="with 1 leases"):
            life.take(step)

    life.take(step)
    assert life.num_leases == 0


@pytest.mark.parametrize("state", AdapterState)
def test_leases_are_taken_where_the_adapter_may_answer(state: AdapterState) -> None:
    """One that drains or is in quarantine takes none."""
    life = life_in(state)

    if _refuses(state):
        with pytest.raises(IllegalStepError, match="takes no lease"), life.lease():
            pytest.fail("it was leased")
    else:
        with life.lease():
            assert life.num_leases == 1


def _refuses(state: AdapterState) -> bool:
    return state in {AdapterState.DRAINING, AdapterState.QUARANTINED}

"""The states of a job."""

import itertools

import pytest

from trainer_svc.jobs.job import IllegalStep, JobState, JobStep, advance


def steps_from(state: JobState) -> dict[JobStep, JobState]:
    """Return each step a state allows, with where it leads."""
    found = {}
    for step in JobStep:
        try:
            found[step] = advance(state, step)
        except IllegalStep:
            continue
    return found


@pytest.mark.parametrize("state", [state for state in JobState if state.is_final])
def test_a_final_state_is_left_by_no_step(state: JobState) -> None:
    """SUCCEEDED, FAILED and CANCELLED are for ever."""
    assert steps_from(state) == {}


@pytest.mark.parametrize("state", [state for state in JobState if not state.is_final])
def test_every_other_state_can_be_cancelled(state: JobState) -> None:
    """A caller may always ask a job to stop."""
    assert steps_from(state)[JobStep.CANCEL] in {JobState.CANCELLING, JobState.CANCELLED}


def test_a_cancelling_job_only_becomes_cancelled() -> None:
    """Whatever a worker still does, a job that is to be cancelled never succeeds, fails or runs again."""
    assert set(steps_from(JobState.CANCELLING).values()) == {JobState.CANCELLING, JobState.CANCELLED}


def test_success_is_reached_by_publishing_alone() -> None:
    """No other step ends in SUCCEEDED."""
    ways = {
        (state, step)
        for state, step in itertools.product(JobState, JobStep)
        if steps_from(state).get(step) is JobState.SUCCEEDED
    }

    assert ways == {(JobState.PUBLISHING, JobStep.PUBLISH)}

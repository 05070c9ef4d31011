"""Training jobs: plan, create, watch to the end, cancel."""

import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing

from adaptory.client.connection import LONG_DEADLINE_S, Connection
from adaptory.client.errors import RpcFailed, is_interruption
from adaptory.client.pages import walk_pages
from adaptory.client.patience import Patience
from adaptory.client.readiness import wait_until_serving
from adaptory.trainer.v1 import trainer_service_pb2 as pb
from adaptory.trainer.v1.trainer_service_pb2_grpc import TrainerServiceStub
from adaptory.trainer.v1.training_job_pb2 import MemoryPlan, TrainingEvent, TrainingJob

FINAL_STATES = frozenset({TrainingJob.STATE_SUCCEEDED, TrainingJob.STATE_FAILED, TrainingJob.STATE_CANCELLED})


class Jobs:
    """The methods of TrainerService. Every method raises RpcFailed."""

    def __init__(self, connection: Connection, patience: Patience) -> None:
        """Call over `connection`, to trainer_svc; `patience` says how long an interrupted watch is taken up again."""
        self._connection = connection
        self._trainer = TrainerServiceStub(connection.channel)  # type: ignore[no-untyped-call]  # generated
        self._patience = patience

    async def plan(self, job: TrainingJob) -> MemoryPlan:
        """Return how `job` would keep its memory limit; nothing is created. Raises RpcFailed (DOES_NOT_FIT) with what would do."""
        request = pb.PlanTrainingJobRequest(parent=tenant_of(job.bot), training_job=job)
        return await self._connection.call(self._trainer.PlanTrainingJob, request, deadline_s=LONG_DEADLINE_S)

    async def create(self, job: TrainingJob, *, request_id: str = "") -> TrainingJob:
        """Start training; `job` needs `bot` and `dataset`. The same `request_id` sent twice starts one job."""
        request = pb.CreateTrainingJobRequest(
            parent=tenant_of(job.bot), training_job=job, request_id=request_id or str(uuid.uuid4())
        )
        return await self._connection.call(self._trainer.CreateTrainingJob, request, deadline_s=LONG_DEADLINE_S)

    async def get(self, name: str) -> TrainingJob:
        """Return `tenants/{tenant}/trainingJobs/{id}`."""
        return await self._connection.call(self._trainer.GetTrainingJob, pb.GetTrainingJobRequest(name=name))

    async def list_all(self, tenant: str) -> AsyncIterator[TrainingJob]:
        """Yield the jobs of `tenants/{tenant}`, newest first."""

        async def fetch(token: str) -> pb.ListTrainingJobsResponse:
            request = pb.ListTrainingJobsRequest(parent=tenant, page_token=token)
            return await self._connection.call(self._trainer.ListTrainingJobs, request)

        async for job in walk_pages(fetch, lambda page: page.training_jobs):
            yield job

    async def watch(self, name: str, *, after_sequence: int = 0) -> AsyncIterator[TrainingEvent]:
        """Yield every event after `after_sequence` once and in order, up to that of a final state, across lost connections."""
        num_failures = 0
        while True:
            request = pb.WatchTrainingJobRequest(name=name, after_sequence=after_sequence)
            stream = self._connection.stream(self._trainer.WatchTrainingJob, request, deadline_s=None)
            try:
                async with aclosing(stream) as events:
                    async for event in events:
                        num_failures, after_sequence = 0, event.sequence
                        yield event
                        if event.state in FINAL_STATES:
                            return
            except RpcFailed as failure:
                if not is_interruption(failure) or num_failures >= self._patience.max_failures:
                    raise
            # A stream that ends early without an error is a service that shuts down: the same patience holds.
            num_failures += 1
            await self._patience.wait_after(num_failures)

    async def cancel(self, name: str) -> TrainingJob:
        """Ask a job to stop; it becomes CANCELLED."""
        return await self._connection.call(self._trainer.CancelTrainingJob, pb.CancelTrainingJobRequest(name=name))

    async def wait_until_ready(self, *, deadline_s: float) -> None:
        """Return when trainer_svc serves."""
        await wait_until_serving(self._connection, "adaptory.trainer.v1.TrainerService", deadline_s=deadline_s)


def tenant_of(name: str) -> str:
    """Return the `tenants/{tenant}` that a resource name begins with."""
    return "/".join(name.split("/")[:2])

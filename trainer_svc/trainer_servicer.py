"""The TrainerService of the contract: each method reads its request, asks the planner or the store, and writes the answer."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc

from adaptory.core.errors import InvalidRequest, NotServed
from adaptory.core.names import TenantName, TrainingJobName
from adaptory.trainer.v1 import trainer_service_pb2, trainer_service_pb2_grpc, training_job_pb2
from trainer_svc.edge import read_name, read_request_key
from trainer_svc.job_convert import write_draft, write_event, write_job, write_plans
from trainer_svc.job_requests import read_order
from trainer_svc.jobs.events import JobEvents
from trainer_svc.jobs.planning import JobPlanner
from trainer_svc.jobs.store import JobStore
from trainer_svc.registry.pages import PageRequest

Context = grpc.aio.ServicerContext[Any, Any]


class TrainerServicer(trainer_service_pb2_grpc.TrainerServiceServicer):
    """Answers the trainer's calls."""

    def __init__(self, planner: JobPlanner, store: JobStore, events: JobEvents, *, max_rank: int) -> None:
        """`max_rank` is the highest rank that a job may ask for."""
        self._planner = planner
        self._store = store
        self._events = events
        self._max_rank = max_rank

    async def PlanTrainingJob(
        self, request: trainer_service_pb2.PlanTrainingJobRequest, _context: Context
    ) -> training_job_pb2.MemoryPlan:
        """Answer how a job would keep its limit."""
        parent = read_name(TenantName, request.parent, field="parent")
        order = read_order(request.training_job, parent=parent, max_rank=self._max_rank)
        return write_plans(await self._planner.rank(order))

    async def CreateTrainingJob(
        self, request: trainer_service_pb2.CreateTrainingJobRequest, _context: Context
    ) -> training_job_pb2.TrainingJob:
        """Accept a job, or say what it would be."""
        parent = read_name(TenantName, request.parent, field="parent")
        key = read_request_key(request, tenant=parent, request_id=request.request_id)
        # Before planning: the job may have changed what the same plan would find, and a retry is to be cheap.
        if made := await self._store.find_created(key):
            return write_job(made)
        draft = await self._planner.draft(read_order(request.training_job, parent=parent, max_rank=self._max_rank))
        if request.validate_only:
            return write_draft(draft)
        return write_job(await self._store.create(draft, key))

    async def GetTrainingJob(
        self, request: trainer_service_pb2.GetTrainingJobRequest, _context: Context
    ) -> training_job_pb2.TrainingJob:
        """Return a job."""
        return write_job(await self._store.get(read_name(TrainingJobName, request.name)))

    async def ListTrainingJobs(
        self, request: trainer_service_pb2.ListTrainingJobsRequest, _context: Context
    ) -> trainer_service_pb2.ListTrainingJobsResponse:
        """List a tenant's jobs."""
        tenant = read_name(TenantName, request.parent, field="parent")
        page = await self._store.list(
            tenant, PageRequest.parse(request.page_size, request.page_token, scope=f"{tenant}/trainingJobs")
        )
        return trainer_service_pb2.ListTrainingJobsResponse(
            training_jobs=[write_job(job) for job in page.items], next_page_token=page.next_token
        )

    async def WatchTrainingJob(
        self, request: trainer_service_pb2.WatchTrainingJobRequest, _context: Context
    ) -> AsyncGenerator[training_job_pb2.TrainingEvent, None]:
        """Stream a job's events."""
        job = await self._store.get(read_name(TrainingJobName, request.name))
        if request.after_sequence < 0:
            sentence = f"is {request.after_sequence}; it must be 0 or more"
            raise InvalidRequest.of_field("after_sequence", sentence, after_sequence=request.after_sequence)
        async with aclosing(self._events.follow(job.name, after=request.after_sequence)) as events:
            async for event in events:
                yield write_event(event, job.draft.plan)

    async def CancelTrainingJob(
        self, request: trainer_service_pb2.CancelTrainingJobRequest, _context: Context
    ) -> training_job_pb2.TrainingJob:
        """Ask a job to stop."""
        return write_job(await self._store.cancel(read_name(TrainingJobName, request.name)))

    async def PauseTrainingJob(
        self, _request: trainer_service_pb2.PauseTrainingJobRequest, _context: Context
    ) -> training_job_pb2.TrainingJob:
        """Refuse: not served yet."""
        raise NotServed("Jobs cannot be paused yet; cancel the job, and submit it again later.")

    async def ResumeTrainingJob(
        self, _request: trainer_service_pb2.ResumeTrainingJobRequest, _context: Context
    ) -> training_job_pb2.TrainingJob:
        """Refuse: not served yet."""
        raise NotServed("Jobs cannot be paused and resumed yet; submit the job again.")

# ruff: noqa: D102 - the methods are the contract's own
"""Both services, small and scripted: real gRPC servers behind the product's own interceptor, no training, no engine."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from prometheus_client import CollectorRegistry

from adaptory.core.auth import FixedKeyring, Role, digest_key
from adaptory.core.errors import DoesNotFit, FailedPrecondition, NotFound, Unavailable
from adaptory.core.rpc import Interceptor
from adaptory.core.telemetry import GrpcMetrics
from adaptory.registry.v1 import registry_service_pb2 as registry_pb
from adaptory.registry.v1 import registry_service_pb2_grpc as registry_grpc
from adaptory.registry.v1 import usage_service_pb2 as usage_pb
from adaptory.registry.v1 import usage_service_pb2_grpc as usage_grpc
from adaptory.registry.v1.bot_pb2 import Bot, Routes
from adaptory.registry.v1.dataset_pb2 import Dataset, DatasetProblem, DatasetReport, LengthBucket
from adaptory.registry.v1.tenant_pb2 import ApiKey, Tenant
from adaptory.registry.v1.version_pb2 import (
    CertaintyFloor,
    Evaluation,
    GateOverride,
    ImportedAdapter,
    Lineage,
    SampleAnswer,
    Score,
    Version,
)
from adaptory.serve.v1 import serve_admin_service_pb2 as admin_pb
from adaptory.serve.v1 import serve_admin_service_pb2_grpc as admin_grpc
from adaptory.serve.v1 import serve_service_pb2 as serve_pb
from adaptory.serve.v1 import serve_service_pb2_grpc as serve_grpc
from adaptory.serve.v1.generation_pb2 import Finish, GeneratedToken
from adaptory.trainer.v1 import trainer_service_pb2 as trainer_pb
from adaptory.trainer.v1 import trainer_service_pb2_grpc as trainer_grpc
from adaptory.trainer.v1.training_job_pb2 import MemoryPlan, TrainingEvent, TrainingJob, TrainingProgress

KEY = "adk_test"
# Runs a command with these arguments and returns its exit code.
Run = Callable[..., int]
SMALLEST_LIMIT_BYTES = 500 * 2**20
PAGE_ITEMS = 2
PLANNED_PHASES = {"load": 600 * 2**20, "step": 600 * 2**20, "evaluate": 600 * 2**20, "save": 400 * 2**20}
MEASURED_PHASES = {"load": 300 * 2**20, "step": 560 * 2**20}


@dataclass
class Script:
    """What goes wrong, and how the bot answers. Each list is used up from its front."""

    drop_chunks: list[int] = field(default_factory=list)
    """Numbers of AppendDatasetChunk calls whose bytes are taken and whose answer is lost."""
    refuse_chunks_after: int | None = None
    """After how many AppendDatasetChunk calls no more are taken."""
    drop_watch_after: list[int] = field(default_factory=list)
    """After how many events each watch is cut."""
    num_steps: int = 4
    held_out_losses: dict[int, float] = field(default_factory=dict)
    """Losses on held-out rows, by the step after which they are measured."""
    best_step: int = 0
    token_logprob: float = -0.25
    job_ends: "TrainingJob.State" = TrainingJob.STATE_SUCCEEDED
    answer: str = "You have 45 days."
    finishes: bool = True
    rejection: str = ""
    """What the gate says of the version a job makes."""


class ScriptedRegistry(registry_grpc.RegistryServiceServicer):
    """Keeps what is created."""

    def __init__(self, script: Script) -> None:
        """Begin empty."""
        self.script = script
        self.tenants: dict[str, Tenant] = {}
        self.bots: dict[str, Bot] = {}
        self.versions: dict[str, Version] = {}
        self.datasets: dict[str, Dataset] = {}
        self.data: dict[str, bytes] = {}
        self.requests: dict[str, str] = {}
        self.offsets: list[int] = []
        self.imports: list[registry_pb.ImportAdapterRequest] = []

    async def CreateTenant(self, request: registry_pb.CreateTenantRequest, context: Any) -> Tenant:
        tenant = Tenant(name=f"tenants/{request.tenant_id}", display_name=request.tenant.display_name)
        return self.tenants.setdefault(tenant.name, tenant)

    async def ListTenants(
        self, request: registry_pb.ListTenantsRequest, context: Any
    ) -> registry_pb.ListTenantsResponse:
        names = sorted(self.tenants)
        begin = int(request.page_token or 0)
        end = begin + PAGE_ITEMS
        page = [self.tenants[name] for name in names[begin:end]]
        return registry_pb.ListTenantsResponse(tenants=page, next_page_token=str(end) if end < len(names) else "")

    async def GetTenant(self, request: registry_pb.GetTenantRequest, context: Any) -> Tenant:
        return self.tenants[request.name]

    async def UpdateTenant(self, request: registry_pb.UpdateTenantRequest, context: Any) -> Tenant:
        request.update_mask.MergeMessage(request.tenant, self.tenants[request.tenant.name])
        return self.tenants[request.tenant.name]

    async def CreateApiKey(self, request: registry_pb.CreateApiKeyRequest, context: Any) -> ApiKey:
        return ApiKey(name=f"{request.parent}/apiKeys/k1", secret="adk_secret")

    async def CreateDataset(self, request: registry_pb.CreateDatasetRequest, context: Any) -> Dataset:
        if known := self.requests.get(request.request_id):
            return self.datasets[known]
        dataset = Dataset(name=f"{request.parent}/datasets/d{len(self.datasets) + 1}", state=Dataset.STATE_UPLOADING)
        dataset.kind, dataset.format = request.dataset.kind, request.dataset.format
        self.requests[request.request_id] = dataset.name
        self.data[dataset.name] = b""
        self.datasets[dataset.name] = dataset
        return dataset

    async def AppendDatasetChunk(self, request: registry_pb.AppendDatasetChunkRequest, context: Any) -> Dataset:
        dataset = self.datasets[request.name]
        if self.script.refuse_chunks_after is not None and len(self.offsets) >= self.script.refuse_chunks_after:
            raise Unavailable("The disk is away.")
        self.offsets.append(request.offset)
        if request.offset != dataset.size_bytes:
            message = f"The next chunk begins at {dataset.size_bytes}, not at {request.offset}."
            raise FailedPrecondition(message, reason="OFFSET_MISMATCH", metadata={"offset": dataset.size_bytes})
        self.data[request.name] += request.data
        dataset.size_bytes = len(self.data[request.name])
        if len(self.offsets) in self.script.drop_chunks:
            raise Unavailable("The line broke.")
        return dataset

    async def FinalizeDataset(self, request: registry_pb.FinalizeDatasetRequest, context: Any) -> Dataset:
        dataset, data = self.datasets[request.name], self.data[request.name]
        dataset.digest = hashlib.sha256(data).hexdigest()
        assert dataset.digest == request.digest
        if b"{" in data:
            dataset.state = Dataset.STATE_READY
            dataset.report.CopyFrom(_report(data, request.base_model))
        else:
            dataset.state = Dataset.STATE_REJECTED
            problem = DatasetProblem(
                line=1,
                reason="INVALID_JSON",
                description="is not a JSON object",
                severity=DatasetProblem.SEVERITY_ERROR,
            )
            dataset.report.CopyFrom(DatasetReport(problems=[problem], num_problems=1))
        return dataset

    async def GetDataset(self, request: registry_pb.GetDatasetRequest, context: Any) -> Dataset:
        return self.datasets[request.name]

    async def ListDatasets(
        self, request: registry_pb.ListDatasetsRequest, context: Any
    ) -> registry_pb.ListDatasetsResponse:
        return registry_pb.ListDatasetsResponse(datasets=self.datasets.values())

    async def CreateBot(self, request: registry_pb.CreateBotRequest, context: Any) -> Bot:
        bot = Bot()
        bot.CopyFrom(request.bot)
        bot.name = f"{request.parent}/bots/{request.bot_id}"
        return self.bots.setdefault(bot.name, bot)

    async def GetBot(self, request: registry_pb.GetBotRequest, context: Any) -> Bot:
        if request.name not in self.bots:
            raise NotFound(f"{request.name} does not exist, or is not the caller's.", metadata={"name": request.name})
        return self.bots[request.name]

    async def ListBots(self, request: registry_pb.ListBotsRequest, context: Any) -> registry_pb.ListBotsResponse:
        return registry_pb.ListBotsResponse(bots=self.bots.values())

    async def SetAnswerSchema(self, request: registry_pb.SetAnswerSchemaRequest, context: Any) -> Bot:
        bot = self.bots[request.name]
        bot.answer_schema = request.answer_schema
        return bot

    async def GetVersion(self, request: registry_pb.GetVersionRequest, context: Any) -> Version:
        return self.versions[request.name]

    async def ListVersions(
        self, request: registry_pb.ListVersionsRequest, context: Any
    ) -> registry_pb.ListVersionsResponse:
        return registry_pb.ListVersionsResponse(versions=self.versions.values())

    async def ImportAdapter(self, request: registry_pb.ImportAdapterRequest, context: Any) -> Version:
        """Make a version of what was uploaded, READY where there are rows to judge it by: no job is played."""
        self.imports.append(request)
        upload = self.datasets[request.dataset]
        version = Version(rank=8, size_bytes=1 << 20, state=Version.STATE_UNJUDGED, rejection="It was not judged.")
        imported = ImportedAdapter(dataset=upload.name, origin=request.origin, changes=["Filled in peft_type, LORA."])
        version.lineage.imported.CopyFrom(imported)
        if not request.validate_only:
            version.name = f"{request.parent}/versions/{len(self.versions) + 1}"
            self.versions[version.name] = version
        return version

    async def PromoteVersion(self, request: registry_pb.PromoteVersionRequest, context: Any) -> Bot:
        bot = self.bots[request.name.rpartition("/versions/")[0]]
        version = self.versions.setdefault(request.name, Version(name=request.name, state=Version.STATE_READY))
        if version.state == Version.STATE_REJECTED and not request.override_gate_reason:
            raise FailedPrecondition(f"{version.name} is REJECTED.", reason="VERSION_NOT_READY")
        if version.state == Version.STATE_REJECTED:
            version.state = Version.STATE_READY
            version.gate_override.CopyFrom(GateOverride(reason=request.override_gate_reason, caller="tenants/aurora"))
        bot.routes.CopyFrom(Routes(production=request.name, previous=bot.routes.production))
        return bot

    async def SetCanary(self, request: registry_pb.SetCanaryRequest, context: Any) -> Bot:
        bot = self.bots[request.name.rpartition("/versions/")[0]]
        bot.routes.canary = request.name if request.percent else ""
        bot.routes.canary_percent = request.percent
        return bot

    async def SetShadow(self, request: registry_pb.SetShadowRequest, context: Any) -> Bot:
        bot = self.bots[request.name.rpartition("/versions/")[0]]
        bot.routes.shadow = request.name if request.percent else ""
        bot.routes.shadow_percent = request.percent
        return bot

    async def RollbackBot(self, request: registry_pb.RollbackBotRequest, context: Any) -> Bot:
        bot = self.bots[request.name]
        if not bot.routes.previous:
            raise FailedPrecondition(f"{bot.name} has no version before this one.", reason="NO_PREVIOUS_VERSION")
        bot.routes.CopyFrom(Routes(production=bot.routes.previous))
        return bot


class ScriptedLedger(usage_grpc.UsageServiceServicer):
    """Lists `usage`, page by page, as far as it is asked for."""

    def __init__(self) -> None:
        """Begin with nothing used."""
        self.usage: list[usage_pb.Usage] = []
        self.asked: list[usage_pb.ListUsageRequest] = []

    async def ListUsage(self, request: usage_pb.ListUsageRequest, context: Any) -> usage_pb.ListUsageResponse:
        self.asked.append(request)
        begin = int(request.page_token or 0)
        end = begin + PAGE_ITEMS
        token = str(end) if end < len(self.usage) else ""
        return usage_pb.ListUsageResponse(usage=self.usage[begin:end], next_page_token=token)


class ScriptedTrainer(trainer_grpc.TrainerServiceServicer):
    """Plays a job's events as the script says."""

    def __init__(self, script: Script, registry: ScriptedRegistry) -> None:
        """Publish versions to `registry`."""
        self.script = script
        self.registry = registry
        self.jobs: dict[str, TrainingJob] = {}
        self.watched_after: list[int] = []

    async def PlanTrainingJob(self, request: trainer_pb.PlanTrainingJobRequest, context: Any) -> MemoryPlan:
        limit_bytes = request.training_job.memory_limit_bytes
        if 0 < limit_bytes < SMALLEST_LIMIT_BYTES:
            raise DoesNotFit(
                f"No plan fits {limit_bytes} bytes; the smallest limit is {SMALLEST_LIMIT_BYTES}.",
                metadata={"limit_bytes": limit_bytes, "smallest_limit_bytes": SMALLEST_LIMIT_BYTES},
            )
        return MemoryPlan(
            predicted_peak_bytes=600 * 2**20,
            limit_bytes=limit_bytes,
            base_precision="nf4",
            micro_batch_rows=8,
            accumulation=1,
            phases=PLANNED_PHASES,
        )

    async def CreateTrainingJob(self, request: trainer_pb.CreateTrainingJobRequest, context: Any) -> TrainingJob:
        job = TrainingJob()
        job.CopyFrom(request.training_job)
        job.name = f"{request.parent}/trainingJobs/j{len(self.jobs) + 1}"
        job.state = TrainingJob.STATE_PENDING
        job.plan.CopyFrom(await self.PlanTrainingJob(trainer_pb.PlanTrainingJobRequest(training_job=job), context))
        self.jobs[job.name] = job
        return job

    async def GetTrainingJob(self, request: trainer_pb.GetTrainingJobRequest, context: Any) -> TrainingJob:
        return self.jobs[request.name]

    async def WatchTrainingJob(
        self, request: trainer_pb.WatchTrainingJobRequest, context: Any
    ) -> AsyncIterator[TrainingEvent]:
        self.watched_after.append(request.after_sequence)
        cut = self.script.drop_watch_after.pop(0) if self.script.drop_watch_after else None
        events = self._play(self.jobs[request.name])[request.after_sequence :]
        for event in events[:cut]:
            yield event
        if cut is not None:
            raise Unavailable("The trainer restarts.")

    def _play(self, job: TrainingJob) -> list[TrainingEvent]:
        events = [TrainingEvent(state=TrainingJob.STATE_RUNNING)]
        for step in range(1, self.script.num_steps + 1):
            progress = TrainingProgress(
                phase="step",
                step=step,
                num_steps=self.script.num_steps,
                loss=2.0 / step,
                tokens_per_second=400,
                eta_seconds=self.script.num_steps - step,
                peak_bytes=550 * 2**20,
            )
            events.append(TrainingEvent(progress=progress))
            if step in self.script.held_out_losses:
                measured = TrainingProgress(held_out_loss=self.script.held_out_losses[step])
                measured.MergeFrom(progress)
                events.append(TrainingEvent(progress=measured))
        events.append(TrainingEvent(state=self.script.job_ends))
        for sequence, event in enumerate(events, start=1):
            event.sequence = sequence
        self._end(job)
        return events

    def _end(self, job: TrainingJob) -> None:
        job.state, job.measured_peak_bytes = self.script.job_ends, 560 * 2**20
        job.measured_phase_bytes.update(MEASURED_PHASES)
        if job.state == TrainingJob.STATE_FAILED:
            job.error.code, job.error.message = 8, "The job took 1,200 MiB of 1,024 MiB. Give it 1,300 MiB."
            return
        job.version = f"{job.bot}/versions/1"
        self.registry.versions[job.version] = Version(
            name=job.version,
            state=Version.STATE_REJECTED if self.script.rejection else Version.STATE_READY,
            rejection=self.script.rejection,
            digest="ab" * 32,
            rank=16,
            evaluation=Evaluation(
                base_loss=3.0,
                adapter_loss=0.2,
                num_held_out_rows=14,
                train_tokens_per_second=400,
                base_general_loss=3.8,
                adapter_general_loss=4.1,
                scores=[
                    Score(name="fact_recall", base=0, adapter=0.93, num_answers=14),
                    Score(name="false_refusals", base=0, adapter=0.05, num_answers=14, is_lower_better=True),
                ],
                samples=[SampleAnswer(question="How long?", reference="45 days.", base="Who?", adapter="45 days!")],
                certainty=[
                    CertaintyFloor(floor=0, num_right=13, num_wrong=4),
                    CertaintyFloor(floor=0.8, num_right=13, num_wrong=1),
                ],
            ),
            lineage=Lineage(
                training_job=job.name,
                predicted_peak_bytes=600 * 2**20,
                predicted_phase_bytes=PLANNED_PHASES,
                phase_peak_bytes=MEASURED_PHASES,
                best_step=self.script.best_step,
                num_steps=self.script.num_steps,
            ),
        )


class ScriptedServe(serve_grpc.ServeServiceServicer):
    """Answers everything with the script's sentence, word by word."""

    def __init__(self, script: Script) -> None:
        """Keep the conversations that were sent."""
        self.script = script
        self.asked: list[serve_pb.ChatRequest] = []
        self.completed: list[serve_pb.CompleteRequest] = []
        self.routes = [""]

    async def ListBots(self, request: serve_pb.ListBotsRequest, context: Any) -> serve_pb.ListBotsResponse:
        """Tell the next of `routes` as the version that answers; the last one from then on."""
        version = self.routes.pop(0) if len(self.routes) > 1 else self.routes[0]
        return serve_pb.ListBotsResponse(bots=[serve_pb.ServedBot(name="tenants/aurora/bots/faq", version=version)])

    async def Chat(self, request: serve_pb.ChatRequest, context: Any) -> AsyncIterator[serve_pb.ChatResponse]:
        self.asked.append(request)
        for word in self.script.answer.split(" "):
            tells = request.options.HasField("num_logprobs")
            tokens = [GeneratedToken(text=word + " ", logprob=self.script.token_logprob)] if tells else []
            yield serve_pb.ChatResponse(text=word + " ", tokens=tokens)
        if self.script.finishes:
            yield serve_pb.ChatResponse(finish=self._finish(request))

    async def ChatUnary(self, request: serve_pb.ChatRequest, context: Any) -> serve_pb.ChatUnaryResponse:
        self.asked.append(request)
        return serve_pb.ChatUnaryResponse(text=self.script.answer, finish=self._finish(request))

    async def Complete(
        self, request: serve_pb.CompleteRequest, context: Any
    ) -> AsyncIterator[serve_pb.CompleteResponse]:
        self.completed.append(request)
        for word in self.script.answer.split(" "):
            yield serve_pb.CompleteResponse(text=word + " ")
        if self.script.finishes:
            yield serve_pb.CompleteResponse(finish=self._finish(request), context=self._context())

    async def CompleteUnary(self, request: serve_pb.CompleteRequest, context: Any) -> serve_pb.CompleteUnaryResponse:
        self.completed.append(request)
        finish = self._finish(request)
        return serve_pb.CompleteUnaryResponse(text=self.script.answer, finish=finish, context=self._context())

    def _context(self) -> serve_pb.CompletionContext:
        return serve_pb.CompletionContext(num_trimmed_prefix_chars=1_200)

    def _finish(self, request: serve_pb.ChatRequest | serve_pb.CompleteRequest) -> Finish:
        return Finish(
            reason=Finish.REASON_STOP,
            version=f"{request.name}/versions/1",
            num_output_tokens=4,
            time_to_first_token_seconds=0.01,
        )


class ScriptedServeAdmin(admin_grpc.ServeAdminServiceServicer):
    """A server with one version in the engine and one in quarantine, until that is released."""

    def __init__(self) -> None:
        self.quarantine: admin_pb.Quarantine | None = admin_pb.Quarantine(
            reason="CORRUPTED", message="its bytes are wrong.", since_time={"seconds": 1_800_000_000}
        )

    async def GetResidency(self, request: object, context: Any) -> admin_pb.Residency:
        bot = "tenants/aurora/bots/faq"
        state = admin_pb.KnownVersion.STATE_QUARANTINED if self.quarantine else admin_pb.KnownVersion.STATE_ABSENT
        return admin_pb.Residency(
            max_resident=4,
            adapters=[admin_pb.ResidentAdapter(version=f"{bot}/versions/1", num_leases=2)],
            versions=[
                admin_pb.KnownVersion(
                    version=f"{bot}/versions/1", state=admin_pb.KnownVersion.STATE_LOADED, num_leases=2
                ),
                admin_pb.KnownVersion(version=f"{bot}/versions/2", state=state, quarantine=self.quarantine),
            ],
            following=True,
            disk_bytes=3 << 20,
            max_disk_bytes=1 << 30,
            batches=admin_pb.Batches(
                max_in_flight=12,
                kept_places=6,
                max_loras=3,
                max_step_tokens=2048,
                max_tokens_in_flight=24_576,
                max_unread_tokens=512,
            ),
        )

    async def ReleaseVersion(
        self, request: admin_pb.ReleaseVersionRequest, context: Any
    ) -> admin_pb.ReleaseVersionResponse:
        released = self.quarantine if request.name.endswith("/2") else None
        self.quarantine = None if released else self.quarantine
        return admin_pb.ReleaseVersionResponse(quarantine=released)


class ScriptedServices:
    """Both services on free ports of this machine, open while the block runs."""

    def __init__(self, script: Script | None = None) -> None:
        """Play `script`."""
        self.script = script or Script()
        self.registry = ScriptedRegistry(self.script)
        self.trainer = ScriptedTrainer(self.script, self.registry)
        self.ledger = ScriptedLedger()
        self.serve = ScriptedServe(self.script)
        self.trainer_address = ""
        self.server_address = ""
        self._health = health_aio.HealthServicer()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Listen."""
        trainer, server = _make_server(), _make_server()
        registry_grpc.add_RegistryServiceServicer_to_server(self.registry, trainer)
        trainer_grpc.add_TrainerServiceServicer_to_server(self.trainer, trainer)
        usage_grpc.add_UsageServiceServicer_to_server(self.ledger, trainer)
        serve_grpc.add_ServeServiceServicer_to_server(self.serve, server)
        admin_grpc.add_ServeAdminServiceServicer_to_server(ScriptedServeAdmin(), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self.trainer_address = f"127.0.0.1:{trainer.add_insecure_port('127.0.0.1:0')}"
        self.server_address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        for listener in (trainer, server):
            await listener.start()
            self._stack.push_async_callback(listener.stop, None)
        return self

    async def set_serving(self) -> None:
        """Say that the server serves; until then health does not know it."""
        await self._health.set("adaptory.serve.v1.ServeService", health_pb2.HealthCheckResponse.SERVING)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        await self._stack.aclose()


@contextmanager
def open_in_thread() -> Iterator[ScriptedServices]:
    """Run both services on a loop in another thread, for code without asyncio."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    services = ScriptedServices()
    asyncio.run_coroutine_threadsafe(services.__aenter__(), loop).result()
    try:
        yield services
    finally:
        asyncio.run_coroutine_threadsafe(services.__aexit__(None, None, None), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _NoTenants:
    async def find_caller(self, key_digest: str) -> None:
        return None


def _make_server() -> grpc.aio.Server:
    services = [
        registry_pb.DESCRIPTOR.services_by_name["RegistryService"],
        usage_pb.DESCRIPTOR.services_by_name["UsageService"],
        trainer_pb.DESCRIPTOR.services_by_name["TrainerService"],
        serve_pb.DESCRIPTOR.services_by_name["ServeService"],
        admin_pb.DESCRIPTOR.services_by_name["ServeAdminService"],
    ]
    methods = [f"/{service.full_name}/{method.name}" for service in services for method in service.methods]
    interceptor = Interceptor(
        keyring=FixedKeyring({digest_key(KEY): Role.ADMIN}, _NoTenants()),
        access=dict.fromkeys(methods, frozenset(Role)),
        metrics=GrpcMetrics(CollectorRegistry(), methods),
        max_write_s=30.0,
    )
    return grpc.aio.server(interceptors=(interceptor,))


def _report(data: bytes, base_model: str) -> DatasetReport:
    """Return a report on good data; with a base the rows were measured."""
    num_entries = data.count(b"\n")
    report = DatasetReport(num_entries=num_entries, num_rows=3 * num_entries)
    if base_model:
        report.base_model, report.num_tokens, report.longest_row_tokens = base_model, 1234, 60
        report.row_lengths.extend([LengthBucket(max_tokens=32, num_rows=1), LengthBucket(max_tokens=64, num_rows=2)])
        problem = DatasetProblem(
            line=2,
            reason="NEAR_DUPLICATE",
            description="alike with line 1",
            severity=DatasetProblem.SEVERITY_WARNING,
        )
        report.problems.append(problem)
        report.num_problems = report.num_by_reason["NEAR_DUPLICATE"] = 1
    return report

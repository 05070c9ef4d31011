"""Puts one trainer together, brings it up and takes it down. The only file that knows all the parts."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from adaptory.core.adapter_check import AdapterLimits
from adaptory.core.auth import FixedKeyring, Role, digest_key, load_or_make_key
from adaptory.core.base_model import default_cache_root, find_base
from adaptory.core.errors import InvalidRequest
from adaptory.core.rpc import Interceptor
from adaptory.core.server import Server, Service
from adaptory.core.state_dir import Endpoint, own_state_dir, published_endpoint
from adaptory.core.telemetry import GrpcMetrics, Telemetry
from adaptory.registry.v1 import (
    registry_service_pb2,
    registry_service_pb2_grpc,
    usage_service_pb2,
    usage_service_pb2_grpc,
)
from adaptory.trainer.v1 import trainer_service_pb2, trainer_service_pb2_grpc
from trainer_svc.access import ACCESS
from trainer_svc.bots.limits import DataLimits
from trainer_svc.clock import read_utc
from trainer_svc.importing.importer import Importer, ImportTools
from trainer_svc.importing.store import ImportStore
from trainer_svc.importing.workshop import Workshop
from trainer_svc.jobs.attempt import Attempt, AttemptTools, Patience
from trainer_svc.jobs.events import JobEvents
from trainer_svc.jobs.inputs import InputFinder
from trainer_svc.jobs.job import TrainingJob
from trainer_svc.jobs.machine import LocalMachine
from trainer_svc.jobs.measurement import measure_speed_once
from trainer_svc.jobs.planning import JobPlanner
from trainer_svc.jobs.publish import Publisher
from trainer_svc.jobs.residuals import ResidualStore
from trainer_svc.jobs.rows import RowReader
from trainer_svc.jobs.runner import Runner
from trainer_svc.jobs.store import JobStore
from trainer_svc.jobs.workbench import Workbench
from trainer_svc.jobs.worker_process import WorkerCommand
from trainer_svc.judging.pass_rate import RunBudget
from trainer_svc.metrics import AttemptMetrics, JobCollector
from trainer_svc.registry.artifacts import LocalArtifacts
from trainer_svc.registry.bots import Bots
from trainer_svc.registry.database import Database
from trainer_svc.registry.datasets import Datasets
from trainer_svc.registry.feed import ServingFeed
from trainer_svc.registry.keys import ApiKeys
from trainer_svc.registry.registry import Registry
from trainer_svc.registry.routes import RouteTable
from trainer_svc.registry.tenants import Tenants
from trainer_svc.registry.uploads import UploadLimits, Uploads
from trainer_svc.registry.usage import UsageLedger
from trainer_svc.registry.versions import Versions
from trainer_svc.registry_servicer import RegistryServicer
from trainer_svc.settings import TrainerSettings, select_worker_environment
from trainer_svc.trainer_servicer import TrainerServicer
from trainer_svc.usage_servicer import UsageServicer


@asynccontextmanager
async def run_trainer(settings: TrainerSettings) -> AsyncGenerator[Endpoint, None]:
    """Serve and run jobs while the block runs; at its end workers are stopped and their jobs wait for the next start.

    The block is cancelled when a part of the service fails for good. Raises InvalidRequest when a port or the state folder is taken
    or a file of the settings cannot be read, FailedPrecondition when a newer release wrote the database.
    """
    with own_state_dir(settings.state_dir), Database(settings.effective_database_url) as database:
        app = TrainerApp(settings, database)
        async with app.running() as endpoint:
            yield endpoint


class TrainerApp:
    """One trainer's parts, made in the order in which they need each other."""

    def __init__(self, settings: TrainerSettings, database: Database) -> None:
        """Put the parts together inside a running event loop; nothing listens yet."""
        self._settings = settings
        self._database = database
        self._telemetry = Telemetry(service="trainer", version=version("adaptory"))
        cache_root = settings.cache_dir or default_cache_root()
        self._find_base = partial(find_base, cache_root=cache_root)
        self._machine = LocalMachine(cache_root)
        limits = DataLimits(
            settings.max_line_bytes, settings.max_entries, settings.max_rows, settings.max_dataset_tokens
        )
        self._artifacts = LocalArtifacts(settings.state_dir / "artifacts")
        self._rows = RowReader(self._artifacts, limits)
        self._keys = ApiKeys(database, read_utc)
        self._bots = Bots(database, read_utc)
        self._datasets = Datasets(database, read_utc)
        self._inputs = InputFinder(self._bots, self._datasets, self._find_base)
        self._store = JobStore(database, read_utc)
        upload_limits = UploadLimits(settings.max_dataset_bytes, settings.max_adapter_bytes, limits)
        self._uploads = Uploads(database, self._artifacts, settings.state_dir / "uploads", upload_limits)
        self._bench = Workbench(
            settings.state_dir, self._rows, self._artifacts, max_adapter_rank=settings.max_adapter_rank
        )
        self._limits = AdapterLimits(max_rank=settings.max_adapter_rank)
        self._workshop = Workshop(settings.state_dir / "imports", self._artifacts, self._limits)
        self._planner = JobPlanner(self._inputs, self._rows, ResidualStore(database), self._machine)
        self._runner = self._build_runner()
        self._server = self._build_server()
        self._telemetry.add_collector(JobCollector(database, read_utc))

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Endpoint, None]:
        """Serve while the block runs: after what a killed service left is cleared, until running calls have had their time."""
        await self._recover()
        with self._telemetry:
            grpc_address = await self._server.open()
            try:
                endpoint = Endpoint(grpc_address, self._open_metrics())
                async with self._running_jobs():
                    await self._server.set_serving(serving=True)
                    with published_endpoint(self._settings.state_dir, endpoint):
                        yield endpoint
            finally:
                # Streams that follow the database would else hold the drain up to its end.
                self._database.commits.close()
                await self._server.drain()

    @asynccontextmanager
    async def _running_jobs(self) -> AsyncGenerator[None, None]:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self._run_jobs())
            try:
                yield
            finally:
                running.cancel()

    async def _run_jobs(self) -> None:
        # Before the first job, which would slow the measurement and be slowed by it.
        environment = select_worker_environment(os.environ)
        await measure_speed_once(self._machine, self._settings.speed_command, environment)
        await self._runner.run()

    async def _recover(self) -> None:
        await asyncio.to_thread(self._artifacts.remove_leftovers)
        await asyncio.to_thread(self._bench.remove_leftovers)
        await asyncio.to_thread(self._workshop.remove_leftovers)
        await self._uploads.remove_leftovers()
        await self._runner.recover()

    def _build_runner(self) -> Runner:
        settings = self._settings
        arguments, environment = settings.worker_command, select_worker_environment(os.environ)
        tools = AttemptTools(
            store=self._store,
            inputs=self._inputs,
            bench=self._bench,
            publisher=Publisher(
                self._store,
                self._artifacts,
                self._limits,
                RunBudget(total_s=settings.code_tests_seconds),
            ),
            command=WorkerCommand(arguments, environment, settings.worker_stop_grace_seconds),
            patience=Patience(settings.worker_poll_seconds, settings.heartbeat_timeout_seconds),
            observer=AttemptMetrics(self._telemetry.registry, max_tenants=settings.max_tenant_labels),
            monotonic=time.monotonic,
        )

        async def run_attempt(job: TrainingJob) -> None:
            await Attempt(tools, job).run()

        commits = self._database.commits
        return Runner(self._store, commits, run_attempt, max_concurrent_jobs=settings.max_concurrent_jobs)

    def _build_server(self) -> Server:
        training = TrainerServicer(
            self._planner, self._store, JobEvents(self._database), max_rank=self._settings.max_adapter_rank
        )
        registering = RegistryServicer(self._build_registry(), self._find_base, default_base=self._settings.base_model)
        counting = UsageServicer(UsageLedger(self._database, read_utc))
        services = (
            Service(
                trainer_service_pb2.DESCRIPTOR.services_by_name["TrainerService"],
                partial(trainer_service_pb2_grpc.add_TrainerServiceServicer_to_server, training),
            ),
            Service(
                registry_service_pb2.DESCRIPTOR.services_by_name["RegistryService"],
                partial(registry_service_pb2_grpc.add_RegistryServiceServicer_to_server, registering),
            ),
            Service(
                usage_service_pb2.DESCRIPTOR.services_by_name["UsageService"],
                partial(usage_service_pb2_grpc.add_UsageServiceServicer_to_server, counting),
            ),
        )
        methods = [method for service in services for method in service.methods]
        metrics = GrpcMetrics(self._telemetry.registry, methods)
        interceptor = Interceptor(
            keyring=self._keyring(), access=ACCESS, metrics=metrics, max_write_s=self._settings.max_write_seconds
        )
        return Server(self._settings, services, interceptor)

    def _build_registry(self) -> Registry:
        return Registry(
            tenants=Tenants(self._database, read_utc),
            keys=self._keys,
            datasets=self._datasets,
            uploads=self._uploads,
            bots=self._bots,
            versions=Versions(self._database),
            routes=RouteTable(self._database, read_utc),
            feed=ServingFeed(self._database),
            artifacts=self._artifacts,
            importer=self._build_importer(),
        )

    def _build_importer(self) -> Importer:
        return Importer(
            ImportTools(
                bots=self._bots,
                datasets=self._datasets,
                inputs=self._inputs,
                find_base=self._find_base,
                workshop=self._workshop,
                planner=self._planner,
                store=ImportStore(self._database, read_utc),
            )
        )

    def _keyring(self) -> FixedKeyring:
        admin = digest_key(load_or_make_key(self._settings.effective_admin_key_file))
        server = digest_key(load_or_make_key(self._settings.effective_server_key_file))
        return FixedKeyring({admin: Role.ADMIN, server: Role.SERVER}, self._keys)

    def _open_metrics(self) -> str:
        try:
            return self._telemetry.serve(self._settings.metrics_address)
        except OSError as error:
            sentence = f"{self._settings.metrics_address} cannot be bound: {error.strerror}. Choose another port"
            raise InvalidRequest.of_field("metrics_address", sentence) from error

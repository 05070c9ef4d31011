"""Puts one server together, brings it up and takes it down. The only file that knows all the parts."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version

import structlog

from adaptory.core.adapter_check import AdapterLimits, check_adapter
from adaptory.core.auth import FixedKeyring, Role, digest_key, load_or_make_key
from adaptory.core.errors import InvalidRequest
from adaptory.core.rpc import Interceptor
from adaptory.core.server import Server, Service
from adaptory.core.state_dir import Endpoint, own_state_dir, published_endpoint
from adaptory.core.telemetry import GrpcMetrics, HttpMetrics, Telemetry
from adaptory.serve.v1 import (
    serve_admin_service_pb2,
    serve_admin_service_pb2_grpc,
    serve_service_pb2,
    serve_service_pb2_grpc,
)
from serve_svc.access import ACCESS
from serve_svc.adapters.cache import AdapterCache, LifePolicy
from serve_svc.adapters.capacity import describe_ranks, plan_capacity
from serve_svc.adapters.deployment import Deployment
from serve_svc.adapters.files import AdapterFiles
from serve_svc.adapters.loading import ServedBase
from serve_svc.admin_servicer import Operated, ServeAdminServicer
from serve_svc.canary_watch import CanaryWatch
from serve_svc.chat import Chat
from serve_svc.completion import Completion
from serve_svc.deadline import Closing
from serve_svc.engine.engine import Engine
from serve_svc.engine.factory import computes_on_cpu
from serve_svc.engine.metrics import VllmCollector
from serve_svc.engine.supervisor import EngineState, Supervisor, SupervisorPolicy, SupervisorSeams
from serve_svc.gauges import add_gauges
from serve_svc.generation import Generation, Line, Watchers
from serve_svc.metrics import AdapterMetrics, EngineMetrics, RequestMetrics
from serve_svc.model import ServedModel
from serve_svc.openai.app import Door, make_app
from serve_svc.openai.operations import Answering
from serve_svc.openai.server import HttpServer
from serve_svc.prompts import Prompts
from serve_svc.queue.admission import Admission, AdmissionSeams
from serve_svc.queue.metrics import QueueMetrics
from serve_svc.registry.client import RegistryAddress, RegistryClient, open_channel, read_server_key
from serve_svc.registry.feed import RegistryFeed
from serve_svc.registry.snapshot import SnapshotFile, SnapshotWriter
from serve_svc.routing import Router, RoutingTable
from serve_svc.servicer import ServeServicer
from serve_svc.settings import ServeSettings
from serve_svc.shadow import Shadows
from serve_svc.tenancy import Intake, TableKeyring, weigh
from serve_svc.usage.accounts import open_accounts

log = structlog.get_logger()

# What an answer that has just ended may take to reach its caller.
_LAST_WORDS_S = 0.5


@asynccontextmanager
async def run_server(
    settings: ServeSettings,
    model: ServedModel,
    build_engine: Callable[[], Awaitable[Engine]],
    policy: SupervisorPolicy | None = None,
) -> AsyncIterator[Endpoint]:
    """Serve while the block runs; it begins when the engine has come up, and ends when running requests have had their time.

    Raises:
        InvalidRequest: A port or the state folder is taken, or a file of the settings cannot be read.
        EngineDead: The engine cannot be built.
    """
    with own_state_dir(settings.state_dir):
        app = ServeApp(settings, model, build_engine, policy or SupervisorPolicy())
        async with app.running() as endpoint:
            yield endpoint


class ServeApp:
    """One server's parts, made in the order in which they need each other."""

    def __init__(
        self,
        settings: ServeSettings,
        model: ServedModel,
        build_engine: Callable[[], Awaitable[Engine]],
        policy: SupervisorPolicy,
    ) -> None:
        """Put the parts together inside a running event loop; nothing listens yet. Raises InvalidRequest for an unreadable file."""
        self._settings = settings
        self._model = model
        self._capacity = plan_capacity(settings, model.shape, model.weights_bytes, on_cpu=computes_on_cpu())
        self._telemetry = Telemetry(service="serve", version=version("adaptory"))
        self._adapter_metrics = AdapterMetrics(self._telemetry.registry)
        self._engine_metrics = EngineMetrics(self._telemetry.registry)
        self._health_changed = asyncio.Event()

        self._canaries = CanaryWatch(settings.canary_limits())
        self._router = Router(model.base, self._canaries.ended)
        self._intake = Intake()
        self._closing = Closing()
        self._accounts = open_accounts(settings.state_dir / "usage.spool", settings.usage_pace(), self._router)
        self._request_metrics = RequestMetrics(self._telemetry.registry, settings.max_tenant_labels)
        self._shadows = Shadows(self._request_metrics, self._closing)
        queue = AdmissionSeams(time.monotonic, partial(weigh, self._router), QueueMetrics(self._telemetry.registry))
        self._limits = settings.admission_limits(on_cpu=computes_on_cpu())
        self._admission = Admission(self._limits, queue)
        seams = SupervisorSeams(clock=time.monotonic, sleep=asyncio.sleep)
        self._supervisor = Supervisor(build_engine, policy, seams, self._engine_entered)

        self._channel = open_channel(RegistryAddress(settings.registry_address, settings.registry_ca))
        self._registry = registry = RegistryClient(self._channel, partial(read_server_key, settings.server_key_file))
        self._files = AdapterFiles(settings.state_dir / "adapters", registry, settings.adapter_disk_bytes)
        limits = AdapterLimits(max_rank=settings.max_lora_rank)
        base = ServedBase(model.base.digest, partial(check_adapter, base=model.shape, limits=limits))
        life = LifePolicy(quarantine=settings.quarantine_policy())
        self._cache = AdapterCache(self._supervisor, self._files, base, self._adapter_metrics, life)
        self._deployment = Deployment(self._cache, self._router, self._capacity.max_resident)
        self._snapshot = SnapshotFile(settings.state_dir / "routing.snapshot")
        self._snapshot_writer = SnapshotWriter(self._snapshot)
        self._feed = RegistryFeed(registry, self._router, self._table_changed)
        answering, keyring = self._build_answering(), self._keyring()
        self._server = self._build_server(answering, keyring)
        self._http = self._build_http(answering, keyring)
        self._add_gauges()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Endpoint]:
        """Serve while the block runs: from the engine's start until the running requests have had their time."""
        settings = self._settings
        await asyncio.to_thread(self._files.clean)
        await self._accounts.reporter.start()
        self._router.table = await asyncio.to_thread(self._snapshot.load)
        self._canaries.follow(self._router.table)
        log.info("memory_planned", plan=self._capacity.describe(), ranks_seen=describe_ranks(self._router.table))
        with self._telemetry:
            async with self._channel:
                grpc_address = await self._server.open()
                try:
                    openai_address = await self._http.open() if settings.openai_address else ""
                    endpoint = Endpoint(grpc_address, self._open_metrics(), openai_address)
                    await self._supervisor.start()
                    async with self._background():
                        with published_endpoint(settings.state_dir, endpoint):
                            yield endpoint
                finally:
                    await self._stop_answering()
                    await self._accounts.reporter.close(self._registry)
                    await self._cache.close()
                    await self._supervisor.stop()

    @asynccontextmanager
    async def _background(self) -> AsyncIterator[None]:
        """Run what a server does by itself; if a part of it fails, the block is cancelled, and the failure raised."""
        async with asyncio.TaskGroup() as tasks:
            works = (
                self._feed.run(),
                self._snapshot_writer.run(),
                self._deployment.run(),
                self._canaries.run(self._registry.end_canary),
                self._accounts.reporter.run(self._registry),
                self._shadows.run(),
                self._publish_health(),
            )
            running = [tasks.create_task(work) for work in works]
            try:
                yield
            finally:
                for task in running:
                    task.cancel()

    def _build_answering(self) -> Answering:
        settings, model = self._settings, self._model
        generation = Generation(
            Line(self._intake, self._admission, self._cache, self._supervisor, self._accounts.quotas),
            Watchers(self._request_metrics, self._canaries, self._accounts.meter),
            load_or_make_key(settings.state_dir / "cache_salt.key").encode(),
        )
        chat = Chat(self._router, Prompts(model.renderer, settings.max_model_tokens), generation, self._shadows)
        completion = Completion(
            self._router,
            model.fim_renderer,
            generation,
            self._shadows,
            max_prompt_tokens=settings.max_completion_prompt_tokens,
            max_tokens=settings.max_model_tokens,
        )
        return Answering(chat, completion, self._router, self._closing)

    def _build_server(self, answering: Answering, keyring: FixedKeyring) -> Server:
        serving = ServeServicer(
            answering.chat,
            answering.completion,
            self._router,
            self._cache,
            self._closing,
            self._settings.max_model_tokens,
        )
        operating = ServeAdminServicer(self._operated(), self._drain)
        services = (
            Service(
                serve_service_pb2.DESCRIPTOR.services_by_name["ServeService"],
                partial(serve_service_pb2_grpc.add_ServeServiceServicer_to_server, serving),
            ),
            Service(
                serve_admin_service_pb2.DESCRIPTOR.services_by_name["ServeAdminService"],
                partial(serve_admin_service_pb2_grpc.add_ServeAdminServiceServicer_to_server, operating),
            ),
        )
        methods = [method for service in services for method in service.methods]
        grpc_metrics = GrpcMetrics(self._telemetry.registry, methods)
        interceptor = Interceptor(
            keyring=keyring, access=ACCESS, metrics=grpc_metrics, max_write_s=self._settings.max_write_seconds
        )
        return Server(self._settings, services, interceptor)

    def _build_http(self, answering: Answering, keyring: FixedKeyring) -> HttpServer:
        door = Door(keyring, ACCESS, HttpMetrics(self._telemetry.registry))
        return HttpServer(make_app(answering, door, lambda: self._server.is_serving), self._settings)

    def _keyring(self) -> FixedKeyring:
        key_file = self._settings.admin_key_file or self._settings.state_dir / "admin.key"
        admin_digest = digest_key(load_or_make_key(key_file))
        return FixedKeyring({admin_digest: Role.ADMIN}, TableKeyring(self._router))

    def _operated(self) -> Operated:
        return Operated(
            router=self._router,
            cache=self._cache,
            deployment=self._deployment,
            feed=self._feed,
            engine_metrics=self._engine_metrics,
            closing=self._closing,
            base_digest=self._model.base.digest,
            max_resident=self._capacity.max_resident,
            max_disk_bytes=self._settings.adapter_disk_bytes,
            capacity=self._capacity,
            places=self._limits.places,
            max_step_tokens=self._settings.max_step_tokens,
        )

    def _add_gauges(self) -> None:
        registry = self._telemetry.registry
        add_gauges(registry, self._intake, self._feed, self._router, self._accounts, self._cache)
        self._telemetry.add_collector(VllmCollector())

    def _open_metrics(self) -> str:
        try:
            return self._telemetry.serve(self._settings.metrics_address)
        except OSError as error:
            sentence = f"{self._settings.metrics_address} cannot be bound: {error.strerror}. Choose another port"
            raise InvalidRequest.of_field("metrics_address", sentence) from error

    def _table_changed(self, before: RoutingTable, after: RoutingTable) -> None:
        self._snapshot_writer.keep(after)
        self._deployment.follow(before, after)
        self._canaries.follow(after)
        self._health_changed.set()

    def _engine_entered(self, state: EngineState) -> None:
        self._engine_metrics.engine_entered(state)
        self._health_changed.set()
        if state is EngineState.SERVING:
            self._deployment.refill()
        else:
            self._cache.engine_lost()
            self._adapter_metrics.engine_emptied()

    async def _drain(self) -> int:
        """Refuse new requests, and return how many ran, when they have ended."""
        self._intake.close()
        await self._server.set_serving(serving=False)
        return await self._intake.drain()

    async def _stop_answering(self) -> None:
        """Give running requests their time, and end the rest. Watches of health never end: the port waits for last words alone."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_seconds):
                await self._drain()
        self._closing.end()
        await asyncio.gather(self._server.drain(_LAST_WORDS_S), self._http.stop())

    async def _publish_health(self) -> None:
        while True:
            await self._health_changed.wait()
            self._health_changed.clear()
            is_up = self._supervisor.state is EngineState.SERVING
            await self._server.set_serving(serving=is_up and self._router.table.is_known and self._intake.is_open)

"""What an operator can set on serve_svc, with the defaults of one machine that runs both services."""

from pathlib import Path
from typing import Self

import platformdirs
from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from adaptory.core.settings import ServiceSettings, is_loopback, split_address
from serve_svc.adapters.quarantine import QuarantinePolicy
from serve_svc.canary_watch import CanaryLimits
from serve_svc.engine.engine import EngineSettings
from serve_svc.queue.admission import AdmissionLimits
from serve_svc.queue.places import PlaceLimits
from serve_svc.queue.slots import Turn
from serve_svc.usage.reporter import UsagePace

_MAX_QUARANTINE_PAUSE_S = 300.0
_CPU_UNREAD_TOKENS = 512
_STATE_ROOT = platformdirs.user_state_path("adaptory")


class ServeSettings(ServiceSettings):
    """Settings of one server; each is also the variable ADAPTORY_SERVE_NAME or a key of the TOML file."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="ADAPTORY_SERVE_")

    address: str = "127.0.0.1:50072"
    """Where gRPC is served, HOST:PORT; port 0 takes a free one."""
    openai_address: str = "127.0.0.1:50073"
    """Where OpenAI's interface is served over HTTP, HOST:PORT, with gRPC's certificate where it has one; empty serves none."""
    metrics_address: str = "127.0.0.1:9472"
    """Where Prometheus metrics are served over HTTP, HOST:PORT."""
    state_dir: Path = _STATE_ROOT / "serve"
    """Adapters, the last routing table, keys and endpoint.json."""
    admin_key_file: Path | None = None
    """The operator's key; left out, a file in `state_dir`, made at the first start."""

    registry_address: str = "127.0.0.1:50071"
    """Where trainer_svc serves its registry, HOST:PORT."""
    registry_ca: Path | None = None
    """PEM of the CA behind the registry's certificate; needed for any address that is not loopback."""
    server_key_file: Path = _STATE_ROOT / "trainer" / "server.key"
    """The key that trainer_svc made for its servers."""

    base_model: str = "smollm2-135m-instruct"
    """The base in the catalogue; `adaptory models prepare NAME` makes it ready."""
    cache_dir: Path | None = None
    """Where prepared bases are; left out, the user's cache folder or ADAPTORY_CACHE_DIR."""

    max_loras: int = Field(default=16, ge=1, le=256)
    """Distinct adapters in one batch of the engine. With fewer than `max_in_flight`, requests wait for a slot though there is a
    place; a slot costs an adapter's memory, and on a CPU no time."""
    max_cpu_loras: int = Field(default=32, ge=1, le=4096)
    """Adapters that stay loaded, the last used ones. Left out, as many as fit `memory_limit_bytes`, where that is given."""
    memory_limit_bytes: int | None = Field(default=None, ge=1)
    """Main memory that the server may take, its engine included; it does not start with settings that take more."""
    max_lora_rank: int = Field(default=16, ge=1, le=512)
    """Highest rank served. vLLM pads every adapter to it, which costs memory, and on a GPU time on each request."""
    max_model_tokens: int = Field(default=2048, ge=16)
    """Prompt and answer of one request together."""
    max_completion_prompt_tokens: int = Field(default=1024, ge=64)
    """Prompt of a completion: code around the cursor beyond it is trimmed, since reading it takes time at every keystroke."""
    kv_cache_bytes: int = Field(default=1 << 30, ge=1 << 24)
    """Memory for keys and values, where the engine runs on CPU."""
    gpu_memory_fraction: float = Field(default=0.85, gt=0, le=1)
    """Share of a GPU's memory for base, adapters, keys and values together."""

    max_in_flight: int = Field(default=16, ge=1)
    """Requests in the engine at once; the others wait in a fair queue."""
    kept_places: int = Field(default=16, ge=0)
    """Requests in the engine beyond `max_in_flight`, of tenants of whom less runs than their part of it. With as many as
    `max_in_flight`, nobody who asks for less than its part waits for the answers of one who floods."""
    max_step_tokens: int = Field(default=2048, ge=16)
    """Tokens that one step of the engine takes: one of each answer, the rest of prompts. A longer prompt is read over several steps;
    fewer make the gaps between the tokens of other answers shorter, more read prompts in less time."""
    max_unread_tokens: int | None = Field(default=None, ge=1)
    """Tokens of prompts of one tenant that have begun and whose answers have not; a longer prompt is the only one. The engine reads
    prompts in the order in which they began: all who come after many long ones wait for them. Left out, 512 on a CPU, which two cores
    read in a quarter of a second, and two steps' tokens on a GPU, so that the next are there when a step ends."""
    max_tokens_in_flight: int | None = Field(default=None, ge=16)
    """Prompts and longest answers of the requests in the engine together: what its memory for keys and values holds. Beyond that
    vLLM begins requests again from the start. Left out, `max_in_flight` times `max_model_tokens`."""
    max_waiting: int = Field(default=256, ge=0)
    """Requests that may wait, of all tenants together; beyond it those with most waiting lose their newest."""
    max_waiting_per_tenant: int = Field(default=64, ge=0)
    """Requests of one tenant that may wait, completions and conversations each."""
    adapter_turn_tokens: int = Field(default=2048, ge=1)
    """By how much an adapter may be served more than one that waits for a slot, before new requests of it wait in turn. Prompt tokens
    count once, answer tokens twice, both over the tenant's weight."""
    adapter_turn_s: float = Field(default=5.0, gt=0)
    """How long an adapter that is served more at all keeps its slot while another waits for one."""

    adapter_disk_bytes: int = Field(default=10 * 2**30, ge=1)
    """Adapters kept in `state_dir`; those used longest ago go first, and what the engine holds always stays."""
    quarantine_failures: int = Field(default=3, ge=1)
    """So many failed loads of a version, within `quarantine_window_s`, and it is refused without a try for a time."""
    quarantine_window_s: float = Field(default=60.0, gt=0)
    """See `quarantine_failures`."""
    quarantine_pause_s: float = Field(default=30.0, gt=0)
    """How long that time is at first; it doubles with every try that fails, up to five minutes."""

    canary_min_requests: int = Field(default=20, ge=1)
    """Requests that a canary must have had before it may end for being worse than production."""
    canary_max_more_failures: float = Field(default=0.05, ge=0, le=1)
    """By how much the share of a canary's requests that fail may be above production's."""
    canary_max_first_token_ratio: float = Field(default=1.5, ge=1)
    """How many times production's median time to the first token, and 50 ms, a canary's may be."""

    usage_keep_seconds: float = Field(default=1.0, gt=0)
    """How often what requests used is written to disk: a server that is killed loses what it counted since."""
    usage_report_seconds: float = Field(default=5.0, gt=0)
    """How often it is reported to the registry, and what other servers counted is heard of, which tokens of a day are limited by."""

    @model_validator(mode="after")
    def _check_openai_address(self) -> Self:
        if self.openai_address:
            split_address(self.openai_address)
            self._refuse_clear_keys("openai_address", self.openai_address)
        return self

    @model_validator(mode="after")
    def _refuse_open_channel(self) -> Self:
        if self.registry_ca is None and not is_loopback(self.registry_address):
            message = (
                f"registry_address {self.registry_address} is another machine, and the server's key would cross the network "
                "in clear: give registry_ca"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _refuse_small_budget(self) -> Self:
        if self.max_tokens_in_flight is not None and self.max_tokens_in_flight < self.max_model_tokens:
            message = (
                f"max_tokens_in_flight {self.max_tokens_in_flight} must not be below max_model_tokens {self.max_model_tokens}: one "
                "request may need as much"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _refuse_small_steps(self) -> Self:
        if self.max_step_tokens < self.max_in_flight + self.kept_places:
            message = (
                f"max_step_tokens {self.max_step_tokens} must not be below max_in_flight {self.max_in_flight} and kept_places "
                f"{self.kept_places} together: a step makes a token of each answer"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _refuse_small_cache(self) -> Self:
        if self.max_cpu_loras < self.max_loras:
            message = f"max_cpu_loras {self.max_cpu_loras} must not be below max_loras {self.max_loras}: adapters in use stay loaded"
            raise ValueError(message)
        return self

    def engine_settings(self) -> EngineSettings:
        """Return the size of the engine."""
        return EngineSettings(
            max_loras=self.max_loras,
            max_cpu_loras=self.max_cpu_loras,
            max_lora_rank=self.max_lora_rank,
            max_model_tokens=self.max_model_tokens,
            max_sequences=self.max_in_flight + self.kept_places,
            max_step_tokens=self.max_step_tokens,
            kv_cache_bytes=self.kv_cache_bytes,
            gpu_memory_fraction=self.gpu_memory_fraction,
        )

    def usage_pace(self) -> UsagePace:
        """Return how often what requests used is written and reported."""
        return UsagePace(self.usage_keep_seconds, self.usage_report_seconds)

    def canary_limits(self) -> CanaryLimits:
        """Return how much worse a canary may be."""
        return CanaryLimits(self.canary_min_requests, self.canary_max_more_failures, self.canary_max_first_token_ratio)

    def quarantine_policy(self) -> QuarantinePolicy:
        """Return when a version that fails is refused, and for how long."""
        return QuarantinePolicy(
            max_failures=self.quarantine_failures,
            window_s=self.quarantine_window_s,
            first_pause_s=self.quarantine_pause_s,
            max_pause_s=max(self.quarantine_pause_s, _MAX_QUARANTINE_PAUSE_S),
        )

    def admission_limits(self, *, on_cpu: bool) -> AdmissionLimits:
        """Return the size of the queue in front of an engine that computes on the CPU, or on a GPU."""
        places = PlaceLimits(
            max_in_flight=self.max_in_flight,
            num_kept=self.kept_places,
            max_adapters=self.max_loras,
            max_tokens=self.max_tokens_in_flight or self.max_in_flight * self.max_model_tokens,
            max_unread_tokens=self.max_unread_tokens or (_CPU_UNREAD_TOKENS if on_cpu else 2 * self.max_step_tokens),
            turn=Turn(self.adapter_turn_tokens, self.adapter_turn_s),
        )
        return AdmissionLimits(places, self.max_waiting, self.max_waiting_per_tenant)

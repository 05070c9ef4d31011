"""What a plan is asked for: the job's method and rows, the limit, the device and how fast it is."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer_svc.memory.speed import DeviceSpeed, assume_speed
from trainer_svc.memory.techniques import ComputePrecision, DeviceKind, Method, Objective


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What the memory and the time of a job depend on, besides its base.

    `batches` has the lengths, in tokens, of the rows of each optimizer step in order, and `held_out` of those that are judged on,
    `asked` of those that are judged by their answers alone; `shared_tokens` is how many first tokens all rows have in common. In a
    preference job each row is a pair: `batches` has the lengths of the chosen and of the rejected answer one after the other, prompts
    included, while `batch_rows` counts pairs. `num_measurements` is how often the loss on held-out rows is measured while the job
    trains.
    `compute` is what the device computes in, `residual_bytes` what earlier jobs on it took beyond what was predicted. Full
    fine-tuning has no rank.
    """

    limit_bytes: int
    rank: int
    batch_rows: int
    batches: Sequence[Sequence[int]]
    held_out: Sequence[int] = ()
    shared_tokens: int = 0
    num_measurements: int = 1
    device: DeviceKind = DeviceKind.CPU
    compute: ComputePrecision = ComputePrecision.BF16
    may_offload: bool = True
    method: Method = Method.QLORA
    objective: Objective = Objective.SFT
    speed: DeviceSpeed | None = None
    residual_bytes: int = 0
    asked: Sequence[int] = ()

    @property
    def effective_speed(self) -> DeviceSpeed:
        """The device's speed, assumed where it was not measured."""
        return self.speed or assume_speed(self.device)

    @property
    def row_sequences(self) -> int:
        """Sequences of tokens that make up one row of a micro-batch."""
        return 2 if self.objective is Objective.PREFERENCE else 1

"""The price of techniques for one job: bytes and seconds, from the workload of their micro-batch size, which is found once."""

from trainer_svc.memory.duration import predict_seconds
from trainer_svc.memory.estimator import Estimate, count_margin, estimate
from trainer_svc.memory.request import PlanRequest
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import Techniques
from trainer_svc.memory.workload import Workload, cut_workload


class Pricing:
    """Prices techniques for one base and one request."""

    def __init__(self, shape: ModelShape, request: PlanRequest) -> None:
        self._shape = shape
        self._request = request
        self._workloads: dict[int, Workload] = {}

    def estimate(self, techniques: Techniques) -> Estimate:
        """Return the bytes of each term and phase."""
        request, workload = self._request, self._find_workload(techniques)
        return estimate(
            self._shape,
            techniques,
            workload.largest,
            rank=request.rank,
            device=request.device,
            num_sizes=workload.num_sizes,
            longest_judged=workload.longest_judged,
            residual_bytes=request.residual_bytes,
        )

    def count_margin(self, techniques: Techniques) -> int:
        """Return what a limit must have beyond the estimate, in bytes."""
        return count_margin(self._shape, techniques, self._request.device)

    def predict_seconds(self, techniques: Techniques) -> float:
        """Return the seconds of all steps and of judging."""
        return predict_seconds(self._shape, techniques, self._find_workload(techniques), self._request)

    def _find_workload(self, techniques: Techniques) -> Workload:
        rows = techniques.micro_batch_rows
        if rows not in self._workloads:
            self._workloads[rows] = cut_workload(self._request, rows)
        return self._workloads[rows]

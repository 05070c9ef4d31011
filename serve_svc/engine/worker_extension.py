"""What we add to vLLM's worker process; vLLM imports it there by its name."""

import signal


class DrainingWorker:
    """Mixed into vLLM's worker, which would die of the first signal under the requests it computes."""

    def leave_signals_to_the_engine(self) -> None:
        """Ignore what Ctrl-C and service managers send to whole groups; the engine process drains, then ends its workers."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

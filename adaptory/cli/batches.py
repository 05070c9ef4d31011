"""How much a server's engine takes at once, in words."""

from adaptory.serve.v1.serve_admin_service_pb2 import Batches


def tell_batches(batches: Batches) -> str:
    """Return one line for operators."""
    return (
        f"{batches.max_in_flight} requests at once and {batches.kept_places} kept places, {batches.max_loras} adapters among them, "
        f"{batches.max_step_tokens:,} tokens a step, {batches.max_tokens_in_flight:,} in flight, {batches.max_unread_tokens:,} of a "
        "tenant's prompts unread"
    )

"""The base model as the server's own process needs it; its weights are read by the engine alone."""

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from adaptory.core.base_model import default_cache_root, find_base
from adaptory.core.base_shape import BaseShape
from adaptory.core.errors import InvalidRequest
from adaptory.core.fim import FimRenderer, find_family
from adaptory.core.prompting import Renderer
from adaptory.core.receipt import sign_chat, sign_code
from serve_svc.routing import BaseIdentity
from serve_svc.settings import ServeSettings


@dataclass(frozen=True, slots=True)
class ServedModel:
    """Who the base is, what adapters it takes, how its prompts are rendered, and where the engine finds its parity weights.

    `renderer` makes prompts of conversations, `fim_renderer` of completions.
    """

    base: BaseIdentity
    shape: BaseShape
    renderer: Renderer
    fim_renderer: FimRenderer
    weights_dir: Path

    @property
    def weights_bytes(self) -> int:
        """Bytes of the parity weights."""
        return sum(file.stat().st_size for file in self.weights_dir.glob("*.safetensors"))


def open_model(settings: ServeSettings) -> ServedModel:
    """Open the prepared base that the settings name.

    Raises:
        NotFound, FailedPrecondition, Corrupted: As `find_base`: unknown, not prepared, damaged.
        InvalidRequest: The settings ask for a longer context than the base has.
    """
    base = find_base(settings.base_model, settings.cache_dir or default_cache_root())
    if settings.max_model_tokens > base.max_tokens:
        sentence = f"is {settings.max_model_tokens}; {base.name} knows at most {base.max_tokens} tokens"
        raise InvalidRequest.of_field("max_model_tokens", sentence)
    tokenizer = Tokenizer.from_file(str(base.tokenizer_file))
    renderer = Renderer(tokenizer, base.chat_template, base.end_of_turn)
    fim_renderer = FimRenderer(tokenizer, find_family(base.fim), base.end_of_turn)
    identity = BaseIdentity(
        base.name,
        base.parity_digest,
        renderer.template_digest,
        fim_renderer.form_digest,
        sign_chat(renderer),
        sign_code(fim_renderer),
    )
    return ServedModel(identity, base.shape, renderer, fim_renderer, base.parity_dir)

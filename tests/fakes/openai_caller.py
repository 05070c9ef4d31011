"""What a tool that speaks OpenAI's interface does to a server on the stage: through OpenAI's own client, or byte by byte."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from openai import AsyncOpenAI

from adaptory.registry.v1 import bot_pb2
from tests.fakes.server import Stage

BOT = "tenants/acme/bots/faq"
CODE = "tenants/acme/bots/code"
HTTP = {"openai_address": "127.0.0.1:0"}


async def add_bots(stage: Stage) -> dict[str, str]:
    """Have acme's FAQ bot and code bot answer by their versions 1; globex has a bot that none answers for. Return each one's word."""
    stage.add_bot(BOT, key="adk_acme")
    stage.add_bot("tenants/globex/bots/theirs", key="adk_globex")
    voices = {BOT: stage.add_version(f"{BOT}/versions/1")}
    stage.promote(f"{BOT}/versions/1")
    voices[CODE] = stage.add_version(f"{CODE}/versions/1", template_digest=stage.model.base.form_digest)
    kind = bot_pb2.BOT_KIND_CODE_COMPLETION
    stage.registry.put_bot(CODE, base_model="tiny", production=f"{CODE}/versions/1", kind=kind)
    await stage.followed()
    await stage.loaded(f"{BOT}/versions/1", f"{CODE}/versions/1")
    return voices


@asynccontextmanager
async def open_client(stage: Stage, key: str = "adk_acme") -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's client, which tells the first failure rather than to ask again."""
    base_url = f"http://{stage.endpoint.openai}/v1"
    async with AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
        yield client


def ask(text: str = "When do you open?") -> list[Any]:
    """Return a conversation of one turn."""
    return [{"role": "user", "content": text}]


class RawCaller:
    """A connection on which a test writes what no client would."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take both ends."""
        self.reader = reader
        self.writer = writer

    async def send(
        self, body: bytes, *, path: str = "/v1/chat/completions", method: str = "POST", **headers: str
    ) -> None:
        """Send one request as acme."""
        values = {"host": "x", "authorization": "Bearer adk_acme", "content-length": str(len(body)), **headers}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in values.items()), "", ""]
        self.writer.write("\r\n".join(lines).encode() + body)
        await self.writer.drain()

    async def read(self) -> tuple[int, dict[str, Any]]:
        """Return status and object of the response."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = int(head.partition("content-length:")[2].split()[0])
        return int(head.split()[1]), json.loads(await self.reader.readexactly(size))


@asynccontextmanager
async def open_raw(stage: Stage, *, limit: int = 1 << 16) -> AsyncIterator[RawCaller]:
    """A connection that reads ahead no more than `limit`, closed at the end."""
    host, _, port = stage.endpoint.openai.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=limit)
    try:
        yield RawCaller(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)

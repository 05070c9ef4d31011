"""A first call with the generated stubs alone, as a backend in any language would make it.

    ADAPTORY_KEY=adk_… python examples/first_call.py tenants/acme/bots/faq "How long is the warranty?"

The key is the tenant's (`adaptory tenant key acme`). `adaptory.client` does the same with deadlines, retries and readable failures.
"""

import os
import sys

import grpc

from adaptory.serve.v1 import serve_service_pb2, serve_service_pb2_grpc


def main(bot: str, question: str) -> None:
    """Print the bot's answer as it is made, then which version made it."""
    authorization = ("authorization", f"Bearer {os.environ['ADAPTORY_KEY']}")
    turn = serve_service_pb2.ChatMessage(role=serve_service_pb2.ChatMessage.ROLE_USER, content=question)
    request = serve_service_pb2.ChatRequest(name=bot, messages=[turn])
    with grpc.insecure_channel(os.environ.get("ADAPTORY_SERVER", "127.0.0.1:50072")) as channel:
        serve = serve_service_pb2_grpc.ServeServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        for piece in serve.Chat(request, metadata=[authorization], timeout=60):
            print(piece.text, end="", flush=True)
            if piece.HasField("finish"):
                print(f"\n{piece.finish.version}, {piece.finish.num_output_tokens} tokens")


if __name__ == "__main__":
    main(*sys.argv[1:])

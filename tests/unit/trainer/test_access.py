"""Who may call what: every method of the contract with every kind of key."""

from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor

from adaptory.registry.v1 import registry_service_pb2, usage_service_pb2
from adaptory.trainer.v1 import trainer_service_pb2
from tests.fakes.trainer import Metadata, Trainer, key_of, reason_of

SERVICES = (
    registry_service_pb2.DESCRIPTOR.services_by_name["RegistryService"],
    usage_service_pb2.DESCRIPTOR.services_by_name["UsageService"],
    trainer_service_pb2.DESCRIPTOR.services_by_name["TrainerService"],
)
METHODS = {method.name: method for service in SERVICES for method in service.methods}

# Written by hand from the comments of the contract, not from `access.py`: the two are to agree.
ADMIN_ONLY = {
    "CreateTenant",
    "ListTenants",
    "UpdateTenant",
    "CreateApiKey",
    "ListApiKeys",
    "RevokeApiKey",
    "SetAnswerSchema",
}
SERVER_ONLY = {"WatchServing", "EndCanary", "ReportUsage"}
TENANT_AND_SERVER = {"DownloadAdapter"}
TENANT = {
    "GetTenant",
    "CreateDataset",
    "AppendDatasetChunk",
    "FinalizeDataset",
    "GetDataset",
    "ListDatasets",
    "CreateBot",
    "GetBot",
    "ListBots",
    "GetVersion",
    "ListVersions",
    "PromoteVersion",
    "SetCanary",
    "SetShadow",
    "RollbackBot",
    "RetireVersion",
    "ImportAdapter",
    "ListUsage",
    "PlanTrainingJob",
    "CreateTrainingJob",
    "GetTrainingJob",
    "ListTrainingJobs",
    "WatchTrainingJob",
    "CancelTrainingJob",
    "PauseTrainingJob",
    "ResumeTrainingJob",
}
REFUSED = {"KEY_MISSING", "KEY_UNKNOWN", "ROLE_NOT_ALLOWED"}
# The names of what belongs to a tenant, by the field that carries it.
FOREIGN_NAMES = {
    "GetTenant": "tenants/borealis",
    "GetBot": "tenants/borealis/bots/faq",
    "RollbackBot": "tenants/borealis/bots/faq",
    "ListVersions": "tenants/borealis/bots/faq",
    "AppendDatasetChunk": "tenants/borealis/datasets/ds-1",
    "FinalizeDataset": "tenants/borealis/datasets/ds-1",
    "GetDataset": "tenants/borealis/datasets/ds-1",
    "GetTrainingJob": "tenants/borealis/trainingJobs/job-1",
    "WatchTrainingJob": "tenants/borealis/trainingJobs/job-1",
    "CancelTrainingJob": "tenants/borealis/trainingJobs/job-1",
    "GetVersion": "tenants/borealis/bots/faq/versions/1",
    "PromoteVersion": "tenants/borealis/bots/faq/versions/1",
    "RetireVersion": "tenants/borealis/bots/faq/versions/1",
    "SetCanary": "tenants/borealis/bots/faq/versions/1",
    "SetShadow": "tenants/borealis/bots/faq/versions/1",
    "DownloadAdapter": "tenants/borealis/bots/faq/versions/1",
    "ImportAdapter": "tenants/borealis/bots/faq",
    "CreateDataset": "tenants/borealis",
    "ListDatasets": "tenants/borealis",
    "CreateBot": "tenants/borealis",
    "ListBots": "tenants/borealis",
    "ListUsage": "tenants/borealis",
    "PlanTrainingJob": "tenants/borealis",
    "CreateTrainingJob": "tenants/borealis",
    "ListTrainingJobs": "tenants/borealis",
}
NOT_SERVED = {"PauseTrainingJob", "ResumeTrainingJob"}


@pytest.fixture
async def keys(trainer: Trainer) -> dict[str, Metadata]:
    """One caller of each kind; borealis exists, with a bot, and belongs to none of them."""
    owner = await trainer.add_tenant("aurora")
    await trainer.add_tenant("borealis")
    await trainer.add_bot("borealis")
    return {
        "admin": trainer.admin,
        "server": trainer.server,
        "tenant": owner,
        "nobody": (),
        "stranger": key_of("adk_made-up"),
    }


async def refusal(trainer: Trainer, method: MethodDescriptor, key: Metadata, name: str = "") -> str:
    """Call a method with no more than a name, and return the reason it is refused for; empty when it answers."""
    request = message_factory.GetMessageClass(method.input_type)()
    fields = request.DESCRIPTOR.fields_by_name
    if name:
        setattr(request, "parent" if "parent" in fields else "name", name)
    call = _open_call(trainer, method)(request, metadata=key, timeout=10)
    try:
        await (call.read() if method.server_streaming else call)
    except grpc.aio.AioRpcError as error:
        return reason_of(error)
    finally:
        call.cancel()
    return ""


def _open_call(trainer: Trainer, method: MethodDescriptor) -> Any:
    kind = trainer.channel.unary_stream if method.server_streaming else trainer.channel.unary_unary
    return kind(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
    )


def allowed_for(method: str) -> set[str]:
    """Return the kinds of keys a method takes."""
    if method in ADMIN_ONLY:
        return {"admin"}
    if method in SERVER_ONLY:
        return {"server"}
    return {"admin", "tenant", "server"} if method in TENANT_AND_SERVER else {"admin", "tenant"}


def test_every_method_has_a_row() -> None:
    """A method that is added to the contract must be added here, too."""
    assert METHODS.keys() == ADMIN_ONLY | SERVER_ONLY | TENANT_AND_SERVER | TENANT


@pytest.mark.parametrize("caller", ["admin", "server", "tenant", "nobody", "stranger"])
async def test_a_method_takes_the_keys_its_comment_names(
    trainer: Trainer, keys: dict[str, Metadata], caller: str
) -> None:
    """Every method is refused to exactly those it is not for, before anything of the request is looked at."""
    refused = {name for name in METHODS if await refusal(trainer, METHODS[name], keys[caller]) in REFUSED}

    assert refused == {name for name in METHODS if caller not in allowed_for(name)}


def test_every_method_of_tenants_has_a_foreign_name() -> None:
    """The next test leaves no method out."""
    assert FOREIGN_NAMES.keys() == (TENANT | TENANT_AND_SERVER) - NOT_SERVED


async def test_a_foreign_thing_does_not_exist(trainer: Trainer, keys: dict[str, Metadata]) -> None:
    """Another tenant's thing is NOT_FOUND to every method, whether it exists or not."""
    reasons = {
        method: await refusal(trainer, METHODS[method], keys["tenant"], name) for method, name in FOREIGN_NAMES.items()
    }

    assert reasons == dict.fromkeys(FOREIGN_NAMES, "NOT_FOUND")


async def test_what_is_not_served_says_so(trainer: Trainer, keys: dict[str, Metadata]) -> None:
    """A method of a later release answers UNIMPLEMENTED with its own reason."""
    reasons = {method: await refusal(trainer, METHODS[method], keys["tenant"]) for method in NOT_SERVED}

    assert reasons == dict.fromkeys(NOT_SERVED, "NOT_SERVED")


async def test_a_revoked_key_is_refused(trainer: Trainer, keys: dict[str, Metadata]) -> None:
    """From the moment RevokeApiKey answers, the key is nobody's."""
    listing = registry_service_pb2.ListApiKeysRequest(parent="tenants/aurora")
    (issued,) = (await trainer.registry.ListApiKeys(listing, metadata=keys["admin"])).api_keys
    await trainer.registry.RevokeApiKey(
        registry_service_pb2.RevokeApiKeyRequest(name=issued.name), metadata=keys["admin"]
    )

    assert await refusal(trainer, METHODS["GetTenant"], keys["tenant"], "tenants/aurora") == "KEY_UNKNOWN"


async def test_a_secret_is_shown_once(trainer: Trainer, keys: dict[str, Metadata]) -> None:
    """A listing has the key without its secret."""
    listing = registry_service_pb2.ListApiKeysRequest(parent="tenants/aurora")
    (issued,) = (await trainer.registry.ListApiKeys(listing, metadata=keys["admin"])).api_keys

    assert issued.secret == ""

"""Which key each method takes. A method without a row is refused to everybody; a test compares the rows with the contract."""

from collections.abc import Mapping

from adaptory.core.auth import Role

_ADMIN = frozenset({Role.ADMIN})
_SERVER = frozenset({Role.SERVER})
# The operator's key is taken wherever a tenant's is.
_TENANT = frozenset({Role.ADMIN, Role.TENANT})
_TENANT_AND_SERVER = _TENANT | _SERVER

_REGISTRY = "/adaptory.registry.v1.RegistryService"
_USAGE = "/adaptory.registry.v1.UsageService"
_TRAINER = "/adaptory.trainer.v1.TrainerService"

ACCESS: Mapping[str, frozenset[Role]] = {
    f"{_REGISTRY}/CreateTenant": _ADMIN,
    f"{_REGISTRY}/GetTenant": _TENANT,
    f"{_REGISTRY}/ListTenants": _ADMIN,
    f"{_REGISTRY}/UpdateTenant": _ADMIN,
    f"{_REGISTRY}/CreateApiKey": _ADMIN,
    f"{_REGISTRY}/ListApiKeys": _ADMIN,
    f"{_REGISTRY}/RevokeApiKey": _ADMIN,
    f"{_REGISTRY}/CreateDataset": _TENANT,
    f"{_REGISTRY}/AppendDatasetChunk": _TENANT,
    f"{_REGISTRY}/FinalizeDataset": _TENANT,
    f"{_REGISTRY}/GetDataset": _TENANT,
    f"{_REGISTRY}/ListDatasets": _TENANT,
    f"{_REGISTRY}/CreateBot": _TENANT,
    f"{_REGISTRY}/GetBot": _TENANT,
    f"{_REGISTRY}/ListBots": _TENANT,
    f"{_REGISTRY}/SetAnswerSchema": _ADMIN,
    f"{_REGISTRY}/GetVersion": _TENANT,
    f"{_REGISTRY}/ListVersions": _TENANT,
    f"{_REGISTRY}/PromoteVersion": _TENANT,
    f"{_REGISTRY}/SetCanary": _TENANT,
    f"{_REGISTRY}/SetShadow": _TENANT,
    f"{_REGISTRY}/EndCanary": _SERVER,
    f"{_REGISTRY}/RollbackBot": _TENANT,
    f"{_REGISTRY}/RetireVersion": _TENANT,
    f"{_REGISTRY}/DownloadAdapter": _TENANT_AND_SERVER,
    f"{_REGISTRY}/ImportAdapter": _TENANT,
    f"{_REGISTRY}/WatchServing": _SERVER,
    f"{_USAGE}/ReportUsage": _SERVER,
    f"{_USAGE}/ListUsage": _TENANT,
    f"{_TRAINER}/PlanTrainingJob": _TENANT,
    f"{_TRAINER}/CreateTrainingJob": _TENANT,
    f"{_TRAINER}/GetTrainingJob": _TENANT,
    f"{_TRAINER}/ListTrainingJobs": _TENANT,
    f"{_TRAINER}/WatchTrainingJob": _TENANT,
    f"{_TRAINER}/CancelTrainingJob": _TENANT,
    f"{_TRAINER}/PauseTrainingJob": _TENANT,
    f"{_TRAINER}/ResumeTrainingJob": _TENANT,
}

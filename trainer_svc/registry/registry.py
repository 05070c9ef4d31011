"""All nouns of the registry in one value."""

from dataclasses import dataclass

from trainer_svc.importing.importer import Importer
from trainer_svc.registry.artifacts import ArtifactStore
from trainer_svc.registry.bots import Bots
from trainer_svc.registry.datasets import Datasets
from trainer_svc.registry.feed import ServingFeed
from trainer_svc.registry.keys import ApiKeys
from trainer_svc.registry.routes import RouteTable
from trainer_svc.registry.tenants import Tenants
from trainer_svc.registry.uploads import Uploads
from trainer_svc.registry.versions import Versions


@dataclass(frozen=True, slots=True)
class Registry:
    """The nouns of the registry, built by `app.py`."""

    tenants: Tenants
    keys: ApiKeys
    datasets: Datasets
    uploads: Uploads
    bots: Bots
    versions: Versions
    routes: RouteTable
    feed: ServingFeed
    artifacts: ArtifactStore
    importer: Importer

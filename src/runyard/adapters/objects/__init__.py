"""The port of object stores over what a manifest can name: S3, the embedded store, folders of a machine."""

from runyard.adapters.objects.every_kind import Stores
from runyard.adapters.objects.folder import FolderStore

__all__ = ["FolderStore", "Stores"]

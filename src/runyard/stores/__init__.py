"""Object stores of every kind behind one small interface: S3, the server's embedded store, folders of the machine."""

from runyard.stores.errors import StoreError, StoreFault
from runyard.stores.keys import check_bucket, check_key, join
from runyard.stores.opening import open_place
from runyard.stores.place import EmbeddedAccess, PlaceStore, Target
from runyard.stores.volume import volume_folder

__all__ = [
    "EmbeddedAccess",
    "PlaceStore",
    "StoreError",
    "StoreFault",
    "Target",
    "check_bucket",
    "check_key",
    "join",
    "open_place",
    "volume_folder",
]

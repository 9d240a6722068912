"""An OpenID Connect issuer over HTTP: see :class:`runyard.ports.issuer.Issuer`."""

from runyard.adapters.oidc.fetching import Fetching as Fetching
from runyard.adapters.oidc.provider import Provider as Provider

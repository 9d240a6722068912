"""Manifests: YAML text in either dialect to run specifications. The only room that knows YAML."""

from runyard.manifest.converting import Conversion, modernise
from runyard.manifest.durations import parse as parse_duration
from runyard.manifest.metrics import compile_regex, expand_macros
from runyard.manifest.options import RESERVED, variable_name
from runyard.manifest.overrides import Overrides
from runyard.manifest.parsing import Parsed, parse
from runyard.manifest.schema import schema
from runyard.manifest.templates import generate

__all__ = [
    "RESERVED",
    "Conversion",
    "Overrides",
    "Parsed",
    "compile_regex",
    "expand_macros",
    "generate",
    "modernise",
    "parse",
    "parse_duration",
    "schema",
    "variable_name",
]

"""The operator's settings: read strictly, so that a slip is told and not ignored."""

from pathlib import Path

import pytest

from runyard.core.resources import Price, Resources
from runyard.settings import Settings, SettingsError, load


def write(home: Path, text: str) -> Path:
    (home / "settings.toml").write_text(text)
    return home


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert load(tmp_path) == Settings()


def test_all_of_them(tmp_path: Path) -> None:
    text = """
host_paths = ["/data", "/srv/sets"]
price_gpu_hour = 1.5
price_cpu_hour = 0
price_gb_hour = 0.000001
uid_base = 70000
allow_system_calls = ["perf_event_open", "unshare"]
ca_file = "/etc/ca.pem"
node_lost_after_s = 30
store_url = "postgresql://db/runyard"
cache_gib = 0.5
upload_limit_mib = 10
platform_attempts = 0
[compute_configurations.huge]
gpus = 8
cpus = 0.5
memory_gb = 1.5
"""
    found = load(write(tmp_path, text))
    assert found.host_paths == ("/data", "/srv/sets")
    assert found.allow_system_calls == ("perf_event_open", "unshare")
    assert found.price == Price(1_500_000, 0, 1)
    assert (found.node_lost_after_s, type(found.node_lost_after_s)) == (30.0, float)
    assert found.configurations["huge"].resources == Resources(8, 500, 1536)
    assert found.configurations["small"].resources == Resources(1, 6000, 12 * 1024)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("cache_gb = 1", "unknown setting cache_gb; did you mean cache_gib?"),
        ("zzzzz = 1", "unknown setting zzzzz; there are advertise_url,"),
        ("uid_base = ", "settings.toml: "),
        ("host_paths = '/data'", "host_paths is a list of texts"),
        ("host_paths = [1]", "host_paths is a list of texts"),
        ("uid_base = 1.5", "uid_base is a whole number, 0 or more"),
        ("users = 3", 'users is "system" or a table'),
        ("[users]\nmia = {uid = 0}", "users mia: the user id 0 is the system's"),
        ("[users]\nmia = {uid = 50001}", "users mia: the ids from 50000 on"),
        ("uid_base = 500", "uid_base is 1000 or more"),
        ("host_paths = ['data:rw']", "host_paths 'data:rw' is not the absolute path"),
        ("allow_system_calls = ['ptrac']", "'ptrac' is none of the calls that are refused; did you mean ptrace?"),
        ("allow_system_calls = ['read']", "none of the calls that are refused"),
        ("allow_system_calls = true", "allow_system_calls is a list of texts"),
        ("uid_base = true", "uid_base is a whole number, 0 or more"),
        ("platform_attempts = -1", "platform_attempts is a whole number, 0 or more"),
        ("price_gpu_hour = '1'", "price_gpu_hour is a number, 0 or more"),
        ("price_gpu_hour = nan", "price_gpu_hour is a number, 0 or more"),
        ("node_lost_after_s = inf", "node_lost_after_s is a number, 0 or more"),
        ("node_lost_after_s = -1", "node_lost_after_s is a number, 0 or more"),
        ("ca_file = 3", "ca_file is a text"),
        ("store_url = []", "store_url is a text"),
        ("compute_configurations = 3", "[compute_configurations.NAME] has gpus, cpus and memory_gb"),
        ("[compute_configurations.x]\ngpus = 1", "[compute_configurations.NAME] has gpus"),
        ("[compute_configurations.x]\ngpus = '1'\ncpus = 1\nmemory_gb = 1", "each a number"),
        ("[compute_configurations.x]\ngpus = 1.5\ncpus = 1\nmemory_gb = 1", "each a number"),
        ("[compute_configurations.x]\ngpus = -1\ncpus = 1\nmemory_gb = 1", "each a number"),
        ("[compute_configurations.x]\ngpus = 1\ncpus = nan\nmemory_gb = 1", "each a number"),
        ("[compute_configurations.x]\ngpus = 1\ncpus = 1\nmemory_gb = 1\ncolour = 1", "each a number"),
    ],
)
def test_slips_are_told(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(write(tmp_path, text))
    assert sentence in error.value.message
    assert error.value.message.startswith(str(tmp_path / "settings.toml"))
    assert error.value.code == "invalid_settings"


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_bytes(b"\xff")
    with pytest.raises(SettingsError):
        load(tmp_path)
    (tmp_path / "settings.toml").unlink()
    (tmp_path / "settings.toml").mkdir()
    with pytest.raises(SettingsError, match="cannot be read"):
        load(tmp_path)

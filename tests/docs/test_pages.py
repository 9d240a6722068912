"""What the tutorial and the how-to pages tell to type works, on a real installation."""

from pathlib import Path

import pytest

from tests.docs.pages import Block, blocks, commands, matches, run_page
from tests.support.installation import RUNYARD, Installation, take_down
from tests.support.seaweedfs import S3Server, create_bucket, put_text

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "tutorial.md", *sorted((DOCS / "howto").glob("*.md"))]
SKIPPED = {
    "the tests have it installed from this folder",
    "this is the loop that is replaced",
    "needs conda",
    "needs a registry",
    "needs an engine",
    "put your own in their place",
    "changes the settings of the installation",
}
PATH = f"export PATH={RUNYARD.parent}:$PATH\n"

pytestmark = [pytest.mark.story, pytest.mark.timeout(180)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_not_run_says_why_and_files_have_names(page: Path) -> None:
    found = blocks(page)
    assert {block.skipped for block in found} - {""} <= SKIPPED
    assert {block.kind for block in found} <= {"bash", "python", "yaml", "text"}
    assert len(commands(found)) > 0


@pytest.mark.slow
def test_the_tutorial(tmp_path: Path) -> None:
    """From `up` to `down`; only the port is another, and there are two slots whatever the machine has."""
    home = tmp_path / "home"
    own = 'runyard() { [ "$1" = up ] && set -- "$@" --port 0 --fake-gpus 2; command runyard "$@"; }'
    (folder := tmp_path / "work").mkdir()
    try:
        outputs = run_page(DOCS / "tutorial.md", folder, PATH + own, {"RUNYARD_HOME": str(home)})
    finally:
        if (home / "up.json").exists():
            take_down(home)
    assert any("checkpoints/step-50.json" in said for said in outputs)
    assert [path.name for path in (tmp_path / "results").glob("*/model/*")] == ["weight.json"]


@pytest.mark.parametrize("name", [page.stem for page in PAGES[1:] if page.stem != "s3"])
def test_a_page(four_slots: Installation, tmp_path: Path, name: str) -> None:
    (folder := tmp_path / "work").mkdir()
    run_page(DOCS / "howto" / f"{name}.md", folder, PATH, {"RUNYARD_HOME": str(four_slots.home)})


@pytest.mark.s3
def test_the_page_about_s3(four_slots: Installation, tmp_path: Path, s3_server: S3Server) -> None:
    put_text(create_bucket(s3_server, "howto-data"), "train.txt", "twelve bytes")
    create_bucket(s3_server, "howto-results")
    environment = {
        "RUNYARD_HOME": str(four_slots.home),
        "S3_ENDPOINT": s3_server.endpoint_url,
        "AWS_ACCESS_KEY_ID": s3_server.access_key_id,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_access_key,
    }
    (folder := tmp_path / "work").mkdir()
    outputs = run_page(DOCS / "howto" / "s3.md", folder, PATH, environment)
    assert outputs[-1].strip().endswith("12")


def test_a_page_that_is_wrong_is_found_out(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```bash\necho one two\n```\n```text\none ...wo\n```\n<!-- exit: 3 -->\n```bash\n(exit 3)\n```\n")
    assert run_page(page, tmp_path, "", {}) == ["one two\n", ""]
    assert blocks(page)[2] == Block("bash", "(exit 3)\n", 8, 3)
    for old, new, complaint in (
        ("one ...wo", "one ...ho", "does not say"),
        ("(exit 3)", "(exit 4)", "ended with 99"),
        ("echo one two", "echo one two; false; true", "page.md:1 ended with 1"),
    ):
        page.write_text(page.read_text().replace(old, new))
        with pytest.raises(AssertionError, match=complaint):
            run_page(page, tmp_path, "", {})
        page.write_text(page.read_text().replace(new, old))
    assert not matches("a...b", "b a")

"""What is written is read back as the same tree."""

from hypothesis import given, settings
from hypothesis import strategies as st

from runyard.manifest.nodes import Entry, ListNode, MapNode, Node, ScalarNode, compose
from runyard.manifest.writing import write
from tests.manifest.reading import FFDL, SERVICE

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=15)
QUOTED = st.one_of(TEXT, st.text("ab: #-'\"\n|>&*!%@`[]{},?", max_size=12)).map(lambda text: ScalarNode(text, 0, False))
PLAIN = st.sampled_from(["1.50", "007", "yes", "null", "~", "", "2018-01-01", "1e3", "0x1F", "a b", "x", "k80", "1:30"])
SCALARS = st.one_of(QUOTED, PLAIN.map(lambda text: ScalarNode(text, 0, True)))
KEYS = st.sampled_from(["name", "a.b", "1", "on", "x y", "", "ü", ":", "<<", "#"])


def mapping(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    entries = st.lists(st.tuples(KEYS, inner), max_size=4, unique_by=lambda pair: pair[0])
    return entries.map(lambda pairs: MapNode(tuple(Entry(key, 0, value) for key, value in pairs)))


def several(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    return st.one_of(mapping(inner), st.lists(inner, max_size=3).map(lambda items: ListNode(tuple(items))))


TREES: st.SearchStrategy[Node] = st.recursive(SCALARS, several, max_leaves=12)


def bare(node: Node) -> object:
    """A tree without its lines; words that stand without quotes are marked."""
    if isinstance(node, ScalarNode):
        return (node.text, node.plain)
    if isinstance(node, ListNode):
        return [bare(item) for item in node.items]
    return [(entry.key, bare(entry.value)) for entry in node.entries]


@settings(max_examples=150, deadline=None)
@given(mapping(TREES))
def test_any_tree_is_read_back(root: Node) -> None:
    assert bare(compose(write(root))) == bare(root)


def test_manifests_are_read_back() -> None:
    for text in (SERVICE, FFDL):
        assert bare(compose(write(compose(text)))) == bare(compose(text))

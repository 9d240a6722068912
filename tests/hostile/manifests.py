"""Hostile manifests: each is submitted, and examined beside it."""

from __future__ import annotations

import json

from tests.hostile.case import Case

GOOD = """model_definition:
  name: digits
  execution:
    command: python3 train.py
    compute_configuration: {name: small}
training_results_reference:
  type: local
  target: {bucket: results}
"""
_RUNYARD = GOOD + "runyard:\n  "
KIND = "manifest"


def submitted(what: str, body: object, words: str, **more: object) -> Case:
    """A body of a submission."""
    status, code = more.pop("status", 422), more.pop("code", "invalid_request")
    return Case("submission", what, lambda yard: yard.call("POST", "/training-runs", body), status, code, words, **more)  # type: ignore[arg-type]  # the row's own fields


def text(what: str, manifest: str, words: str, line: int | None = None, path: str | None = None) -> Case:
    """A manifest's text that is refused."""
    return Case(
        KIND,
        what,
        lambda yard: yard.call("POST", "/training-runs", {"manifest": manifest}),
        422,
        "invalid_manifest",
        words,
        line,
        path,
    )


def with_key(what: str, key: str, words: str, path: str | None = None, line: int | None = 10) -> Case:
    """A manifest with a line below ``runyard:``."""
    return text(what, _RUNYARD + key + "\n", words, line, path)


def changed(what: str, old: str, new: str, words: str, line: int | None = None, path: str | None = None) -> Case:
    """The good manifest with one text in the place of another."""
    assert old in GOOD
    return text(what, GOOD.replace(old, new), words, line, path)


def laughs() -> str:
    """Aliases of aliases: 10^9 values in ten lines."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join(lines)


TEXTS = (
    text("empty text", "", "The manifest is empty"),
    text("nothing but spaces and line feeds", " \n\n  \n", "The manifest is empty"),
    text("a comment alone", "# nothing\n", "The manifest is empty"),
    text("a single word", "hello", "A manifest is a table of keys, not a single value", 1),
    text("a list", "- a\n- b\n", "A manifest is a table of keys, not a list", 1),
    text("a table of no dialect", "zzzz: 1\n", "This is no manifest"),
    text("YAML bomb: aliases of aliases, 10^9 values", laughs(), "more than 50000 values, aliases written out", 5),
    text("100,000 values written out", "a: [" + "1," * 100_000 + "1]", "more than 50000 values"),
    text("an alias of nothing", GOOD + "a: *nothing\n", "stands for nothing written before it", 9),
    text("an anchor within itself", "a: &a [*a]\n", "stands for nothing written before it", 1),
    text("merge of a text", GOOD + "<<: text\n", "`<<` takes in another table", 9),
    text("merge of a bomb", laughs() + "\n<<: *a9\n", "more than 50000 values"),
    text("a tag of Python: !!python/object/apply", 'a: !!python/object/apply:os.system ["id"]\n', "A tag", 1),
    text("a tag of one's own", "a: !x y\n", "A tag (a value that begins with `!`)", 1),
    text("a harmless tag: !!str", GOOD.replace("name: digits", "name: !!str digits"), "A tag", 2),
    text("two documents", GOOD + "---\n" + GOOD, "There is a second document", 9),
    text("a directive of another YAML", "%YAML 9.9\n---\n" + GOOD, "YAML", None),
    text("NUL in the text", GOOD + "x: a\0b\n", "U+0000 has no place in a manifest", 9),
    text("ESC in the text", GOOD + "x: \x1b[2J\n", "U+001B has no place", 9),
    text("NUL by an escape", GOOD.replace("digits", '"a\\0b"'), "A value holds a control character", 2),
    text(
        "half a character by an escape",
        GOOD.replace("digits", '"\\uD800"'),
        "A backslash between double quotes stands for no character: use single",
        2,
    ),
    text("U+FFFF", GOOD + "x: \uffff\n", "U+FFFF has no place", 9),
    text("nested 1,000 levels deep, in brackets", "[" * 1000, "nested more than 32 levels", 1),
    text("nested 100,000 levels deep, in brackets", "[" * 100_000, "nested more than 32 levels", 1),
    text(
        "nested 500 levels deep, by indents", "".join(" " * n + "a:\n" for n in range(500)), "nested more than 32", 32
    ),
    text("10 MiB of text", GOOD + "# " + "x" * (10 << 20), "at most 1 MiB of text"),
    text("1 MiB of text and a byte", GOOD + "#" * ((1 << 20) + 1 - len(GOOD)), "at most 1 MiB of text"),
    text("half a list", "a: [1, 2\n", "The indentation or a bracket does not fit what began on line 1", None),
    text("a tab as indent", "model_definition:\n\tname: x\n", "A tab begins this line", 2),
    text("a quote without end", 'a: "x\n', "The quote that begins on line 1 is never closed", None),
    text("a table as key", "{a: b}: c\n", "A key must be a word", 1),
    text("a list as key", "? [a]\n: c\n", "A key must be a word", 1),
    text("a key twice", GOOD + "model_definition: {}\n", "twice", 9),
    text("a key twice, deeper", GOOD.replace("  name: digits", "  name: a\n  name: b"), "twice", 3),
    text("both dialects at once", GOOD + "framework: {name: x}\n", "of one dialect", 9),
    text("an experiment", "training_references: []\n", "describes an experiment", 1),
    text("a million keys of one letter", "a: 1\n" * 200_000, "more than 50000 values"),
)
KEYS = (
    changed("a list as name", "name: digits", "name: [a]", "This must be text, not a list", 2, "model_definition.name"),
    changed(
        "a table as command",
        "command: python3 train.py",
        "command: {a: b}",
        "This must be text, not a table of keys",
        4,
    ),
    changed("an empty command", "command: python3 train.py", 'command: ""', "The command is empty", 4),
    changed("a command with NUL", "command: python3 train.py", 'command: "a\\0b"', "control character", 4),
    changed(
        "a name of 10,000 letters",
        "digits",
        "x" * 10_000,
        "This has more than 256 characters",
        2,
        "model_definition.name",
    ),
    changed(
        "a size that nobody knows",
        "small",
        "enormous",
        "There is no compute configuration `enormous`: known here: cpu, k80,",
        5,
    ),
    changed(
        "a bucket that leads out",
        "bucket: results",
        "bucket: ../../etc",
        "A bucket has letters, digits, `.`, `_` and `-`, and begins with a",
        8,
    ),
    changed(
        "a bucket that is absolute",
        "bucket: results",
        "bucket: /etc",
        "A bucket has letters, digits, `.`, `_` and `-`, and begins with a",
        8,
    ),
    changed("a bucket with NUL", "bucket: results", 'bucket: "a\\0"', "control character", 8),
    changed(
        "a type of store that is none",
        "type: local",
        "type: floppy",
        "`floppy` is none of the words known here: s3, local, mount_volume,",
        7,
    ),
    with_key(
        "priority of 10^9", "priority: 1000000000", "This must be a whole number from 0 to 100", "runyard.priority"
    ),
    with_key("priority below 0", "priority: -1", "This must be a whole number from 0 to 100", "runyard.priority"),
    with_key("priority in words", "priority: highest", "This must be a whole number from 0 to 100", "runyard.priority"),
    with_key(
        "priority of 5,000 digits",
        "priority: " + "9" * 5000,
        "This must be a whole number from 0 to 100",
        "runyard.priority",
    ),
    with_key("priority of 1.5", "priority: 1.5", "This must be a whole number from 0 to 100", "runyard.priority"),
    with_key("max_runtime without end: .inf", "max_runtime: .inf", "no duration", "runyard.max_runtime"),
    with_key("max_runtime of 10^12 days", "max_runtime: 999999999999d", "at most 3650 days", "runyard.max_runtime"),
    with_key("max_runtime below 0", "max_runtime: -5", "no duration", "runyard.max_runtime"),
    with_key(
        "max_retries of 10^9",
        "max_retries: 1000000000",
        "This must be a whole number from 0 to 1000",
        "runyard.max_retries",
    ),
    with_key("grace of a year", "grace: 365d", "at most 1h", "runyard.grace"),
    with_key("shm of 10^12 TB", "shm: 999999999999Tb", "at most 1024 TiB", "runyard.shm"),
    with_key("env as a list", "env: [a]", "This must be a table of names and values, not a list", "runyard.env"),
    with_key(
        "a variable with = in its name",
        'env: {"A=B": c}',
        "A name here cannot be an environment variable: use letters, digits",
        None,
    ),
    with_key("a variable that loads code: LD_PRELOAD with NUL", 'env: {LD_PRELOAD: "\\0"}', "control character", None),
    with_key(
        "hyper-parameters nested",
        "hyper_parameters: {a: {b: c}}",
        "This must be one value (--set gives several to a sweep), not a table",
        None,
    ),
    with_key("tags as a table", "tags: {a: b}", "This must be text, not a table of keys", "runyard.tags"),
    with_key("a tag of 10,000 letters", "tags: [" + "x" * 10_000 + "]", "This has more than 64 characters", None),
    with_key(
        "outputs that lead out",
        'outputs: ["../../etc/*"]',
        "This must be a pattern of file names below the working directory,",
        None,
    ),
    with_key(
        "outputs that are absolute",
        "outputs: [/etc/passwd]",
        "This must be a pattern of file names below the working directory,",
        None,
    ),
    with_key(
        "after: no id", 'after: ["; DROP TABLE runs"]', "This must be the whole id of a training run, such as", None
    ),
    with_key(
        "start_from: no id",
        "start_from: ../../x",
        "This must be the whole id of a training run, such as",
        "runyard.start_from",
    ),
    with_key(
        "launch of one's own",
        "launch: rocket",
        "`rocket` is none of the words known here: learner, gpu",
        "runyard.launch",
    ),
    with_key("a key that nobody knows", "priorty: 5", "priority", None),
    with_key("network: maybe", "network: maybe", "This must be on or off", "runyard.network"),
    text(
        "learners: 10^9",
        'name: a\ngpus: 1\nlearners: 1000000000\nframework: {name: pytorch, command: "a"}\n',
        "This must be a whole number from 1 to 1000",
        3,
    ),
    text(
        "gpus: -1",
        'name: a\ngpus: -1\nframework: {name: pytorch, command: "a"}\n',
        "This must be a whole number from 0 to 1000",
        2,
        "gpus",
    ),
    text(
        "gpus: NaN",
        'name: a\ngpus: .nan\nframework: {name: pytorch, command: "a"}\n',
        "This must be a whole number from 0 to 1000",
        2,
        "gpus",
    ),
    text(
        "memory: 10^300",
        'name: a\nmemory: 1e300\nframework: {name: pytorch, command: "a"}\n',
        "This is no size: write it with its unit, such as 512MiB, 2GB or 1Gb",
        2,
        "memory",
    ),
    text(
        "cpus: 1e400",
        'name: a\ncpus: 1e400\nframework: {name: pytorch, command: "a"}\n',
        "This must be a number above 0, at most 100000",
        2,
        "cpus",
    ),
)
_OVER = {"manifest": GOOD}
BODIES = (
    submitted("an empty body", b"", "one JSON object"),
    submitted("no JSON", b"manifest=1", "one JSON object"),
    submitted("a list in the place of the object", [], "body: the body is one JSON object; NaN, Infinity and half characters"),
    submitted("null", b"null", "body: the body is one JSON object; NaN, Infinity and half characters"),
    submitted("JSON cut off", b'{"manifest": "a', "one JSON object"),
    submitted("NaN as a hyper-parameter", b'{"manifest": "a", "parameters": [{"lr": NaN}]}', "NaN"),
    submitted("Infinity in the provenance", b'{"manifest": "a", "provenance": {"a": Infinity}}', "NaN"),
    submitted("half a character in the provenance", b'{"manifest": "a", "provenance": {"a": "\\ud800"}}', "surrogates"),
    submitted("no UTF-8 in a string", b'{"manifest": "\xff\xfe"}', "one JSON object"),
    submitted("BOM in front of the JSON", b'\xef\xbb\xbf{"manifest": "a"}', "one JSON object"),
    submitted("JSON nested 100,000 levels deep", b'{"provenance": ' + b"[" * 100_000, "one JSON object"),
    submitted(
        "JSON nested 100,000 levels deep, and closed again",
        b'{"manifest": "a", "provenance": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        "one JSON object",
    ),
    submitted("a field that nobody knows", {"manifest": GOOD, "sudo": True}, "sudo"),
    submitted(
        "a million unknown fields",
        b"{" + b",".join(b'"f%d":1' % n for n in range(1_000_000)) + b"}",
        "no field of this body",
    ),
    submitted("a number as manifest", {"manifest": 7}, "one text"),
    submitted("ten million empty lists as manifest", b'{"manifest": [' + b"[]," * 10_000_000 + b"[]]}", "one text"),
    submitted("a number of 5,000 digits", b'{"manifest": "a", "force": ' + b"9" * 5000 + b"}", "one JSON object"),
    submitted("sweep: ten million numbers", b'{"manifest": "a", "parameters": [' + b"1," * 10_000_000 + b"1]}", "250000"),
    submitted(
        "sweep: ten million empty objects",
        b'{"manifest": "a", "parameters": [' + b"{}," * 10_000_000 + b"{}]}",
        "at most 250000 runs",
    ),
    submitted(
        "sweep: 250,001 runs",
        json.dumps({"manifest": GOOD, "parameters": [{}] * 250_001}).encode(),
        "at most 250000 runs",
    ),
    submitted(
        "sweep: a run with 4 million hyper-parameters",
        b'{"manifest": "a", "parameters": [{' + b",".join(b'"%x":1' % n for n in range(3_000_000)) + b"}]}",
        "at most 65536 bytes",
    ),
    submitted(
        "sweep: a hyper-parameter of 30 MiB",
        b'{"manifest": "a", "parameters": [{"a": "' + b"x" * (30 << 20) + b'"}]}',
        "at most 65536 bytes",
    ),
    submitted("a hyper-parameter that is a list", {"manifest": GOOD, "parameters": [{"a": [1]}]}, "texts, numbers"),
    submitted("two million nulls in the provenance", b'{"manifest": "a", "provenance": {"a": [' + b"null," * 2_000_000 + b"1]}}", "at most 1048576 bytes"),
    submitted(
        "a path laid over that leads into nothing",
        {"manifest": GOOD, "overrides": {"paths": {"a.b.c.d": "x"}}},
        "This key is unknown: known here: model_definition, runyard,",
        code="invalid_manifest",
    ),
    submitted(
        "a path of 10,000 parts laid over",
        {"manifest": GOOD, "overrides": {"paths": {".".join("a" * 10_000): "x"}}},
        "a.a.a.a.a.a",
        code="invalid_manifest",
    ),
    submitted("priority 10^30 laid over", {"manifest": GOOD, "overrides": {"priority": 10**30}}, "This must be a whole number from 0 to 100", code="invalid_manifest"),
    submitted("gpus 10^9 laid over", {"manifest": GOOD, "overrides": {"gpus": 10**9}}, "This must be a whole number from 0 to 1000", code="invalid_manifest"),
    submitted("gpus -1 laid over", {"manifest": GOOD, "overrides": {"gpus": -1}}, "This must be a whole number from 0 to 1000", code="invalid_manifest"),
    submitted("more GPUs than any machine has", {"manifest": GOOD, "overrides": {"gpus": 60}}, "The run asks for 60 GPUs and the largest machine has 4: ask for 4 or", status=409, code="refused"),
    submitted("max_runtime without end laid over", {"manifest": GOOD, "overrides": {"max_runtime": "1e999"}}, "no duration", code="invalid_manifest"),
    submitted("after a run of nobody", {"manifest": GOOD, "overrides": {"after": ["training-aaaaaaaaa"]}}, "There is no training run", status=409, code="refused"),
    submitted("code that was never uploaded", {"manifest": GOOD, "definition": "0" * 64}, "The model definition 000000000000 is not here: upload it first", status=404, code="not_found"),
    submitted("code by a path", {"manifest": GOOD, "definition": "../../../etc/passwd"}, "The model definition ../../../etc is not here: upload it first", status=404, code="not_found"),
    submitted("a connection of nobody", {"manifest": GOOD.replace("  type: local\n", "  type: s3\n  connection: {name: nobody}\n")}, "There is no connection", status=404, code="not_found"),
    submitted("a folder of the host", {"manifest": GOOD.replace("type: local", "type: mount_volume").replace("target: {bucket: results}", "connection: {path: /etc}\n  target: {bucket: x}")}, "training results: The host path /etc/x may not be used: none is", code="store_denied"),
    submitted("a container image", {"manifest": 'name: a\nframework: {name: custom, version: "../Evil Image:latest", command: "a"}\n'}, "'../Evil Image:latest' is no name of a container image: it has small", code="invalid_manifest"),
)  # fmt: skip
CASES = (*TEXTS, *KEYS, *BODIES)

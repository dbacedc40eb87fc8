"""The service: ``service.py ADDRESS FOLDER``. An operation is a child process that transcodes."""

import asyncio
import os
import signal
import sys
import wave
from pathlib import Path

import grpc.aio
import media_lro
from media_pb2 import Recording, TranscodeRequest

import lro_grpc
from lro.v1.operation_metadata_pb2 import OperationMetadata

ENCODE = Path(__file__).with_name("encode.py")
TO_STOP = 5
"""Seconds that a child has to end after SIGTERM."""


class TranscoderService(media_lro.AsyncTranscoderServiceServicer):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @lro_grpc.MethodOptions(concurrency=os.cpu_count(), exclusive=True)
    async def Transcode(
        self, request: TranscodeRequest, op: lro_grpc.AsyncOperationContext[OperationMetadata]
    ) -> Recording:
        source, made = self._folder / request.source, self._folder / _made_of(request)
        self._forget(op.id)  # what an attempt has left whose server was killed
        written = self._folder / f"{op.id}.{op.attempt}.part"  # of this attempt alone
        try:
            await _encode(source, written, request.rate, op)
            written.replace(made)  # whole, or not at all
        finally:
            self._forget(op.id)
        return Recording(file=made.name, rate=request.rate, samples=_samples_of(made))

    async def prepare_Transcode(
        self, request: TranscodeRequest, context: lro_grpc.AsyncPrepareContext
    ) -> lro_grpc.Prepared:
        """Refuses what can be known to fail before anything is stored."""
        if Path(request.source).name != request.source:
            raise lro_grpc.InvalidArgumentError(f"source is {request.source!r}; give a file's name")
        if not 1000 <= request.rate <= 48_000:
            raise lro_grpc.InvalidArgumentError(f"rate is {request.rate}; give 1000 to 48000")
        source = self._folder / request.source
        if not source.exists():
            raise lro_grpc.LroError(f"there is no {source.name}", code=lro_grpc.Code.NOT_FOUND)
        return lro_grpc.Prepared(target=f"recordings/{_made_of(request)}")

    def _forget(self, operation_id: str) -> None:
        for part in self._folder.glob(f"{operation_id}.*.part"):
            part.unlink(missing_ok=True)


async def _encode(
    source: Path, target: Path, rate: int, op: lro_grpc.AsyncOperationContext[OperationMetadata]
) -> None:
    """Runs the child, and takes it along when the attempt has to stop."""
    command = (sys.executable, ENCODE, source, target, str(rate))
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        *command, stdout=pipe, stderr=pipe, start_new_session=True
    )
    assert child.stdout is not None
    assert child.stderr is not None
    errors = asyncio.create_task(child.stderr.read())
    seconds = _samples_of(source) / _rate_of(source)
    try:
        async for line in child.stdout:
            done = float(line.partition(b"=")[2])
            op.progress(100 * done / seconds, f"{done:.0f} of {seconds:.0f} s")
        code = await child.wait()
    finally:
        if child.returncode is None:  # a cancel, a shutdown, or a lost lease
            await _end(child)
    if code != 0:
        *_, last = (await errors).decode(errors="replace").splitlines() or ["no message"]
        raise lro_grpc.LroError(f"the encoder has failed: {last}", code=lro_grpc.Code.INTERNAL)


async def _end(child: asyncio.subprocess.Process) -> None:
    os.killpg(child.pid, signal.SIGTERM)
    try:
        await asyncio.wait_for(child.wait(), TO_STOP)
    except asyncio.TimeoutError:
        os.killpg(child.pid, signal.SIGKILL)
        await child.wait()


def _made_of(request: TranscodeRequest) -> str:
    return f"{Path(request.source).stem}-{request.rate}.wav"


def _samples_of(file: Path) -> int:
    with wave.open(str(file), "rb") as sound:
        return sound.getnframes()


def _rate_of(file: Path) -> int:
    with wave.open(str(file), "rb") as sound:
        return sound.getframerate()


async def main(address: str, folder: Path) -> None:
    server = grpc.aio.server()
    operations = lro_grpc.Operations(f"sqlite:///{folder}/operations.db")
    registrar = operations.attach(server)
    media_lro.add_TranscoderServiceServicer_to_server(TranscoderService(folder), registrar)
    server.add_insecure_port(address)
    await operations.run(server)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))

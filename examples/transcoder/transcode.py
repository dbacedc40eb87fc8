"""A caller of the transcoder, who cancels an operation, and kills the server during another one.

$ python transcode.py
short.wav: made short-8000.wav, of 80000 samples
none.wav: NOT_FOUND: there is no none.wav
long.wav: operations/op-… was cancelled: the operation was cancelled
long.wav: the server is killed with signal 9, and started again
long.wav: made long-8000.wav, of 4800000 samples, by attempt 2
left over: nothing
"""

import subprocess
import sys
import tempfile
import wave
from pathlib import Path

import grpc
from media_lro import TranscoderServiceClient
from media_pb2 import TranscodeRequest

import lro_grpc

SERVICE = Path(__file__).with_name("service.py")


def record(file: Path, seconds: int) -> None:
    """Writes a recording of silence."""
    with wave.open(str(file), "wb") as sound:
        sound.setparams((1, 2, 44_100, 0, "NONE", "not compressed"))
        sound.writeframes(bytes(2 * 44_100 * seconds))


def serve(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, SERVICE, f"unix:{folder}/socket", folder])


def call(folder: Path) -> None:
    server = serve(folder)
    with grpc.insecure_channel(f"unix:{folder}/socket") as channel:
        transcoder = TranscoderServiceClient(channel, wait_for_ready=True)
        short = transcoder.Transcode(TranscodeRequest(source="short.wav", rate=8000)).result()
        print(f"short.wav: made {short.file}, of {short.samples} samples")
        try:
            transcoder.Transcode(TranscodeRequest(source="none.wav", rate=8000))
        except lro_grpc.LroError as error:
            print("none.wav:", error)

        request = TranscodeRequest(source="long.wav", rate=8000)
        future = transcoder.Transcode(request)
        next(update for update in future.updates() if update.status_detail)
        future.cancel()
        print("long.wav:", future.exception())

        future = transcoder.Transcode(request)
        next(update for update in future.updates() if update.status_detail)
        server.kill()
        print(f"long.wav: the server is killed with signal {-server.wait()}, and started again")
        server = serve(folder)
        made = future.result()
        assert future.metadata is not None
        attempt = future.metadata.attempt
        print(f"long.wav: made {made.file}, of {made.samples} samples, by attempt {attempt}")
    server.terminate()
    server.wait()
    print("left over:", ", ".join(part.name for part in folder.glob("*.part")) or "nothing")


with tempfile.TemporaryDirectory() as folder:
    record(Path(folder, "short.wav"), seconds=10)
    record(Path(folder, "long.wav"), seconds=600)
    call(Path(folder))

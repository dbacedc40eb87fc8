"""A transcoder of WAV files: ``encode.py SOURCE TARGET RATE``; stands for ffmpeg.

As ``ffmpeg -progress pipe:1`` it says on stdout how far it is, and it knows nothing of operations.
"""

import sys
import wave
from array import array


def encode(source: str, target: str, rate: int) -> None:
    with wave.open(source, "rb") as old, wave.open(target, "wb") as new:
        new.setparams((1, 2, rate, 0, "NONE", "not compressed"))
        step = old.getframerate() / rate
        total = old.getnframes()
        for begin in range(0, total, old.getframerate()):  # a second of sound at a time
            samples = array("h", old.readframes(old.getframerate()))
            wanted = range(int(len(samples) / step))
            new.writeframes(array("h", (samples[int(n * step)] for n in wanted)).tobytes())
            print(f"out_time={begin / old.getframerate():.0f}", flush=True)


encode(sys.argv[1], sys.argv[2], int(sys.argv[3]))

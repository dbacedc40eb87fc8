"""Operations served as jobs: resources with a state of their own (AIP-152)."""

from __future__ import annotations

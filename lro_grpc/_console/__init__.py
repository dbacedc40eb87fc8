"""A console: pages for the person on call, in front of any server; needs the extra ``console``."""

from __future__ import annotations

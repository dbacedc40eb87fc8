"""Signing in and out: a caller's credential, kept by their browser."""

from __future__ import annotations

from starlette.responses import Response

from lro_grpc._console.security import local_path, problem_of
from lro_grpc._console.visit import Visit

_NOT_TAKEN = "You have given a value before. If you were sent here, the server does not take it."


async def sign_in(visit: Visit) -> Response:
    """Answers with the form for a credential; POST takes it, and leads back."""
    callers = visit.site.callers
    if not callers.sign_in:
        return await visit.no_page()
    where = local_path(visit.query("next"), visit.root)
    if visit.request.method != "POST":
        bad = _NOT_TAKEN if callers.is_signed_in(visit.request, visit.root) else ""
        return await visit.page("signin.html", where=where, bad=bad)
    form = await visit.site.forms.read(visit.request)
    credential = form.fields.get("credential", "").strip()
    if problem := problem_of(credential):
        return await visit.page("signin.html", 400, where=where, bad=problem)
    answer = visit.see_path(where)
    callers.sign(answer, visit.request, credential, visit.root)
    return answer


async def sign_out(visit: Visit) -> Response:
    """Forgets the credential."""
    answer = visit.see("signin" if visit.site.callers.sign_in else "")
    visit.site.callers.sign_out(answer, visit.request, visit.root)
    return answer

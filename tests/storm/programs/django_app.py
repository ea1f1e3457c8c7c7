"""Django in one file: django_app:wsgi for gunicorn, django_app:asgi for uvicorn, with an asynchronous view beside the synchronous one."""

import aio
import calls
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(SECRET_KEY="storm", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=["django.middleware.common.CommonMiddleware"])


def sync_view(request, kind, ident):
    calls.work(kind, ident, int(request.GET["calls"]), int(request.GET["ms"]))
    return HttpResponse(f"{ident}\n")


async def async_view(request, kind, ident):
    await aio.work(kind, ident, int(request.GET["calls"]), int(request.GET["ms"]))
    return HttpResponse(f"{ident}\n")


urlpatterns = [path(f"{kind}/<ident>", async_view, {"kind": kind}) for kind in aio.WAYS] + [path("<kind>/<ident>", sync_view)]
wsgi = get_wsgi_application()
asgi = get_asgi_application()

"""Scripts, styles and images, served below a path that changes with their content."""

from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from openapi_ui_bundles import swagger_ui
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

STATIC = Path(__file__).parent / "static"
SWAGGER_UI_FILES = ("swagger-ui.css", "swagger-ui-bundle.js")
"""The files of the package that are served. Its own HTML page is not: it loads a sample from another host."""
ASSET_HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
}

CLIENT = STATIC / "client" / "channelstream.js"


class Assets:
    """The files of all pages: those that they share, and below the name of a part of the site its own.

    Args:
        folders: by the names of these parts.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders

    @cached_property
    def url(self) -> str:
        """The path of the assets. It contains a hash of their content, so browsers may cache them for ever."""
        digest = sha256(version("openapi-ui-bundles").encode())
        for name, file in sorted(self.files().items()):
            digest.update(name.encode() + file.read_bytes())
        return f"/static/{digest.hexdigest()[:12]}"

    def files(self) -> dict[str, Path]:
        """Return all files, by their path below `url`."""
        folders = {"": STATIC, **{f"{name}/": folder for name, folder in self._folders.items()}}
        return {
            f"{prefix}{file.relative_to(folder).as_posix()}": file
            for prefix, folder in folders.items()
            for file in folder.rglob("*")
            if file.is_file()
        }

    def routes(self) -> list[BaseRoute]:
        """Return routes for the assets and the two files of Swagger UI."""
        return [
            Route(f"{self.url}/swagger-ui/{{name}}", _swagger_ui_file),
            Route(client_url(), _client),
            *(Mount(f"{self.url}/{name}", _Files(directory=path)) for name, path in self._folders.items()),
            # In a checkout the client is a symbolic link into clients/js; in a wheel it is the file itself.
            Mount(self.url, _Files(directory=STATIC, follow_symlink=True)),
        ]


def client_url() -> str:
    """Return the path of the JavaScript client for pages of applications. It is constant within a version."""
    return f"/static/client/{version('channelstream')}/channelstream.js"


async def _client(request: Request) -> Response:
    """Serve the client to pages of any origin. Only a released version may be cached for ever."""
    is_released = "dev" not in version("channelstream")
    caching = ASSET_HEADERS if is_released else ASSET_HEADERS | {"Cache-Control": "no-cache"}
    headers = {**caching, "Access-Control-Allow-Origin": "*"}
    return FileResponse(CLIENT, headers=headers, media_type="text/javascript")


async def _swagger_ui_file(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in SWAGGER_UI_FILES:
        raise HTTPException(404)
    return FileResponse(Path(swagger_ui.static_path) / name, headers=ASSET_HEADERS)


class _Files(StaticFiles):
    """Static files that browsers may cache for ever."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in (200, 206, 304):
                message["headers"] += [(k.lower().encode(), v.encode()) for k, v in ASSET_HEADERS.items()]
            await send(message)

        await super().__call__(scope, receive, with_headers)

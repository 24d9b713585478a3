"""Scripts, styles and images, served below a path that changes with their content."""

from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from openapi_ui_bundles import swagger_ui
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from channelstream.pages.asset import Asset

STATIC = Path(__file__).parent / "static"
SWAGGER_UI_FILES = ("swagger-ui.css", "swagger-ui-bundle.js")
"""The files of the package that are served. Its own HTML page is not: it loads a sample from another host."""
ASSET_HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
}

CLIENT = STATIC / "client" / "channelstream.js"
"""In a checkout a symbolic link into `clients/js`, in a wheel the file itself."""
_CLIENT = Asset(CLIENT)


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
        served = {name: Asset(file) for name, file in self.files().items()}
        served |= {
            f"swagger-ui/{name}": Asset(Path(swagger_ui.static_path) / name) for name in SWAGGER_UI_FILES
        }

        async def serve(request: Request) -> Response:
            found = served.get(request.path_params["name"])
            if found is None:
                raise HTTPException(404)
            return await found.answer(request, ASSET_HEADERS)

        return [Route(client_url(), _client), Route(f"{self.url}/{{name:path}}", serve)]


def client_url() -> str:
    """Return the path of the JavaScript client for pages of applications. It is constant within a version."""
    return f"/static/client/{version('channelstream')}/channelstream.js"


async def _client(request: Request) -> Response:
    """Serve the client to pages of any origin. Only a released version may be cached for ever."""
    is_released = "dev" not in version("channelstream")
    caching = ASSET_HEADERS if is_released else ASSET_HEADERS | {"Cache-Control": "no-cache"}
    return await _CLIENT.answer(request, {**caching, "Access-Control-Allow-Origin": "*"})

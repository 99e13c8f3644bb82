"""The embedded PostgreSQL server."""

from storage.embedded.server import EmbeddedServer as EmbeddedServer
from storage.embedded.sockets import answers as answers

"""A server that answers with the bytes that it is given, a proxy, and certificates, all on loopback."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

API = "api.cloudflare.test"
CLOSE = object()


def answer(content, *headers, status="200 OK"):
    """Return an HTTP answer with its length."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + content


@contextmanager
def listening(serve):
    """Serve each connection in a thread, and yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            with suppress(OSError):
                while True:
                    threading.Thread(target=safely, args=(listener.accept()[0],), daemon=True).start()

        def safely(connection):
            with connection, suppress(OSError):
                serve(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def read_request(connection):
    """Return the head of a request, after all of it was read; empty at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65_536)
        if not piece:
            return ""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    missing = int(length[0].split(b":")[1]) - len(body) if length else 0
    while missing > 0:
        missing -= len(connection.recv(missing))
    return head.decode("latin-1")


@contextmanager
def answering(*pieces, seen=None):
    """Answer each request with pieces: bytes, seconds to wait, or CLOSE."""

    def serve(connection):
        while head := read_request(connection):
            if seen is not None:
                seen.append(head)
            for piece in pieces:
                if piece is CLOSE:
                    return
                if isinstance(piece, bytes):
                    connection.sendall(piece)
                else:
                    time.sleep(piece)

    with listening(serve) as port:
        yield f"http://127.0.0.1:{port}/client/v4"


class Certificates:
    """An authority, and what it vouches for."""

    def __init__(self, folder):
        self._key, self._folder = ec.generate_private_key(ec.SECP256R1()), folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        self.path = folder / "authority.pem"
        authority = self._signed(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None), "tests")
        self.path.write_bytes(authority.public_bytes(serialization.Encoding.PEM))

    def server(self, name):
        """Return the TLS context of a server of this name."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signed = self._signed(subject, key, x509.BasicConstraints(ca=False, path_length=None), name)
        path = self._folder / f"{name}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _signed(self, subject, key, constraints, name):
        now = datetime.datetime.now(datetime.timezone.utc)
        day = datetime.timedelta(days=1)
        try:
            alternative = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            alternative = x509.DNSName(name)
        usage = {
            "digital_signature": True,
            "content_commitment": False,
            "key_encipherment": False,
            "data_encipherment": False,
            "key_agreement": False,
            "key_cert_sign": constraints.ca,
            "crl_sign": constraints.ca,
            "encipher_only": False,
            "decipher_only": False,
        }
        builder = x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - day).not_valid_after(now + day)
        builder = builder.add_extension(constraints, critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        )
        return builder.sign(self._key, hashes.SHA256())


@contextmanager
def proxying(upstream_port, certificates, *, tls=False, user=None, seen=None, name=API):
    """
    Be an HTTP proxy behind which the API is an emulator that speaks TLS; yield the port.

    :param upstream_port: port of the emulator.
    :param certificates: vouch for the API, and for the proxy if that speaks TLS.
    :param user: the user name and password that are wanted.
    :param seen: gets the head of each request.
    :param name: the name in the certificate of the API.
    """
    as_api, as_proxy = certificates.server(name), certificates.server("127.0.0.1")

    def serve(connection):
        if tls:
            connection = Layered(connection, as_proxy)
        head = read_request(connection)
        seen.append(head)
        if user and f"Basic {base64.b64encode(user.encode()).decode()}" not in head:
            connection.sendall(answer(b"who are you?", status="407 Proxy Authentication Required"))
            return
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        inner = Layered(connection, as_api)
        with socket.create_connection(("127.0.0.1", upstream_port)) as upstream:
            threading.Thread(target=pump, args=(upstream, inner), daemon=True).start()
            pump(inner, upstream)

    with listening(serve) as port:
        yield port


def pump(source, target):
    """Carry bytes until there are no more."""
    with suppress(OSError, ValueError):
        while data := source.recv(65_536):
            target.sendall(data)


class Layered:
    """The server's end of TLS over anything that has ``recv`` and ``sendall``, another one of these included."""

    def __init__(self, below, context):
        self._below, self._in, self._out = below, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._lock = threading.Lock()
        self._until_done(self._tls.do_handshake)

    def _until_done(self, step, *args):
        while True:
            with self._lock:
                try:
                    result, wants = step(*args), False
                except ssl.SSLWantReadError:
                    result, wants = b"", True
                except ssl.SSLError:
                    return b""
                if sent := self._out.read():
                    self._below.sendall(sent)
            if not wants:
                return result
            data = self._below.recv(65_536)
            with self._lock:
                self._in.write(data) if data else self._in.write_eof()

    def recv(self, size):
        """Return some bytes."""
        return self._until_done(self._tls.read, size)

    def sendall(self, data):
        """Send all bytes."""
        self._until_done(self._tls.write, data)
